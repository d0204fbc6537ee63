"""A thread for work that may wait, such as for the xtables lock; packets are judged meanwhile."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from tcpao.userspace.rules.interface import RulesError

Result = TypeVar('Result')
Outcome = Callable[[Any, RulesError | None], None]
"""Called with the result, or the reason of the failure, on the thread that settles."""

_END: Final = None


class Helper:
    """One thread that does one piece of work after the other."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Any], Outcome] | None] = SimpleQueue()
        self._done: deque[tuple[Outcome, Any, Exception | None]] = deque()
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.waiting = 0
        """Pieces of work that were begun and not settled."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to settle."""
        return self._woken

    def begin(self, work: Callable[[], Any], then: Outcome) -> None:
        """Start some work; `settle` calls `then` with its result."""
        self.waiting += 1
        self._work.put((work, then))

    def settle(self) -> None:
        """Report the results of finished work. Raises errors other than RulesError."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._woken)
        while self._done:
            then, result, error = self._done.popleft()
            self.waiting -= 1
            if error is not None and not isinstance(error, RulesError):
                raise error
            then(result, error)

    def call(self, work: Callable[[], Result]) -> Result:
        """Do some work and wait for its result, while there are no packets to judge.

        Raises its errors.
        """
        done = threading.Event()
        found: list[tuple[Any, BaseException | None]] = []

        def watched() -> None:
            try:
                found.append((work(), None))
            except BaseException as error:
                found.append((None, error))
            done.set()

        self._work.put((watched, lambda result, error: None))
        self.waiting += 1
        done.wait()
        ((result, error),) = found
        if error is not None:
            raise error
        answer: Result = result
        return answer

    def close(self) -> None:
        """End the thread once its work is done.

        The descriptor stays open, since the thread may write to it.
        """
        self._work.put(_END)

    def _run(self) -> None:
        while (job := self._work.get()) is not _END:
            work, then = job
            result, failure = None, None
            try:
                result = work()
            except Exception as error:
                failure = error
            self._done.append((then, result, failure))
            os.eventfd_write(self._woken, 1)

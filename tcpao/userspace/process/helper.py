"""A thread for what may wait for others: rules, of which the xtables lock is one program's at a
time. Packets are judged meanwhile.
"""

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
"""Told what the work returned, or why it failed; on the thread that settles."""

_END: Final = None


class Helper:
    """One thread, which does one piece of work after the other."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Any], Outcome] | None] = SimpleQueue()
        self._done: deque[tuple[Outcome, Any, Exception | None]] = deque()
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.waiting = 0
        """Pieces of work that were begun and not settled."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when there is something to settle."""
        return self._woken

    def begin(self, work: Callable[[], Any], then: Outcome) -> None:
        """Have work done; `settle` tells `then`."""
        self.waiting += 1
        self._work.put((work, then))

    def settle(self) -> None:
        """Tell what has become of work. Raises what is not a RulesError."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._woken)
        while self._done:
            then, result, error = self._done.popleft()
            self.waiting -= 1
            if error is not None and not isinstance(error, RulesError):
                raise error
            then(result, error)

    def call(self, work: Callable[[], Result]) -> Result:
        """What the work returns, and wait for it: while there are no packets to judge. Raises
        what it raises."""
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
        """End the thread, as soon as its work is done. The descriptor stays, which it may write."""
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

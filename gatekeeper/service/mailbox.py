"""Calls of other threads to the gatekeeper's thread, which executes them one after the other.

Not a pool: there is one thread, which waits on `fileno` among its other inputs. Once it has ended,
or where it never ran, every call is refused with the reason; no caller waits in vain.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

from gatekeeper.errors import GatekeeperError, PolicyError

CALL_WITHIN = 10.0
"""Seconds that another thread waits for this one to begin, which takes milliseconds; the rules of a
thousand new neighbors take longer than that."""

Result = TypeVar('Result')
Work = Callable[[float], None]
"""Executed on the gatekeeper's thread, with the current time."""


def wait_for(future: Future[Result]) -> Result:
    """Return the answer of the gatekeeper's thread. Raises PolicyError or GatekeeperError."""
    try:
        return future.result(CALL_WITHIN)
    except TimeoutError:
        if future.cancel():
            raise GatekeeperError('the gatekeeper does not answer') from None
    # It has begun and can't be cancelled: a load that is refused must have changed nothing.
    return future.result()


@dataclass(frozen=True, slots=True)
class _Call:
    """Work for the gatekeeper's thread, and a function to call if it will never be done."""

    run: Work
    refuse: Callable[[str], None]


class Mailbox:
    """Calls from any thread to one; `fileno`, `clear`, `take` and `end` are for that one."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Call] = SimpleQueue()
        self._lock = threading.Lock()
        """Guards the end of the thread against new calls."""
        self._ended = 'the gatekeeper is not running'
        self.alive = False
        """True while calls are accepted."""

    def open(self) -> None:
        """Make the descriptor. Raises OSError.

        It is never closed: another thread may be about to write to it.
        """
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def waiting(self) -> int:
        """Return the number of waiting calls."""
        return self._queue.qsize()

    # --- any thread -----------------------------------------------------------------------------

    def post(self, run: Work, refuse: Callable[[str], None] = lambda cause: None) -> None:
        """Add some work; `refuse` is called with the reason if it will never be done."""
        with self._lock:
            if self.alive:
                self._queue.put(_Call(run, refuse))
                os.eventfd_write(self._wake, 1)
                return
        refuse(self._ended)

    def ask(self, work: Callable[[float], Result]) -> Future[Result]:
        """Add some work; the future has its result, PolicyError or GatekeeperError."""
        future: Future[Result] = Future()

        def call(now: float) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work(now))
            except (PolicyError, GatekeeperError) as error:
                future.set_exception(error)
            except BaseException as error:
                future.set_exception(GatekeeperError(f'internal error: {error!r}'))
                raise

        def refuse(cause: str) -> None:
            if future.set_running_or_notify_cancel():
                future.set_exception(GatekeeperError(cause))

        self.post(call, refuse)
        return future

    def call(self, work: Callable[[float], Result]) -> Result:
        """Add some work, and return its result. Raises PolicyError or GatekeeperError."""
        return wait_for(self.ask(work))

    # --- the gatekeeper's thread ----------------------------------------------------------------

    def fileno(self) -> int:
        """Return a descriptor that is readable when calls wait."""
        return self._wake

    def clear(self) -> None:
        """Make the descriptor unreadable until the next call; before `take`."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def take(self) -> Iterator[Work]:
        """Yield waiting work, oldest first, including work that comes meanwhile."""
        with suppress(Empty):
            while True:
                yield self._queue.get_nowait().run

    def end(self, cause: str) -> None:
        """Refuse all waiting and future calls."""
        with self._lock:
            self.alive = False
            self._ended = cause
        with suppress(Empty):
            while True:
                self._queue.get_nowait().refuse(cause)


def without_thread(calls: Mailbox | None) -> None:
    """Mark the mailbox as dead in a forked child, which has no gatekeeper's thread."""
    if calls is not None:
        calls.alive = False

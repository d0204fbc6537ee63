"""Work that other threads have for the gatekeeper's: it is done there, one call after the other.

Not a pool: there is one thread, which waits on `fileno` among its other inputs. Once it has ended,
or where it never ran, every call is refused with the reason; nobody waits in vain.
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
"""Seconds that another thread waits for this one to begin, which takes milliseconds; the rules of
a thousand new neighbors take longer than that."""

Result = TypeVar('Result')
Work = Callable[[float], None]
"""Done on the gatekeeper's thread, which says what time it is."""


def wait_for(future: Future[Result]) -> Result:
    """Return what a question to the gatekeeper's thread was answered. Raises PolicyError or
    GatekeeperError."""
    try:
        return future.result(CALL_WITHIN)
    except TimeoutError:
        if future.cancel():
            raise GatekeeperError('the gatekeeper does not answer') from None
    # It has begun and can't be called off: a load that is refused must have changed nothing.
    return future.result()


@dataclass(frozen=True, slots=True)
class _Call:
    """Work for the gatekeeper's thread, and whom to tell if it will never be done."""

    run: Work
    refuse: Callable[[str], None]


class Mailbox:
    """From any thread to one; `fileno`, `clear`, `take` and `end` are for that one."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Call] = SimpleQueue()
        self._lock = threading.Lock()
        """Between the end of the thread and those who want something of it."""
        self._ended = 'the gatekeeper is not running'
        self.alive = False
        """Whether calls are taken."""

    def open(self) -> None:
        """Make the descriptor. It is never closed: another thread may be about to write to it.
        Raises OSError."""
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def waiting(self) -> int:
        """How many calls wait."""
        return self._queue.qsize()

    # --- any thread -----------------------------------------------------------------------------

    def post(self, run: Work, refuse: Callable[[str], None] = lambda cause: None) -> None:
        """Have work done; `refuse` is told why if it never will be."""
        with self._lock:
            if self.alive:
                self._queue.put(_Call(run, refuse))
                os.eventfd_write(self._wake, 1)
                return
        refuse(self._ended)

    def ask(self, work: Callable[[float], Result]) -> Future[Result]:
        """Have work done; the future has what it returns, PolicyError or GatekeeperError."""
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
        """Have work done, and wait for what it returns. Raises PolicyError or GatekeeperError."""
        return wait_for(self.ask(work))

    # --- the gatekeeper's thread ----------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when calls wait."""
        return self._wake

    def clear(self) -> None:
        """Not readable until the next call comes; before `take`."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def take(self) -> Iterator[Work]:
        """Work that waits, oldest first, with what comes meanwhile."""
        with suppress(Empty):
            while True:
                yield self._queue.get_nowait().run

    def end(self, cause: str) -> None:
        """Refuse what waits and what will come."""
        with self._lock:
            self.alive = False
            self._ended = cause
        with suppress(Empty):
            while True:
                self._queue.get_nowait().refuse(cause)

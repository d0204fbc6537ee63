"""The limit on the reactor's waits for the gatekeeper, which may wait for a packet process.

A daemon that starts has no session yet, and waits. A running daemon has neighbors, protected and
others, that must get their KEEPALIVE: a load waits for LONGEST in all, the rest goes on in later
turns, and answers to an operator always do. Only waiting counts, not the work in between: a large
file takes seconds to parse, and a load that has no time left after it would never be done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_any
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from exabgp.logger import log

from gatekeeper.errors import GatekeeperError
from gatekeeper.service.mailbox import CALL_WITHIN
from plugin.log import LOG

LONGEST: Final = 0.5
"""Seconds of waiting in a load, and at the end: with the shortest hold time, 3 s, a KEEPALIVE is
due every second."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A request, and the function to call when it is done."""

    future: Future[Any]
    finish: Callable[[], None]


class Waits:
    """The requests of the reactor's thread. For that thread alone."""

    def __init__(self) -> None:
        self._left: float | None = None
        self._waiting: list[_Waiting] = []

    @property
    def is_running(self) -> bool:
        """Return True once the daemon serves neighbors."""
        return self._left is not None

    def begin(self) -> None:
        """Begin a load of a running daemon, or its end."""
        self._left = LONGEST

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Count a wait against the limit; return the seconds that it may take."""
        if self._left is None:
            yield CALL_WITHIN
            return
        begun = time.monotonic()
        try:
            yield self._left
        finally:
            self._left = max(0.0, self._left - (time.monotonic() - begun))

    def is_over(self, future: Future[Any]) -> bool:
        """Wait for a future within the limit; return True if it is done."""
        with self.waiting() as within:
            return bool(wait_for_any([future], within).done)

    def finish(self, future: Future[Any], finish: Callable[[], None]) -> None:
        """Wait for a future within the limit, then call `finish`; if not done, in a later turn.

        Raises GatekeeperError, now; a later error goes into the log.
        """
        if self.is_over(future):
            future.result()
            finish()
        elif self.is_running:
            self.later(future, partial(_finish_late, future, finish))
        else:
            future.cancel()
            raise GatekeeperError('the gatekeeper does not answer')

    def later(self, future: Future[Any], finish: Callable[[], None]) -> None:
        """Call `finish` in a later turn, when the future is done or has failed."""
        self._waiting.append(_Waiting(future, finish))

    def settle(self) -> None:
        """Finish the requests that are done; called in each turn."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if one.future.done():
                one.finish()
            else:
                self._waiting.append(one)


def _finish_late(future: Future[Any], finish: Callable[[], None]) -> None:
    try:
        future.result()
        finish()
    except (GatekeeperError, OSError) as error:
        log.critical(lambda error=error: f'{error}; reload when that is mended', LOG)

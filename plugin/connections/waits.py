"""How long the reactor's thread waits for the gatekeeper's, which may wait for a packet process.

A daemon that starts has no session yet, and waits. One that runs has neighbors, protected and
other, that must have their KEEPALIVE: a load waits for LONGEST in all, what isn't done by then goes
on in later turns, and answers to an operator always do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_any
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from exabgp.logger import log

from gatekeeper.errors import GatekeeperError
from gatekeeper.service.mailbox import CALL_WITHIN
from plugin.log import LOG

LONGEST: Final = 0.5
"""Seconds of a load, and of the end: with the shortest hold time, 3 s, a KEEPALIVE is due every
second."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """Something that was asked for, and what is to be done when it is there."""

    future: Future[Any]
    finish: Callable[[], None]


class Waits:
    """What the reactor's thread has asked for. For that thread alone."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._waiting: list[_Waiting] = []

    @property
    def is_running(self) -> bool:
        """Return True once the daemon serves neighbors."""
        return self._until is not None

    def begin(self) -> None:
        """A daemon that runs begins a load, or its end."""
        self._until = time.monotonic() + LONGEST

    def left(self) -> float:
        """Return the seconds that may still be waited."""
        if self._until is None:
            return CALL_WITHIN
        return max(0.0, self._until - time.monotonic())

    def is_over(self, future: Future[Any]) -> bool:
        """Wait for this as long as may be; return True if it is done."""
        return bool(wait_for_any([future], self.left()).done)

    def finish(self, future: Future[Any], finish: Callable[[], None]) -> None:
        """Wait for this as long as may be, then call `finish`; in a later turn if it isn't done by
        then. Raises GatekeeperError, now; a later one is told in the log."""
        if self.is_over(future):
            future.result()
            finish()
        elif self.is_running:
            self.later(future, partial(_finish_late, future, finish))
        else:
            future.cancel()
            raise GatekeeperError('the gatekeeper does not answer')

    def later(self, future: Future[Any], finish: Callable[[], None]) -> None:
        """Call `finish` in a later turn, when this is done, well or not."""
        self._waiting.append(_Waiting(future, finish))

    def settle(self) -> None:
        """In each turn: finish what is done."""
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

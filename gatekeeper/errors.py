"""Errors of the gatekeeper that callers distinguish."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any


class GatekeeperError(Exception):
    """The gatekeeper can't do what was requested; the message says why and what to try."""


class BusyError(GatekeeperError):
    """The gatekeeper can't do it now, and nothing has changed: it waits for another process.

    Once `free` is done, the call may be repeated.
    """

    def __init__(self, free: Future[Any]) -> None:
        super().__init__('the gatekeeper is busy')
        self.free = free


class GateError(Exception):
    """The reason why there is no protected connection: neighbor, session, step, cause, what to try
    next.
    """


class PolicyError(ValueError):
    """A set of policies can't be served together; the message names the neighbor."""

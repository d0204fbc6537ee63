"""Errors of the gatekeeper that callers tell apart."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any


class GatekeeperError(Exception):
    """The gatekeeper can't do what was asked; the message says why and what to try."""


class BusyError(GatekeeperError):
    """The gatekeeper can't do now what was asked, and nothing has changed: it waits for somebody
    itself. Once `free` is done, asking again makes sense."""

    def __init__(self, free: Future[Any]) -> None:
        super().__init__('the gatekeeper is busy')
        self.free = free


class GateError(Exception):
    """Why there is no protected connection: neighbor, session, step, cause, what to try next."""


class PolicyError(ValueError):
    """A set of policies that can't be served together; the message names the neighbor."""

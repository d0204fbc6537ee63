"""Errors of the gatekeeper that callers tell apart."""

from __future__ import annotations


class GatekeeperError(Exception):
    """The gatekeeper can't do what was asked; the message says why and what to try."""


class GateError(Exception):
    """Why there is no protected connection: neighbor, session, step, cause, what to try next."""


class PolicyError(ValueError):
    """A set of policies that can't be served together; the message names the neighbor."""

"""The error that all verbs of the `gatekeeper` command raise."""

from __future__ import annotations


class ToolError(Exception):
    """The request can't be carried out; the message says why."""


ANY_OWNER = None
"""Owners of a private key file that a person names: the daemon accepts files of the user that it
becomes, whom a tool does not know, and only root can read another user's private file."""

"""What the verbs of the `gatekeeper` command have in common."""

from __future__ import annotations


class ToolError(Exception):
    """What was asked can't be done; the message says why."""


ANY_OWNER = None
"""Of a private key file that a person names: the daemon accepts files of the user that it becomes,
whom a tool does not know, and only root can read another user's private file."""

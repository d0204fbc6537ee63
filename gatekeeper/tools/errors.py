"""What the verbs of the `gatekeeper` command have in common."""

from __future__ import annotations


class ToolError(Exception):
    """What was asked can't be done; the message says why."""

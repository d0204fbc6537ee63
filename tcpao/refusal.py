"""A connection that a backend keeps out or ends: whose, and why. For operators; a kernel doesn't
tell."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tcpao.mkt import SocketPair


class Reason(StrEnum):
    """What was wrong with a SYN or the answer to one."""

    UNSIGNED = 'unsigned'
    """No TCP-AO where there has to be one."""
    UNKNOWN_KEY = 'unknown key'
    """Under a KeyID that nobody has there."""
    BAD_MAC = 'bad MAC'
    BYPASSED = 'bypassed'
    """Nothing was dropped: octets of the connection passed the backend by, and it was reset."""


@dataclass(frozen=True, slots=True)
class DroppedSyn:
    """A SYN, or the answer to one, that was dropped."""

    reason: Reason
    pair: SocketPair
    """Ours first."""
    key_id: int | None
    """Of its TCP-AO option; None without one."""
    is_answer: bool
    """It is a SYN-ACK: the connection is ours."""

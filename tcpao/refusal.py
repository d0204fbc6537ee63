"""A connection that a backend refuses or ends, and the reason.

For operators: a kernel reports none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tcpao.mkt import SocketPair


class Reason(StrEnum):
    """The fault of a SYN or of the answer to one."""

    UNSIGNED = 'unsigned'
    """No TCP-AO where it is required."""
    UNKNOWN_KEY = 'unknown key'
    """A KeyID that has no key."""
    BAD_MAC = 'bad MAC'
    BYPASSED = 'bypassed'
    """No packet was dropped: octets of the connection bypassed the backend, and it was reset."""


@dataclass(frozen=True, slots=True)
class DroppedSyn:
    """A SYN, or the answer to one, that was dropped."""

    reason: Reason
    pair: SocketPair
    """Our address and port first."""
    key_id: int | None
    """The KeyID of its TCP-AO option; None without one."""
    is_answer: bool
    """True for a SYN-ACK: the connection is ours."""

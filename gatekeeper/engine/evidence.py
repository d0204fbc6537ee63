"""Whether a socket's state proves anything: that segments were signed and verified, not only that
keys are there."""

from __future__ import annotations

from tcpao.installer import KeyState


def is_missing(seen: KeyState, *, opener: bool) -> bool:
    """Return True if the keys are there, but no segment shows that they were used.

    Without Current the handshake went another way. The peer's SYN-ACK is an opener's first good
    segment; on the other side a child has its key by a good handshake alone, and Linux begins its
    counters at 0 (tcp_ao_copy_key).
    """
    if not seen.keys:
        return False
    return seen.current is None or (opener and not any(key.good for key in seen.keys))

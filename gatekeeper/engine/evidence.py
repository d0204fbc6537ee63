"""Evidence in a socket's state: segments were signed and verified, the keys are not only
installed.
"""

from __future__ import annotations

from tcpao.installer import KeyState


def is_missing(seen: KeyState, *, opener: bool) -> bool:
    """Return True if keys are installed, but no segment shows that they were used.

    Without Current the handshake did not use TCP-AO. The peer's SYN-ACK is an opener's first good
    segment; on the other side a child has its key only after a good handshake, and Linux begins its
    counters at 0 (tcp_ao_copy_key).
    """
    if not seen.keys:
        return False
    return seen.current is None or (opener and not any(key.good for key in seen.keys))

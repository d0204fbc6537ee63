"""Limits and timers of the gatekeeper, our own choice, in seconds; no clock.

The hard lifetime is a promise; at the soft lifetime a successor is requested.
"""

from __future__ import annotations

LISTENER_HOLDS = 180.0
"""Until a responder removes an MKT that got no connection (a Linux SYN is retried for 127 s)."""
LOOK_BEFORE = 2.0
"""Before an attempt to connect ends, the socket's counters are read to see what happened to the
answers to our SYN."""
PROOF_WITHIN = 10.0
"""Limit on proving a connection."""
ABORT_WITHIN = 5.0
"""Limit on the daemon's closing of a connection that a new request replaces, and on the end of TCP
after a DELETE of a connection's only MKT."""
OLD_KEY_LINGERS = 60.0
"""After the answer to the DELETE of an MKT its ids stay for this time, and so does a key with a
long lifetime: segments may be in flight. See `lingers`."""
SHORTEST_WAIT = 0.25
"""Shortest wait between two attempts at a rekey, however near the hard lifetime is."""
SHORTEST_GRACE = 5.0
"""Shortest time for a rotation: several probes, one a second."""
CEASE_BEFORE = 5.0
"""The session gets its NOTIFICATION this long before the hard lifetime."""
MAX_CONNECTIONS = 127
"""Connections of one peer, live or pending, from which on no new one begins: the other half of the
KeyIDs is for rekeys. Closed connections don't count."""
RETRY_REMOVE = 1.0
READS = (0.2, 0.5, 1.0)
"""Waits between readings of a rotating connection; the last one repeats, like keepalive probes."""
OPENING_RETRY = 1.0
"""Wait before a request that the peer answered with TEMPORARY_FAILURE is repeated."""
REPROVE_WITHIN = 60.0
"""Limit on a peer's proof by a credential that has just been configured: the time that an operator
may need for both ends."""
REKEY_BACKOFF = (2.0, 60.0)
"""First and longest wait before the next attempt at a rekey."""
REKEY_UNANSWERED = 30.0
"""A rekey request unanswered for this time causes a new IKE SA at once; sooner where the gap
between soft and hard lifetime is short, see `rekey_patience`."""
IKE_BACKOFF = (1.0, 60.0)
"""First and longest wait before the next attempt at an IKE SA."""
TELLS_AGAIN = 10.0
"""Between two reports that sending fails in the same way. Forged ICMP errors can't cause more log
lines."""
MANUAL_RETRY = (60.0, 3600.0)
"""First and longest wait before a manual key with failed traffic is tried again: it is probably
wrong at one end until an operator corrects it."""
STALLED_READ = 60.0
"""Between readings of a connection whose peer has not followed to a manual key."""
CLOCK_TOLERANCE = 0.1
"""A smaller step of the UTC clock changes no keychain."""
POSTING_RETRY = 5.0
"""Wait before a manual key that a listening socket has refused is tried again."""
DOUBT_FOR = 3.0
"""Time for a connection to show a good segment after CHILD_SA_NOT_FOUND."""
SOFT_VOLUME = (0.75, 0.8)
"""The parts of a volume at which a successor is requested: by the side that began the last
exchange, and by the other one, so that the two sides rarely begin at once."""
VOLUME_READS = (1.0, 10.0)
"""Shortest and longest wait between readings of how much a key has protected."""
SPENT_FOR = 30.0
"""From a spent volume to the end of the key: a burst may spend it between two readings, and a
successor takes a moment."""
LIVENESS_AT = 0.7
"""The part of the soft lifetime after which the IKE SA's liveness is checked, before it is
needed."""


def lingers(hard: float) -> float:
    """Return seconds from the answered DELETE of a replaced key to its removal.

    A tenth of its lifetime, 60 s at most. No side signs with the key any more; TCP repeats a later
    segment.
    """
    return min(OLD_KEY_LINGERS, 0.1 * hard)


def rekey_gap(hard: float) -> float:
    """Return the seconds between soft and hard lifetime, without jitter.

    A quarter of the lifetime is for an IKE outage, 35 s are for the steps after it: retransmission,
    a new IKE SA, the rotation, and the NOTIFICATION 5 s before the end. The gap grows with the
    lifetime, so a longer lifetime is never less safe than a shorter one.
    """
    return min(hard / 2, hard / 4 + 35.0)


def soft_lifetime(hard: float, fraction: float, *, began_last: bool) -> float:
    """Return the seconds from installation to the rekey.

    Jitter enlarges the gap by up to a tenth of the lifetime, to half of the lifetime at most:
    `fraction` in [0, 1] is its share. The side that began the last exchange takes the earlier half,
    so that the two sides rarely begin at once.
    """
    jitter = _room(hard) * (0.5 + fraction / 2 if began_last else fraction / 2)
    return hard - rekey_gap(hard) - jitter


def _room(hard: float) -> float:
    return min(0.1 * hard, hard / 2 - rekey_gap(hard))


def head_start(hard: float) -> float:
    """Return the seconds by which the other side may begin a rekey before we do.

    They replace jitter where the gap leaves no room for it.
    """
    return (0.1 * hard - _room(hard)) / 3


def rekey_patience(hard: float) -> float:
    """Return the seconds without an answer to a rekey request after which a new IKE SA is made."""
    return min(REKEY_UNANSWERED, rekey_gap(hard) / 4)


def wait_before(end: float, now: float) -> float:
    """Return the longest wait, in seconds, of a rekey that must be done by `end`.

    Waits shrink with the remaining time: after the end of an outage, most of that time is left.
    """
    return max(SHORTEST_WAIT, (end - now) / 8)


def backoff(bounds: tuple[float, float], attempt: int, fraction: float) -> float:
    """Return a wait that doubles from the first bound to the second, less up to a quarter of
    jitter.
    """
    first, longest = bounds
    wait = min(longest, first * 2.0 ** min(attempt, 16))
    return wait * (1 - fraction / 4)

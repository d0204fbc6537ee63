"""How long things last. Limits and timers that are ours, in seconds; no clock.

The hard lifetime is a promise; the soft one is when a successor is asked for.
"""

from __future__ import annotations

LISTENER_HOLDS = 180.0
"""A responder removes an MKT that got no connection (a Linux SYN is retried for 127 s)."""
LOOK_BEFORE = 2.0
"""Before an attempt to connect ends: the socket's counters are read for what became of the answers
to our SYN."""
PROOF_WITHIN = 10.0
"""Bound on proving a connection."""
ABORT_WITHIN = 5.0
"""Bound on the daemon closing a connection that a new request replaces, and on TCP saying the
same as a DELETE of a connection's only MKT."""
OLD_KEY_LINGERS = 60.0
"""After the DELETE of an MKT was answered its ids stay, and so does a key that lived for long:
segments may be in flight. See `lingers`."""
SHORTEST_WAIT = 0.25
"""Between two tries of a rekey, however near the hard lifetime is."""
SHORTEST_GRACE = 5.0
"""A rotation has so long at least: several probes, which go once a second."""
CEASE_BEFORE = 5.0
"""The session gets its NOTIFICATION this long before the hard lifetime."""
MAX_CONNECTIONS = 127
"""Connections of one peer, live or pending, from which on no new one is begun: the other half of
the KeyIDs is for rekeys. What has closed counts no more."""
RETRY_REMOVE = 1.0
READS = (0.2, 0.5, 1.0)
"""Waits between looks at a rotating connection; the last one repeats, as keepalive probes do."""
OPENING_RETRY = 1.0
"""Before a request that the peer answered with TEMPORARY_FAILURE is repeated."""
REPROVE_WITHIN = 60.0
"""Bound on a peer's proof by a credential that has just been configured: as long as an operator
may take for both ends."""
REKEY_BACKOFF = (2.0, 60.0)
"""First and longest wait before a rekey is tried again."""
REKEY_UNANSWERED = 30.0
"""A rekey request unanswered for so long means a new IKE SA at once; sooner where the gap between
soft and hard lifetime is short, see `rekey_patience`."""
IKE_BACKOFF = (1.0, 60.0)
"""First and longest wait before an IKE SA is tried again."""
TELLS_AGAIN = 10.0
"""Between two notes that sending fails in the same way: it lasts. Who forges ICMP errors can't have
us write more."""
MANUAL_RETRY = (60.0, 3600.0)
"""First and longest wait before a manual key under which traffic failed is tried again: it is
wrong at one end, most likely, until somebody mends it."""
STALLED_READ = 60.0
"""Between looks at a connection whose peer has not followed to a manual key."""
CLOCK_TOLERANCE = 0.1
"""A smaller step of the UTC clock changes no keychain."""
POSTING_RETRY = 5.0
"""Before a manual key that a listening socket has refused is tried again."""
DOUBT_FOR = 3.0
"""After CHILD_SA_NOT_FOUND a connection has this long to show a good segment."""
LIVENESS_AT = 0.7
"""Of the soft lifetime: the IKE SA is asked whether it lives, before it is needed."""


def lingers(hard: float) -> float:
    """Seconds from the answered DELETE of a replaced key to its removal: a tenth of its lifetime,
    60 s at most. Nobody signs under it any more; a segment that comes later is sent again."""
    return min(OLD_KEY_LINGERS, 0.1 * hard)


def rekey_gap(hard: float) -> float:
    """Return the seconds between soft and hard lifetime, without jitter.

    A quarter of the lifetime is for an IKE outage, 35 s are for what follows it: retransmission, a
    new IKE SA, the rotation, and the NOTIFICATION 5 s before the end. It grows with the lifetime,
    so a longer one is never less safe than a shorter one.
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

    It takes the place of jitter where the gap leaves no room for any.
    """
    return (0.1 * hard - _room(hard)) / 3


def rekey_patience(hard: float) -> float:
    """Return the seconds of silence in answer to a rekey request that mean a new IKE SA."""
    return min(REKEY_UNANSWERED, rekey_gap(hard) / 4)


def wait_before(end: float, now: float) -> float:
    """Return the longest wait, in seconds, that a rekey may take when it must be done by `end`.

    Waits shrink with the time that is left: whenever an outage ends, most of it is still there.
    """
    return max(SHORTEST_WAIT, (end - now) / 8)


def backoff(bounds: tuple[float, float], attempt: int, fraction: float) -> float:
    """Doubling from the first bound to the second, less up to a quarter of jitter."""
    first, longest = bounds
    wait = min(longest, first * 2.0 ** min(attempt, 16))
    return wait * (1 - fraction / 4)

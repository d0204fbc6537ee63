"""Our own limits and timers: nothing here is the protocol's, any of it may be changed.

Times are in seconds. The numbers of the protocol are in constants.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What an endpoint allows itself and others."""

    retransmit_first: float = 0.5
    """A request is repeated after this long; each further wait is twice the last one."""
    retransmit_longest: float = 8.0
    retransmit_jitter: float = 0.2
    """Every wait is longer or shorter by up to this part of it."""
    repeat_interval: float = 0.25
    """Our user may have requests repeated out of turn, where time is short, but not oftener."""
    give_up: float = 30.0
    """A request without an answer has failed (RFC 7296, 2.4); the IKE SA with it."""

    unproven_refusal: float = 10.0
    """A refusal in IKE_SA_INIT may be forged: how long to go on asking (RFC 7296, 2.21.1)."""
    init_retries: int = 8
    """Of one IKE_SA_INIT, for COOKIE and INVALID_KE_PAYLOAD together, at once, within
    `init_retries_within` seconds. Shuts out? No: later ones wait for the next retransmission."""
    init_retries_within: float = 16.0
    init_answers: int = 64
    """Answers to one IKE_SA_INIT that are tried with IKE_AUTH at a time, since all but one may be
    forged. Shuts out? No: the one that has waited longest gives way, and comes again with its next
    repetition. An honest peer answers within a round trip; see also `unproven_share`."""
    auth_repetitions_per_second: int = 6
    """Repetitions of IKE_AUTH requests per peer: each forged answer that is tried has one to
    repeat. Shuts out? No: the next repetition is later."""
    unproven_failure: float = 0.5
    """A failed IKE_AUTH may be the end of a forged answer: how long the true one may still come."""

    half_open_lifetime: float = 30.0
    """Responder: IKE_AUTH must follow IKE_SA_INIT within this time."""
    half_open_before_cookies: int = 4
    """Half-open IKE SAs per peer from which a cookie is asked for (RFC 7296, 2.6)."""
    half_open_most: int = 128
    """Half-open IKE SAs per peer. Shuts out? No: the oldest gives way. An honest handshake needs a
    round trip, and `unproven_share` allows a few hundred a second: time enough."""
    half_open_total: int = 256
    """Half-open IKE SAs of all peers from which everybody is asked for a cookie. Shuts out? No:
    the true peer has a cookie one round trip later."""
    half_open_in_all: int = 4096
    """Half-open IKE SAs of all peers that are kept. Shuts out? No: the oldest gives way."""
    cookie_secret_lifetime: float = 60.0
    cookie_answer: int = 3
    """An IKE_SA_INIT whose answer is longer than so many times itself is asked for a cookie: who
    forges a source address gains little by us. Shuts out? No: a cookie costs a round trip."""
    unproven_share: float = 0.1
    """CPU seconds per second for those who claim to be one peer and haven't proven it: responders'
    and initiators' key exchanges, what is read and verified in IKE_AUTH. What a peer has cost that
    then proves itself is given back. Shuts out? Not for long: who only forges addresses can't get
    at the half that is for cookies; who sees the peer's packets competes with the peer's
    repetitions for each moment's share, and no longer than it goes on."""
    unproven_size: float = 0.2
    """CPU seconds that are kept for it: half of them without a cookie."""
    unproven_share_in_all: float = 0.25
    """The same for all peers together: rekeys on the same thread wait no longer. Shuts out? Only
    while three peers' packets are seen and answered by attackers at the same time."""
    unproven_size_in_all: float = 0.4
    repetitions_per_second: int = 6
    """Repetitions of one answer (RFC 7296, 2.1): a recorded request, sent again from a forged
    address, makes us talk to its true owner. Shuts out? No: honest repetitions come every quarter
    of a second at most."""
    established_most: int = 16
    """IKE SAs per peer, with those that it has rekeyed and not deleted: a peer that rekeys without
    end must cost no more for each. Shuts out? No: the oldest goes when one more comes up."""

    child_requests: int = 256
    """CREATE_CHILD_SA requests per peer and `child_requests_within`; more get TEMPORARY_FAILURE.
    Room for all sessions that one peer can have to begin together, twice: each costs about a
    millisecond, and the peer has proven who it is. Shuts out? Nobody but the authenticated peer can
    use it up, and that repeats its request."""
    child_requests_within: float = 10.0
    unprotected_errors_per_second: int = 10
    """Error answers per peer to messages that prove nothing (RFC 7296, 2.21.4). Shuts out? No: a
    peer that gets none learns by its own time-out, and cookies and INVALID_KE_PAYLOAD, which a
    good exchange needs, aren't among them."""
    unproven_told_per_second: int = 20
    """Events per peer about messages before it has proven itself, and as many about strangers that
    failed: a timeline has them, and a flood must not fill a disk. Shuts out? Nobody: the messages
    are served all the same, and a peer that goes on failing is told of in the next second."""
    hint_interval: float = 10.0
    """INVALID_IKE_SPI without protection makes us ask whether the peer lives, but not oftener.
    Shuts out? No: a forged hint takes the place of a true one, and sets off the same question."""
    follow_up: float = 20.0
    """The next IKE_FOLLOWUP_KE must come within this time (RFC 9370, 2.2.4 has 5 to 20 s)."""
    follow_ups_most: int = 4
    """CREATE_CHILD_SA of one IKE SA that wait for IKE_FOLLOWUP_KE. Shuts out? No: they are the
    authenticated peer's own, and the oldest gives way."""
    group_retries: int = 3
    """CREATE_CHILD_SA requests repeated for INVALID_KE_PAYLOAD. Shuts out? Only a peer that names a
    new group each time: the answers are authentic."""

    fragment_ipv4: int = 1280
    """Octets of an IP datagram from which a message goes in fragments (RFC 7383, 2.5.1). More than
    the 576 recommended for IPv4: where BGP runs links carry IPv6 too, and every fragment more is
    one more to lose."""
    fragment_ipv6: int = 1280
    fragments_most: int = 100
    """Of one message; and, in octets, what it may hold when put together. Shuts out? No: only
    authentic fragments are kept, per IKE SA and direction, so a stranger fills nobody's place."""
    reassembled_most: int = 48 * 1024
    reassembly: float = 30.0
    """An incomplete request is forgotten after this long."""

    redundant_idle: float = 3.0
    """One of two IKE SAs goes when both have been silent this long."""
    linger: float = 40.0
    """A closed IKE SA still repeats its last answer, longer than a peer of ours asks for it."""
    replaced_lifetime: float = 30.0
    """A rekeyed IKE SA that its peer hasn't deleted by then is deleted by us."""
    rekey_jitter: float = 0.1
    """An IKE SA is rekeyed earlier by up to this part of its lifetime."""
    rekey_margin: float = 0.1
    """And at the latest this part of its lifetime before the end."""
    rekey_retry: float = 10.0
    reauthentication_retry: float = 60.0


KeyLog = Callable[[str], None]


"""Takes a line without its end. THE LINE IS SECRET."""

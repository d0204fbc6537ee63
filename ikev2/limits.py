"""Limits and timers of our own choice: none is the protocol's, each may be changed.

Times are in seconds. The numbers of the protocol are in constants.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that an endpoint sets itself and its peers."""

    retransmit_first: float = 0.5
    """Seconds until a request is repeated; each further wait is twice the last one."""
    retransmit_longest: float = 8.0
    retransmit_jitter: float = 0.2
    """Every wait is longer or shorter by up to this part of its length."""
    repeat_interval: float = 0.25
    """Our user may ask for early repetitions of requests, but none sooner than this after the
    last."""
    give_up: float = 30.0
    """Seconds until a request without an answer has failed (RFC 7296, 2.4), and the IKE SA with
    it."""

    unproven_refusal: float = 10.0
    """Seconds to go on asking after a refusal in IKE_SA_INIT, which may be forged (RFC 7296,
    2.21.1)."""
    init_retries: int = 8
    """Immediate repetitions of one IKE_SA_INIT within `init_retries_within` seconds, for COOKIE and
    INVALID_KE_PAYLOAD together. Shuts no peer out: later ones wait for the next retransmission."""
    init_retries_within: float = 16.0
    init_answers: int = 64
    """Answers to one IKE_SA_INIT that are tried with IKE_AUTH at a time, since all but one may be
    forged. Shuts no peer out: the one that has waited longest is dropped, and is tried after its
    next repetition. An honest peer answers within a round trip; see also `unproven_share`."""
    auth_repetitions_per_second: int = 6
    """Repetitions of IKE_AUTH requests per peer: each forged answer that is tried has one to
    repeat. Shuts no peer out: the next repetition is later."""
    unproven_failure: float = 0.5
    """Seconds in which the true answer may still come after IKE_AUTH has failed: the failed one may
    have followed a forged answer."""

    half_open_lifetime: float = 30.0
    """As responder: IKE_AUTH must follow IKE_SA_INIT within this time."""
    half_open_before_cookies: int = 4
    """Half-open IKE SAs per peer from which on a cookie is asked for (RFC 7296, 2.6)."""
    half_open_most: int = 128
    """Half-open IKE SAs per peer. Shuts no peer out: the oldest is dropped. An honest handshake
    needs one round trip, and `unproven_share` allows a few hundred a second: time enough."""
    half_open_total: int = 256
    """Half-open IKE SAs of all peers from which on every initiator is asked for a cookie. Shuts
    no peer out: the true peer has a cookie one round trip later."""
    half_open_in_all: int = 4096
    """Half-open IKE SAs of all peers that are kept. Shuts no peer out: the oldest is dropped."""
    cookie_secret_lifetime: float = 60.0
    cookie_answer: int = 3
    """A cookie is asked for where the answer to an IKE_SA_INIT would be longer than so many times
    the request: an attacker who forges a source address gains little amplification. Shuts no peer
    out: a cookie costs one round trip."""
    unproven_share: float = 0.1
    """CPU seconds per second for messages that claim to be from one peer before that peer is
    authenticated: key exchanges as responder and as initiator, reading and verifying IKE_AUTH. The
    cost of a peer that then authenticates is given back. Shuts out for a time only: an attacker who
    forges addresses cannot use the half that is reserved for cookies; an attacker who sees the
    peer's packets competes with the peer's repetitions for each moment's share, and only while the
    attack goes on."""
    unproven_size: float = 0.2
    """CPU seconds that are saved up for that share: half of them without a cookie."""
    unproven_share_in_all: float = 0.25
    """The same share for all peers together, so that rekeys on the same thread need not wait
    longer. Shuts out only while attackers see and answer three peers' packets at the same time."""
    unproven_size_in_all: float = 0.4
    repetitions_per_second: int = 6
    """Repetitions of one answer (RFC 7296, 2.1): a recorded request, sent again from a forged
    address, makes us send to the owner of that address. Shuts no peer out: honest repetitions come
    every quarter of a second at most."""
    established_most: int = 16
    """IKE SAs per peer, including those that the peer has rekeyed and not deleted: a peer that
    rekeys without end must not cost more each time. Shuts no peer out: the oldest is closed when
    another one comes up."""

    child_requests: int = 256
    """CREATE_CHILD_SA requests per peer and `child_requests_within`; more get TEMPORARY_FAILURE.
    Twice the number of sessions that one peer can have begin together: each costs about a
    millisecond, and the peer is authenticated. Shuts no other peer out: only the authenticated peer
    can use this limit up, and that peer repeats its request."""
    child_requests_within: float = 10.0
    unprotected_errors_per_second: int = 10
    """Error answers per peer to messages that prove nothing (RFC 7296, 2.21.4). Shuts no peer out:
    a peer that gets no error learns by its own time-out; cookies and INVALID_KE_PAYLOAD, which a
    good exchange needs, are not counted."""
    unproven_told_per_second: int = 20
    """Events per peer about messages before the peer is authenticated, and as many about unknown
    peers that failed: events go to a timeline, and a flood must not fill a disk. Shuts no peer out:
    the messages are served all the same, and a peer that goes on failing is reported in the next
    second."""
    hint_interval: float = 10.0
    """Seconds between liveness checks after an unprotected INVALID_IKE_SPI. Shuts no peer out: a
    forged hint takes the place of a true one, and starts the same check."""
    follow_up: float = 20.0
    """The next IKE_FOLLOWUP_KE must come within this time (RFC 9370, 2.2.4 has 5 to 20 s)."""
    follow_ups_most: int = 4
    """CREATE_CHILD_SA exchanges of one IKE SA that wait for IKE_FOLLOWUP_KE. Shuts no peer out:
    they are the authenticated peer's own, and the oldest is dropped."""
    group_retries: int = 3
    """CREATE_CHILD_SA requests repeated for INVALID_KE_PAYLOAD. Shuts out only a peer that names a
    new group each time: the answers are authentic."""

    fragment_ipv4: int = 1280
    """Octets of an IP datagram above which a message is sent in fragments (RFC 7383, 2.5.1). More
    than the 576 recommended for IPv4: links that carry BGP carry IPv6 too, and every additional
    fragment is one more that can be lost."""
    fragment_ipv6: int = 1280
    fragments_most: int = 100
    """Fragments of one message; the next limit is the octets of the assembled message. Shuts no
    peer out: only authentic fragments are kept, per IKE SA and direction, so an attacker fills no
    place."""
    reassembled_most: int = 48 * 1024
    reassembly: float = 30.0
    """Seconds until an incomplete request is forgotten."""

    redundant_idle: float = 3.0
    """Seconds of silence on both of two IKE SAs with one peer until one of them is closed."""
    linger: float = 40.0
    """Seconds in which a closed IKE SA still repeats its last answer: longer than a peer with our
    limits asks for it."""
    replaced_lifetime: float = 30.0
    """Seconds until we delete a rekeyed IKE SA that its peer has not deleted."""
    rekey_jitter: float = 0.1
    """An IKE SA is rekeyed earlier by up to this part of its lifetime."""
    rekey_margin: float = 0.1
    """An IKE SA is rekeyed at the latest this part of its lifetime before the end."""
    rekey_retry: float = 10.0
    reauthentication_retry: float = 60.0


KeyLog = Callable[[str], None]


"""Consumer of one line without its line end. THE LINE IS SECRET."""

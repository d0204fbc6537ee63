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
    """Of one IKE_SA_INIT, for COOKIE and INVALID_KE_PAYLOAD together, at once. Later ones wait for
    the next retransmission: forged demands may neither make us talk nor silence us."""
    init_answers: int = 8
    """Answers to one IKE_SA_INIT that are tried with IKE_AUTH, since all but one may be forged."""
    init_answer_key_exchanges: int = 20
    """Key exchanges per peer and second for answers to our IKE_SA_INIT, also for those that fail;
    what comes beyond is dropped. No number in all: that would shut out the true answer."""
    unproven_failure: float = 0.5
    """A failed IKE_AUTH may be the end of a forged answer: how long the true one may still come."""

    half_open_lifetime: float = 30.0
    """Responder: IKE_AUTH must follow IKE_SA_INIT within this time."""
    half_open_before_cookies: int = 4
    """Half-open IKE SAs per peer from which a cookie is asked for (RFC 7296, 2.6)."""
    half_open_most: int = 32
    """Half-open IKE SAs per peer; further IKE_SA_INIT requests are dropped."""
    half_open_total: int = 256
    """Half-open IKE SAs of all peers from which everybody is asked for a cookie."""
    cookie_secret_lifetime: float = 60.0
    key_exchanges_before_cookies: int = 10
    """IKE_SA_INIT key exchanges per peer and second from which a cookie is asked for."""
    key_exchanges_with_cookie: int = 30
    """Those of initiators with a cookie, per peer and second; more are dropped."""
    established_most: int = 16
    """IKE SAs per peer: the oldest goes when one more is authenticated."""

    child_requests_per_second: int = 10
    """CREATE_CHILD_SA requests per peer; more get TEMPORARY_FAILURE."""
    unprotected_errors_per_second: int = 10
    """Error answers per peer to messages that prove nothing (RFC 7296, 2.21.4)."""
    hint_interval: float = 10.0
    """INVALID_IKE_SPI without protection makes us ask whether the peer lives, but not oftener."""
    follow_up: float = 20.0
    """The next IKE_FOLLOWUP_KE must come within this time (RFC 9370, 2.2.4 has 5 to 20 s)."""
    follow_ups_most: int = 4
    """CREATE_CHILD_SA of one IKE SA that wait for IKE_FOLLOWUP_KE."""
    group_retries: int = 3
    """CREATE_CHILD_SA requests repeated for INVALID_KE_PAYLOAD."""

    fragment_ipv4: int = 1280
    """Octets of an IP datagram from which a message goes in fragments (RFC 7383, 2.5.1). More than
    the 576 recommended for IPv4: where BGP runs links carry IPv6 too, and every fragment more is
    one more to lose."""
    fragment_ipv6: int = 1280
    fragments_most: int = 100
    """Of one message; and, in octets, what it may hold when put together."""
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

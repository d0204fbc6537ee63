"""Data exchanged between the IKEv2 endpoint and its user: requests, offers, outcomes.

Data only. "Exchange" numbers are the endpoint's own, one for each request of its user; "token"
numbers stand for a peer's request that waits for our answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from ikev2.wire.payloads_ts import Selector as Selector
from ikev2.wire.words import describe, exchange_name
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.authentication.proof import Proof
    from ikev2.wire.payload import Payload

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram. `data` has no non-ESP marker: the UDP adapter adds and removes it."""

    data: bytes
    local: IPAddress
    local_port: int
    remote: IPAddress
    remote_port: int


@dataclass(frozen=True, slots=True)
class SendFailure:
    """A datagram that the kernel refused to send, or that an ICMP error reports as not
    delivered.
    """

    remote: IPAddress
    text: str
    from_icmp: bool
    """True if ICMP reported the failure: anyone may have forged it (RFC 7296, 2.4), so it is only a
    hint."""
    is_port_closed: bool = False
    """True if ICMP reports that the datagram reached the host, but that its port is closed."""


class Cause(StrEnum):
    """Cause of the failure of an IKE SA or an exchange, for an operator."""

    NO_ANSWER = 'no IKE answer'
    AUTHENTICATION_FAILED = 'authentication failed'
    UNKNOWN_IDENTITY = 'peer identity is not the configured one'
    NO_PROPOSAL_CHOSEN = 'no acceptable proposal'
    NO_PROFILE = "peer doesn't speak this profile"
    NAT = 'a NAT was found on the path'
    REFUSED = 'refused by the peer'
    """A notify of an error type that has no cause of its own here; see `notify`."""
    MALFORMED = 'malformed answer'
    SELECTORS_CHANGED = 'the answer changed the traffic selectors'
    PROOF_ENDED = "the peer's proof of its identity does not hold any more"
    IKE_SA_LOST = 'the IKE SA was lost'
    CANCELLED = 'cancelled'
    DELETED = 'deleted by the peer'
    STOPPED = 'the endpoint was stopped'


# --- routing-protocol SAs -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RpSaRequest:
    """A routing-protocol SA that we ask for, new or (with `rekey_spi`) as a successor."""

    keyid: int
    """Our SendID for the RP SA: the SPI of our proposals."""
    suites: tuple[str, ...]
    """Names of ikev2.constants.RP_SUITES, the most preferred first."""
    tcp_options: bool
    tsi: Selector
    tsr: Selector
    session_id: bytes | None
    """Octets of the SESSION_ID notify; None in a rekey."""
    lifetime: int
    """MKT_LIFETIME, seconds."""
    rekey_keyid: int | None = None
    """REKEY_SA: our SendID of the MKT to be replaced; None for a new MKT."""
    keyids_in_use: tuple[int, ...] = ()
    """KEYID_IN_USE: SendIDs of the peer that we cannot accept as RecvIDs."""


@dataclass(frozen=True, slots=True)
class RpSaOffer:
    """A routing-protocol SA that the peer asks for."""

    keyid: int
    """The peer's SendID."""
    tsi: Selector
    tsr: Selector
    session_id: bytes | None
    lifetime: int | None
    rekey_keyid: int | None
    """REKEY_SA: the peer's SendID (our RecvID) of the MKT to be replaced."""
    keyids_in_use: tuple[int, ...]
    """Our SendIDs that the peer cannot accept."""
    proposals: tuple[tuple[str, bool], ...]
    """(suite name, TCP options covered) pairs on offer, in the peer's order."""


@dataclass(frozen=True, slots=True)
class RpSaKeys:
    """A negotiated routing-protocol SA."""

    suite: str
    tcp_options: bool
    send_id: int
    recv_id: int
    master_key: Secret
    lifetime: int | None
    """Seconds, as the peer sent it; None if it sent none."""
    lowest_nonce: bytes
    """The lower of Ni and Nr: which of two crossing rekeys stays (RFC 7296 2.8.1)."""
    proof: Proof
    """The proof of the IKE SA under which this RP SA was negotiated."""

    @property
    def authenticated(self) -> float:
        """Return `now` of the IKE_AUTH of the proof, which InitialContact is compared with."""
        return self.proof.authenticated


# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IkeMessage:
    """A message of an exchange that was sent or received: for the operator's timeline only."""

    peer: str
    exchange_type: int
    sent: bool
    response: bool
    payloads: tuple[Payload, ...] = field(repr=False)
    """For a probe, which reports their contents. An AUTH by a pre-shared key must not be printed:
    weak keys can be guessed from it."""

    @property
    def exchange(self) -> str:
        """Return `IKE_SA_INIT`, `IKE_AUTH`, `CREATE_CHILD_SA` or `INFORMATIONAL`."""
        return exchange_name(self.exchange_type)

    @property
    def detail(self) -> str:
        """Return the payloads in words; computed at use only, since most messages are never
        shown.
        """
        return describe(self.payloads)


@dataclass(frozen=True, slots=True)
class IkeSaUp:
    """An IKE SA to the peer is authenticated."""

    peer: str
    initiator: bool
    profile: bool
    """False if the peer sent no Vendor ID of this profile."""
    nat: bool
    spis: str
    """Both IKE SPIs in hex, for `show` and logs."""
    suite: str
    """The IKE suite in words."""
    peer_id: str
    proof: Proof
    """The peer's proof of its identity; rekeys of this IKE SA inherit it."""


@dataclass(frozen=True, slots=True)
class IkeSaDown:
    """The last IKE SA to the peer has ended. MKTs stay."""

    peer: str
    cause: Cause
    text: str = ''


@dataclass(frozen=True, slots=True)
class IkeSaDistrusted:
    """The proof of an IKE SA does not hold any more, and the IKE SA was closed. Others stay."""

    peer: str
    spis: str
    text: str


@dataclass(frozen=True, slots=True)
class IkeSaFailed:
    """An attempt to make an IKE SA failed. The endpoint does not retry by itself."""

    peer: str
    step: str
    cause: Cause
    text: str


@dataclass(frozen=True, slots=True)
class InitialContact:
    """The peer reports that all its connections from before this IKE SA have ended."""

    peer: str
    before: float
    """`now` of this IKE SA's IKE_SA_INIT: MKTs of IKE SAs that were authenticated earlier are
    invalid, however new the MKTs are; others stay."""


@dataclass(frozen=True, slots=True)
class RpSaRequested:
    """The peer asks for an RP SA: call `prepare` then `answer`, or `refuse`.

    If `prepare` returns no keys yet, RpSaPrepared or RpSaAbandoned comes in between.
    """

    token: int
    peer: str
    offer: RpSaOffer


@dataclass(frozen=True, slots=True)
class RpSaPrepared:
    """The keys that `prepare` could not return yet are ready: install, then `answer` or
    `refuse`.
    """

    token: int
    peer: str
    keys: RpSaKeys


@dataclass(frozen=True, slots=True)
class RpSaAbandoned:
    """The peer never completed a prepared request, or can't be answered any more.

    The token is not valid from now on.
    """

    token: int
    peer: str


@dataclass(frozen=True, slots=True)
class RpSaNegotiated:
    """Our request was answered."""

    exchange: int
    peer: str
    keys: RpSaKeys


@dataclass(frozen=True, slots=True)
class RpSaFailed:
    """Our request failed and left nothing at the peer (or a Delete was sent for it)."""

    exchange: int
    peer: str
    cause: Cause
    notify: int | None
    """The type of the error notify, if the peer sent one."""
    data: bytes
    """The notification data of that notify."""
    text: str


@dataclass(frozen=True, slots=True)
class KeysDeleted:
    """The peer deletes MKTs: its SendIDs, our RecvIDs. Call `answer_delete`."""

    token: int
    peer: str
    recv_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeleteAnswered:
    """Our DELETE was answered, or (`answered` False) never will be."""

    exchange: int
    peer: str
    answered: bool


@dataclass(frozen=True, slots=True)
class UnknownSource:
    """IKE_SA_INIT came from an address that no peer has; nothing was answered."""

    local: IPAddress
    remote: IPAddress
    """The source address of the datagram, which anyone may have forged."""


Event = (
    IkeMessage
    | UnknownSource
    | IkeSaUp
    | IkeSaDown
    | IkeSaDistrusted
    | IkeSaFailed
    | InitialContact
    | RpSaRequested
    | RpSaPrepared
    | RpSaAbandoned
    | RpSaNegotiated
    | RpSaFailed
    | KeysDeleted
    | DeleteAnswered
)


Datagrams = tuple[bytes, ...]


"""The datagrams of one message: one, unless it is fragmented (RFC 7383)."""

"""State that all modules of one endpoint share: timers, outgoing datagrams and events, IKE SAs by
SPI.

No decisions here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ikev2.budget import Budget
from ikev2.cookies import CookieJar
from ikev2.events import Datagram, Datagrams, Event, IPAddress
from ikev2.limits import KeyLog, Limits
from ikev2.timers import Timers

if TYPE_CHECKING:
    from ikev2.exchanges.ike_init_initiator import Attempt
    from ikev2.exchanges.rp_pending import Pending
    from ikev2.sa.ike_sa import IkeSa
    from ikev2.wire.message import Message

    Server = Callable[[IkeSa, Message, float], None]

NON_ESP_MARKER = bytes(4)  # RFC 7296, 2.23
SPI_LENGTH = 8
NONCE_LENGTH = 32  # RFC 7296, 2.10: at least half the PRF's key, 16 octets or more


@dataclass(frozen=True, slots=True)
class Path:
    """The addresses and ports between which an IKE SA's messages go."""

    local: IPAddress
    local_port: int
    remote: IPAddress
    remote_port: int

    @classmethod
    def back(cls, datagram: Datagram) -> Path:
        """Return the path back to the source of a datagram."""
        return cls(datagram.local, datagram.local_port, datagram.remote, datagram.remote_port)


@dataclass(slots=True)
class Counters:
    """Counts of dropped, repeated and refused messages, for `show`."""

    malformed: int = 0
    """Datagrams that aren't IKEv2, or messages with an error in them."""
    not_authentic: int = 0
    """Messages that failed the integrity check."""
    unknown_address: int = 0
    """Datagrams from an address that no peer has: dropped before any key exchange."""
    unknown_spi: int = 0
    unexpected: int = 0
    """Messages outside the window, in the wrong state or direction, or answers without a
    request."""
    repeated: int = 0
    """Requests that were received again; their answers were repeated."""
    retransmitted: int = 0
    """Requests of ours that were sent again."""
    refused_auth: int = 0
    """IKE_AUTH exchanges that failed, in either role."""
    refused: int = 0
    """Requests of the peer that were answered with an error notify."""
    limited: int = 0
    """Requests refused, dropped or asked for a cookie because there were too many."""


@dataclass(slots=True)
class Context:
    """Shared state of one endpoint."""

    random: Callable[[int], bytes]
    """Returns `n` octets from the system's generator, or a test's."""
    local_ports: tuple[int, int]
    """UDP ports without and with NAT traversal: 500 and 4500."""
    has_mkts: Callable[[str], bool]
    limits: Limits
    wall_clock: Callable[[], float]
    """Returns seconds since the epoch; used for certificates only."""
    cookies: CookieJar
    cpu: Callable[[], float]
    """Returns the CPU seconds that this thread has used so far."""
    budget: Budget
    """CPU time for the unauthenticated peers of all associations together."""
    key_log: KeyLog | None = None
    timers: Timers = field(default_factory=Timers)
    events: deque[Event] = field(default_factory=deque)
    outbox: list[Datagram] = field(default_factory=list)
    sas: dict[bytes, tuple[IkeSa, ...]] = field(default_factory=dict)
    """By our SPI; closed IKE SAs too while they linger. Several have the same SPI only while
    several answers to an IKE_SA_INIT of ours are tried (RFC 7296, 2.4)."""
    attempts: dict[bytes, Attempt] = field(default_factory=dict)
    """IKE_SA_INIT exchanges that we began, by our SPI."""
    initials: dict[tuple[IPAddress, IPAddress, bytes], IkeSa] = field(default_factory=dict)
    """IKE SAs that a peer began, by our address, its address and the digest of its IKE_SA_INIT."""
    pending: dict[int, Pending] = field(default_factory=dict)
    """RP SA requests and Deletes of peers that wait for our user's answer, by token."""
    servers: Mapping[int, Server] = field(default_factory=dict)
    """The handlers of a peer's requests, by exchange type."""
    waiting: dict[IkeSa, None] = field(default_factory=dict)
    """IKE SAs that peers began and that wait for IKE_AUTH, the oldest first."""
    _numbers: int = 0

    @property
    def half_open(self) -> int:
        """Return the number of IKE SAs of all peers that wait for IKE_AUTH."""
        return len(self.waiting)

    def number(self) -> int:
        """Return a new exchange number or token."""
        self._numbers += 1
        return self._numbers

    def emit(self, event: Event) -> None:
        """Queue an event for the user."""
        self.events.append(event)

    def send(self, path: Path, datagrams: Datagrams) -> None:
        """Send the datagrams of one message."""
        self.outbox.extend(
            Datagram(data, path.local, path.local_port, path.remote, path.remote_port)
            for data in datagrams
        )

    def add(self, sa: IkeSa) -> None:
        """Deliver messages with this IKE SA's SPI to it."""
        spi = sa.origin.our_spi
        self.sas[spi] = (*self.sas.get(spi, ()), sa)

    def remove(self, sa: IkeSa) -> None:
        """Stop delivering messages with this SPI to this IKE SA."""
        spi = sa.origin.our_spi
        left = tuple(one for one in self.sas.get(spi, ()) if one is not sa)
        if left:
            self.sas[spi] = left
        else:
            self.sas.pop(spi, None)

    def new_spi(self) -> bytes:
        """Return a new IKE SPI of ours: unique, and not beginning like a non-ESP marker."""
        while True:
            spi = self.random(SPI_LENGTH)
            if (
                not spi.startswith(NON_ESP_MARKER)
                and spi not in self.sas
                and spi not in self.attempts
            ):
                return spi

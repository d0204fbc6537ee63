"""Two endpoints with many peers, both ends in one process: no sockets, no loss, no waiting.

Each peer is one IKE SA and one routing-protocol SA, as on a route server with as many neighbors.
The part of an adapter is reduced to the minimum: datagrams to the other end, events taken, the next
deadline asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from ikev2.authentication.auth import LocalCredential, PeerCredential
from ikev2.authentication.identity import Identity
from ikev2.endpoint import Endpoint
from ikev2.events import (
    Datagram,
    Event,
    IkeSaFailed,
    RpSaFailed,
    RpSaKeys,
    RpSaNegotiated,
    RpSaRequest,
    RpSaRequested,
    Selector,
)
from ikev2.peer import Peer
from ikev2.proposals.ike import IkePolicy

HUB = IPv4Address('10.0.0.1')
FIRST_SPOKE = IPv4Address('10.1.0.0')
HUB_ID = Identity.parse('fqdn', 'hub.example')
SUITES = ('hmac-sha-1-96', 'aes-128-cmac-96')
SESSION_ID = bytes.fromhex('01000101') + b'bgp'

_End = tuple[Identity, IPv4Address, LocalCredential, PeerCredential]
"""Identity, address and credential, and the credential by which the other end judges."""


@dataclass(frozen=True)
class Proofs:
    """The credentials by which the two ends authenticate each other."""

    ours: LocalCredential
    of_ours: PeerCredential
    theirs: LocalCredential
    of_theirs: PeerCredential


@dataclass
class Population:
    """The hub and all its spokes, which are one endpoint with many addresses."""

    proofs: Proofs
    policy: IkePolicy
    hub: Endpoint = field(init=False)
    spokes: Endpoint = field(init=False)
    keys: dict[int, list[RpSaKeys]] = field(default_factory=dict)
    """The keys of each spoke's routing-protocol SA, of the users of both ends."""
    wire: list[Datagram] | None = None
    """All sent datagrams, if they are to be kept."""
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.hub = Endpoint(random=os.urandom, has_mkts=lambda peer: False)
        self.spokes = Endpoint(random=os.urandom, has_mkts=lambda peer: False)

    def add(self, spoke: int) -> None:
        """Configure one more peer at both ends."""
        address = FIRST_SPOKE + spoke
        identity = Identity.parse('fqdn', f'{name_of(spoke)}.example')
        proofs = self.proofs
        ours = (HUB_ID, HUB, proofs.ours, proofs.of_ours)
        theirs = (identity, address, proofs.theirs, proofs.of_theirs)
        for endpoint, near, far in ((self.hub, ours, theirs), (self.spokes, theirs, ours)):
            endpoint.set_peer(self._peer(name_of(spoke), near, far), self.now)

    def _peer(self, name: str, near: _End, far: _End) -> Peer:
        return Peer(
            name=name,
            local_id=near[0],
            remote_id=far[0],
            credential=near[2],
            remote_credential=far[3],
            addresses=((near[1], far[1]),),
            policy=self.policy,
        )

    def handshake(self, spoke: int) -> None:
        """Do IKE_SA_INIT, IKE_AUTH and one CREATE_CHILD_SA, begun by the hub."""
        request = RpSaRequest(
            keyid=1,
            suites=SUITES,
            tcp_options=True,
            tsi=Selector(HUB, 40001),
            tsr=Selector(FIRST_SPOKE + spoke, 179),
            session_id=SESSION_ID,
            lifetime=3600,
        )
        self.hub.request(name_of(spoke), request, self.now)
        self.exchange()

    def remove(self, spoke: int) -> None:
        """Remove a peer from the configuration: its IKE SA is deleted and soon forgotten."""
        self.hub.remove_peer(name_of(spoke), self.now)
        self.exchange()
        self.spokes.remove_peer(name_of(spoke), self.now)
        self.exchange()
        del self.keys[spoke]

    def wait(self, seconds: float) -> None:
        """Let that much time pass, with all timers that are due in it."""
        end = self.now + seconds
        while (when := self._next()) is not None and when <= end:
            self.now = max(self.now, when)
            self.hub.handle_timer(self.now)
            self.spokes.handle_timer(self.now)
            self.exchange()
        self.now = end

    def exchange(self) -> None:
        """Deliver all datagrams of both ends, until there are no more."""
        while datagrams := [*self._say(self.hub), *self._say(self.spokes)]:
            if self.wire is not None:
                self.wire += datagrams
            for one in datagrams:
                arrived = Datagram(one.data, one.remote, one.remote_port, one.local, one.local_port)
                target = self.hub if arrived.local == HUB else self.spokes
                target.receive_datagram(arrived, self.now)
            self._next()

    def _say(self, endpoint: Endpoint) -> Iterator[Datagram]:
        while (event := endpoint.next_event()) is not None:
            self._take(endpoint, event)
        yield from endpoint.datagrams_to_send()

    def _take(self, endpoint: Endpoint, event: Event) -> None:
        match event:
            case RpSaRequested():
                suite, tcp_options = event.offer.proposals[0]
                keys = endpoint.prepare(event.token, suite, tcp_options, 2, 3600, self.now)
                assert keys is not None
                self._keep(event.peer, keys)
                endpoint.answer(event.token, self.now)
            case RpSaNegotiated():
                self._keep(event.peer, event.keys)
            case IkeSaFailed() | RpSaFailed():
                raise AssertionError(event)

    def _keep(self, peer: str, keys: RpSaKeys) -> None:
        self.keys.setdefault(int(peer[1:]), []).append(keys)

    def _next(self) -> float | None:
        whens = (self.hub.next_timer(), self.spokes.next_timer())
        return min((when for when in whens if when is not None), default=None)


def name_of(spoke: int) -> str:
    """Return a peer's name, at both ends."""
    return f's{spoke}'

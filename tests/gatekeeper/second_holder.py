"""A second holder of r1's identity, at r1's address: an IKE endpoint and nothing else.

It stands for a thief on the path, who has r1's credential of before, and for a router that has lost
its connections. What it is asked for it refuses, what it is told to delete it deletes.
"""

from __future__ import annotations

from typing import Any

from ikev2.authentication.auth import LocalCredential, PeerCredential
from ikev2.constants import NotifyType
from ikev2.endpoint import Endpoint
from ikev2.events import (
    Datagram,
    Event,
    IkeMessage,
    KeysDeleted,
    RpSaNegotiated,
    RpSaRequest,
    RpSaRequested,
    Selector,
)
from ikev2.peer import Peer
from tests.gatekeeper.world import FAMILIES, PORTS, R1, R2, World, policies

UDP_PORTS = (5500, 5501)


class SecondHolder:
    """Takes part in a World as a router does."""

    busy = False
    name = 'second holder'

    def __init__(
        self,
        world: World,
        credential: LocalCredential,
        peer_credential: PeerCredential,
        *,
        refuses_with: NotifyType = NotifyType.TEMPORARY_FAILURE,
    ) -> None:
        self.world = world
        self.refuses_with = refuses_with
        self.events: list[Event] = []
        self.endpoint = Endpoint(
            random=world.random.randbytes, local_ports=UDP_PORTS, has_mkts=lambda _: True
        )
        pad = policies('r1')[0].entry
        peer = Peer(
            name='r2',
            local_id=pad.local_id,
            remote_id=pad.peer_id,
            credential=credential,
            remote_credential=peer_credential,
            addresses=((R1, R2),),
        )
        self.endpoint.set_peer(peer, world.now)
        world.routers.append(self)  # type: ignore[arg-type]

    @property
    def core(self) -> Any:
        """Stands for a router's core."""
        return self

    def connect(self) -> None:
        """Make an IKE SA."""
        self.endpoint.connect('r2', self.world.now)
        self.pump()

    def request_key(self, session: str, keyid: int) -> None:
        """Ask for a new MKT for the socket pair of one of r1's sessions."""
        afi, safi = FAMILIES[session]
        request = RpSaRequest(
            keyid=keyid,
            suites=('hmac-sha-1-96',),
            tcp_options=True,
            tsi=Selector(R1, PORTS[session]),
            tsr=Selector(R2, 179),
            session_id=b'\1' + afi.to_bytes(2, 'big') + bytes([safi]) + b'bgp',
            lifetime=3600,
        )
        self.endpoint.request('r2', request, self.world.now)
        self.pump()

    def request_successor(self, session: str, keyid: int, recv_id: int) -> None:
        """Ask for a successor of the MKT that r2 receives under this id."""
        request = RpSaRequest(
            keyid=keyid,
            suites=('hmac-sha-1-96',),
            tcp_options=True,
            tsi=Selector(R1, PORTS[session]),
            tsr=Selector(R2, 179),
            session_id=None,
            lifetime=3600,
            rekey_keyid=recv_id,
        )
        self.endpoint.request('r2', request, self.world.now)
        self.pump()

    def has_key(self) -> bool:
        """Return True if an MKT was granted."""
        return any(isinstance(event, RpSaNegotiated) for event in self.events)

    # --- what a World asks ----------------------------------------------------------------------

    def hears(self, datagram: Datagram) -> bool:
        return datagram.remote == R1 and datagram.remote_port in UDP_PORTS

    def next_timer(self) -> float | None:
        return self.endpoint.next_timer()

    def handle_timer(self, now: float) -> None:
        self.endpoint.handle_timer(now)

    def receive_datagram(self, datagram: Datagram, now: float) -> None:
        self.endpoint.receive_datagram(datagram, now)

    def pump(self) -> bool:
        busy = False
        while (event := self.endpoint.next_event()) is not None:
            busy = True
            if not isinstance(event, IkeMessage):
                self.events.append(event)
            match event:
                case KeysDeleted(token=token, recv_ids=recv_ids):
                    self.endpoint.answer_delete(token, recv_ids, self.world.now)
                case RpSaRequested(token=token):
                    self.endpoint.refuse(token, self.refuses_with, b'', self.world.now)
        for datagram in self.endpoint.datagrams_to_send():
            self.world.send(datagram)
        return busy

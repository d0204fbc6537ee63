"""An attacker on the path without the peer's credential: it may end what it answers itself."""

from __future__ import annotations

from itertools import chain

from ikev2.authentication.auth import PresharedKey
from ikev2.constants import ExchangeType, ProtocolId
from ikev2.endpoint import Endpoint
from ikev2.events import Datagram
from ikev2.peer import Peer
from ikev2.sa.transitions import State
from ikev2.wire.message import Header
from ikev2.wire.payloads import DeletePayload
from keymaterial import Secret
from tests.gatekeeper.world import DELAY, R1, R2, World, policies, up
from tests.ikev2.bench import Anything, turned


class Impostor:
    """Answers the IKE SAs that r1 begins from now on in r2's place, and takes any proof."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.endpoint = Endpoint(random=world.random.randbytes, has_mkts=lambda _: True)
        pad = policies('r2')[0].entry
        self.endpoint.set_peer(
            Peer(
                name='victim',
                local_id=pad.local_id,
                remote_id=pad.peer_id,
                credential=PresharedKey(Secret(b'it knows no secret of theirs')),
                remote_credential=pad.peer_credential,
                addresses=((R2, R1),),
            ),
            world.now,
        )
        self.delete = Anything(
            ExchangeType.INFORMATIONAL,
            [DeletePayload(ProtocolId.TCP_AO, tuple(bytes([k]) for k in range(1, 256)))],
        )
        self.said = False
        self._spis: set[bytes] = set()
        world.lose = self._takes

    def _takes(self, datagram: Datagram) -> bool:
        header = Header.decode(datagram.data)
        if datagram.local != R1:
            return False
        if header.exchange_type == ExchangeType.IKE_SA_INIT:
            self._spis.add(header.initiator_spi)
        if header.initiator_spi not in self._spis:
            return False
        self.endpoint.receive_datagram(turned(datagram), self.world.now)
        for sa in chain.from_iterable(self.endpoint._context.sas.values()):
            if sa.state == State.ESTABLISHED and not self.said:
                self.said = True
                sa.queue(self.delete, self.world.now)
        for answer in self.endpoint.datagrams_to_send():
            self.world.datagrams += 1
            self.world.flying.append((self.world.now + DELAY, self.world.datagrams, answer))
        return True


def test_impostor_deletes_no_keys_when_it_answers_for_the_peer() -> None:
    world, r1, r2 = up()
    before = {**r1.sessions, **r2.sessions}
    impostor = Impostor(world)
    (name,) = r1.core.state.peers
    r1.core.endpoint.reauthenticate(name, world.now)
    r1.pump()
    world.run(20)
    assert impostor.said
    assert impostor.delete.answer is None
    assert r1.core.endpoint.snapshot().peer(name).counters.refused_auth == 1
    assert {**r1.sessions, **r2.sessions} == before
    assert not r1.closed
    assert not r2.closed

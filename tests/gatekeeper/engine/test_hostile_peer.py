"""A peer that proves to be who it is, and then says whatever it likes.

Nothing that it sends raises, the records stay sound, and when it has come to its senses (a new
process, INITIAL_CONTACT) the sessions come up.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network
from random import Random

import hypothesis.strategies as st
from hypothesis import given, settings

from ikev2.constants import RP_SUITES, NotifyType
from ikev2.endpoint import Endpoint
from ikev2.events import (
    Datagram,
    KeysDeleted,
    RpSaKeys,
    RpSaNegotiated,
    RpSaRequest,
    RpSaRequested,
    Selector,
)
from ikev2.peer import Peer
from tcpao.installer import Guard
from tcpao.key_socket import InstallError, Key
from tcpao.mkt import ALGORITHMS, SocketPair
from tests.doubles.memory_network import MemorySocket
from tests.gatekeeper.engine.test_any_order import (
    V4,
    V6,
    check_deadlines,
    check_listener,
    check_records,
    opened,
    wanted,
)
from tests.gatekeeper.world import R1, R2, Router, World, policies

PORTS = (0, 1, 179, 40001, 40002, 50000)
ADDRESSES = (R1, R2, ip_address('10.0.0.9'))
SESSIONS = (
    None,
    b'',
    b'\x01\x00\x01\x01bgp',
    b'\x01\x00\x02\x01bgp',
    b'\xff' * 40,
)


class Hostile:
    """Real IKEv2 with a valid credential, and no gatekeeper behind it."""

    def __init__(self, world: World, random: Random) -> None:
        self.world = world
        self.random = random
        self.address = R1
        self.busy = False
        self.core = self
        self.endpoint = Endpoint(random=random.randbytes, has_mkts=lambda _: random.random() < 0.5)
        pad = policies('r1')[0].entry
        self.endpoint.set_peer(
            Peer(
                name='victim',
                local_id=pad.local_id,
                remote_id=pad.peer_id,
                credential=pad.local_credential,
                remote_credential=pad.peer_credential,
                addresses=((R1, R2),),
            ),
            world.now,
        )
        self.used: list[int] = []
        """KeyIDs that have occurred: more interesting than others."""
        self.listener = world.network.listen(R1, 179)
        self.sockets: dict[SocketPair, MemorySocket] = {}
        self.asked: dict[int, SocketPair] = {}

    def next_timer(self) -> float | None:
        return self.endpoint.next_timer()

    def handle_timer(self, now: float) -> None:
        self.endpoint.handle_timer(now)

    def receive_datagram(self, datagram: Datagram, now: float) -> None:
        self.endpoint.receive_datagram(datagram, now)

    def hears(self, datagram: Datagram) -> bool:
        return datagram.remote == self.address

    def pump(self) -> bool:
        busy = False
        while (event := self.endpoint.next_event()) is not None:
            busy = True
            if isinstance(event, RpSaNegotiated):
                self.open(event)
            elif isinstance(event, RpSaRequested):
                self.used += [event.offer.keyid, event.offer.rekey_keyid or 0]
                self.answer(event)
            elif isinstance(event, KeysDeleted):
                self.used += event.recv_ids
                if self.random.random() < 0.8:
                    self.endpoint.answer_delete(event.token, self.keyids(), self.world.now)
        while (child := self.listener.accept()) is not None:
            busy = True
            assert child.pair is not None
            self.sockets[child.pair] = child
        for datagram in self.endpoint.datagrams_to_send():
            self.world.send(datagram)
        return busy

    # --- TCP, with most of the keys that it has negotiated ---------------------------------------

    def open(self, event: RpSaNegotiated) -> None:
        pair = self.asked.pop(event.exchange, None)
        self.used += [event.keys.send_id, event.keys.recv_id]
        if pair is None or self.random.random() < 0.1:
            return
        socket = self.sockets.get(pair)
        if socket is None or socket.is_dead():
            socket = self.sockets[pair] = self.world.network.socket(pair)
        self.put(socket, event.keys)
        if socket.is_fresh():
            socket.connect()

    def put(self, socket: MemorySocket, keys: RpSaKeys) -> None:
        key = Key(
            ip_network(R2),
            keys.send_id,
            keys.recv_id,
            ALGORITHMS[keys.suite],
            keys.tcp_options,
            keys.master_key,
        )
        with suppress(InstallError):
            socket.add(key, select=socket.is_fresh())

    def touch(self) -> None:
        """Whatever TCP and RNextKeyID allow."""
        for socket in list(self.sockets.values()):
            kind = self.random.random()
            if kind < 0.15:
                socket.close()
            elif kind < 0.2:
                socket.vanish()
            elif socket.is_established():
                state = socket.read()
                if state is not None and kind < 0.6:
                    socket.set_rnext(self.random.choice(state.keys).recv_id)
                socket.send(b'?')

    def keyid(self) -> int:
        known = [number for number in self.used if number]
        if known and self.random.random() < 0.7:
            return self.random.choice(known)
        return self.random.randint(1, 255)

    def own_keyid(self) -> int:
        """One that its own endpoint lets it give out: no DELETE of it is under way."""
        flying = self.endpoint.send_ids_in_flight('victim')
        return next(keyid for keyid in iter(self.keyid, 0) if keyid not in flying)

    def keyids(self) -> tuple[int, ...]:
        return tuple(self.keyid() for _ in range(self.random.randint(0, 4)))

    def answer(self, event: RpSaRequested) -> None:
        kind = self.random.random()
        if kind < 0.2:
            return
        if kind < 0.5:
            notify = self.random.choice(
                [
                    NotifyType.KEYID_IN_USE,
                    NotifyType.TEMPORARY_FAILURE,
                    NotifyType.CHILD_SA_NOT_FOUND,
                    NotifyType.NO_PROPOSAL_CHOSEN,
                    NotifyType.TS_UNACCEPTABLE,
                    NotifyType.NO_ADDITIONAL_SAS,
                    NotifyType.INVALID_KE_PAYLOAD,
                ]
            )
            self.endpoint.refuse(
                event.token,
                notify,
                self.random.randbytes(self.random.randint(0, 9)),
                self.world.now,
            )
            return
        suite, options = self.random.choice(event.offer.proposals)
        keys = self.endpoint.prepare(
            event.token, suite, options, self.own_keyid(), self.lifetime(), self.world.now
        )
        assert keys, 'no additional key exchanges were negotiated'
        self.endpoint.answer(event.token, self.world.now)
        if self.random.random() < 0.9:
            self.put(self.sockets.get(opened(V6).reversed(), self.listener), keys)

    def lifetime(self) -> int:
        return self.random.choice([0, 1, 14, 15, 60, 2**32 - 1])

    def ask(self) -> None:
        """Any request that can be put into octets."""
        random = self.random
        keyid = self.own_keyid()
        self.used.append(keyid)
        rekey = random.random() < 0.4
        usual = random.random() < 0.6
        pair = opened(V4)
        tsi = Selector(pair.local, pair.local_port)
        tsr = Selector(pair.remote, pair.remote_port)
        if rekey and random.random() < 0.5:
            pair = opened(V6)
            tsi = Selector(pair.remote, pair.remote_port)
            tsr = Selector(pair.local, pair.local_port)
        if not usual:
            tsi = Selector(random.choice(ADDRESSES), random.choice(PORTS))
            tsr = Selector(random.choice(ADDRESSES), random.choice(PORTS))
        number = self.endpoint.request(
            'victim',
            RpSaRequest(
                keyid=keyid,
                suites=tuple(random.sample(list(RP_SUITES), random.randint(1, 3))),
                tcp_options=random.random() < 0.8,
                tsi=tsi,
                tsr=tsr,
                session_id=SESSIONS[2] if usual and not rekey else random.choice(SESSIONS),
                lifetime=self.lifetime(),
                rekey_keyid=self.keyid() if rekey else None,
                keyids_in_use=self.keyids(),
            ),
            self.world.now,
        )
        if usual and not rekey:
            self.asked[number] = pair
        elif rekey:
            self.asked[number] = random.choice([opened(V4), opened(V6).reversed()])

    def delete(self) -> None:
        self.endpoint.delete('victim', self.keyids() or (self.keyid(),), self.world.now)

    def misbehave(self) -> None:
        """One thing after the other."""
        random, now = self.random, self.world.now
        kind = random.choices(['ask', 'delete', 'connect', 'forget', 'rekey'], [10, 6, 3, 1, 1])[0]
        self.touch()
        if kind == 'ask':
            self.ask()
        elif kind == 'delete':
            self.delete()
        elif kind == 'connect':
            self.endpoint.connect('victim', now)
        elif kind == 'forget':
            self.endpoint.replace_ike_sa('victim', now)
        else:
            self.endpoint.rekey_ike_sa('victim', now)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_hostile_peer_changes_nothing(seed: int) -> None:
    random = Random(seed)
    world = World(seed=seed)
    r2 = world.router('r2', wanted('r2', 60, 10), listens=True)
    hostile = Hostile(world, random)
    world.routers.append(hostile)  # type: ignore[arg-type]
    for _ in range(60):
        hostile.misbehave()
        if opened(V6) not in r2.sockets and random.random() < 0.5:
            r2.open(f'r2 {V6}', opened(V6))
        world.run(random.choice([0.003, 0.02, 0.3, 2.0, 20.0]))
        for pair in list(r2.connecting):
            if random.random() < 0.1:
                r2.close(pair)
        check_listener(r2)
        check_records(r2)
        check_deadlines(r2)
    world.routers.remove(hostile)  # type: ignore[arg-type]
    for socket in (*hostile.sockets.values(), hostile.listener):
        socket.vanish()
    sane(world, r2)


def sane(world: World, r2: Router) -> None:
    r1 = world.router('r1', wanted('r1', 60, 10), listens=True)
    r1.installer.submit(Guard(ip_network(R2), 179))
    r1.installer.events()
    for pair in list(r2.sockets):
        r2.close(pair)
    for _ in range(60):
        for router, family in ((r1, V4), (r2, V6)):
            if opened(family) not in router.sockets:
                router.open(f'{router.name} {family}', opened(family))
        world.run(5)
        if len(r1.sessions) == len(r2.sessions) == 2:
            break
    assert len(r1.sessions) == len(r2.sessions) == 2, (r1.errors, r2.errors)
    world.run(300)
    assert not r2.core.endpoint._context.pending
    held = [life for conn in r2.core.state.connections.values() for life in conn.mkts()]
    assert all(life in held for life in r2.peer.mkts if not life.ended)

"""Two routers, and everything that can happen to them in any order.

Each opens one session and listens for the other's. Whatever happens, nothing raises, no segment
goes out unsigned or under an expired key, and the records stay sound; when peace has come, what
the daemons want is up, and nothing else is left.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any

import hypothesis.strategies as st
import pytest
from cryptography import x509
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gatekeeper.engine import expiry_warnings as forewarning
from gatekeeper.engine.negotiated.rekeying import ask
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.state.connection import Connection, Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.mkt_record import MktRecord, MktState
from gatekeeper.state.peer import Peer
from gatekeeper.state.selection import Operation, Selection
from ikev2.authentication.auth import PresharedKey
from ikev2.events import Datagram
from keymaterial import Secret
from tcpao.installer import Cause, Guard, Install, Remove
from tcpao.mkt import Mkt, SocketPair
from tests.doubles.memory_network import Kind, Segment
from tests.gatekeeper.world import DELAY, PORTS, R1, R2, Router, World, policies
from tests.ikev2.pki import DAY, root

V4, V6 = 'ipv4 unicast', 'ipv6 unicast'
OPENER = {V4: 'r1', V6: 'r2'}
CONNECTS_WITHIN = 30.0
NAMES = st.sampled_from(['r1', 'r2'])
BOTH_OR_ONE = st.sampled_from([('r1',), ('r2',), ('r1', 'r2')])
SECRETS = (b'the first secret of both', b'the second secret of both', b'the third one')
NOW = time.time()
MONTH = 30 * DAY
CA = root(kind='ed25519', not_before=NOW - MONTH, not_after=NOW + MONTH)
OWN = {
    name: CA.leaf(
        name,
        x509.DNSName(f'{name}.lab'),
        kind='ed25519',
        not_before=NOW - MONTH,
        not_after=NOW + MONTH,
    )
    for name in ('r1', 'r2')
}
PERIOD: Any = {'this_update': NOW - MONTH, 'next_update': NOW + MONTH}
FAMILY = st.sampled_from([V4, V6])
SHARE = st.sampled_from([0.0, 0.0, 0.3, 1.0])


def credentials(router: str, number: int, *, certified: bool) -> dict[str, Any]:
    """The first is the one that goes with the other router's; the others don't."""
    if not certified:
        shared = PresharedKey(Secret(SECRETS[number]))
        return {'local_credential': shared, 'peer_credential': shared}
    peer = 'r2' if router == 'r1' else 'r1'
    trust = (CA.trust(), CA.trust(CA.crl(OWN[peer], **PERIOD)), CA.trust(CA.crl(**PERIOD)))
    return {'local_credential': OWN[router].credential(), 'peer_credential': trust[number]}


def wanted(
    router: str, lifetime: int, grace: int, proofs: Mapping[str, Any] = MappingProxyType({})
) -> list[SessionPolicy]:
    """Both sessions; each router opens one of them."""
    made = []
    pad = replace(policies(router)[0].entry, **proofs)
    for policy in policies(router, pad=pad, lifetime=lifetime, grace=grace):
        opens = OPENER[policy.session.name] == router
        made.append(
            replace(
                policy,
                connect_port=179 if opens else None,
                listen_port=None if opens else 179,
                source_port=PORTS[policy.session.name] if opens else None,
                peer_port=None if opens else PORTS[policy.session.name],
                algorithms=('hmac-sha-1-96', 'aes-128-cmac-96'),
            )
        )
    return made


def opened(family: str) -> SocketPair:
    """The session's socket pair as its opener sees it."""
    ours, theirs = (R1, R2) if family == V4 else (R2, R1)
    return SocketPair(ours, PORTS[family], theirs, 179)


class TwoRouters(RuleBasedStateMachine):
    """The rules."""

    @initialize(
        seed=st.integers(0, 2**16),
        lifetime=st.sampled_from([15, 60, 300]),
        grace=st.sampled_from([5, 60]),
        head_start=st.sampled_from([0.0, 0.015, 5.0, 5.0]),
        certified=st.booleans(),
    )
    def begin(
        self, seed: int, lifetime: int, grace: int, head_start: float, certified: bool
    ) -> None:
        self.world = World(seed=seed)
        self.world.network.deliver = self.carry
        self.world.lose = lambda datagram: self.world.random.random() < self.lost_ike
        self.world.copies = self.copies
        self.lifetime, self.grace = lifetime, grace
        self.lost_ike = self.lost_tcp = 0.0
        self.unruly = False
        self.wrong: list[str] = []
        self.begun: dict[SocketPair, float] = {}
        self.certified = certified
        self.numbers = dict.fromkeys(('r1', 'r2'), 0)
        self.routers = {name: self.router(name) for name in ('r1', 'r2')}
        if head_start:
            self.open(V4)
            self.open(V6)
            self.world.run(head_start)

    def router(self, name: str) -> Router:
        router = self.world.router(name, self.wanted(name), listens=True)
        router.core.set_clock(NOW, self.world.now)
        router.installer.submit(Guard(ip_network(R2 if name == 'r1' else R1), 179))
        router.installer.events()
        return router

    def wanted(self, name: str, lifetime: int | None = None) -> list[SessionPolicy]:
        proofs = credentials(name, self.numbers[name], certified=self.certified)
        return wanted(name, lifetime or self.lifetime, self.grace, proofs)

    def copies(self, datagram: Datagram) -> tuple[float, ...]:
        if not self.unruly:
            return (DELAY,)
        chance = self.world.random
        count = 1 + (chance.random() < 0.3)
        return tuple(chance.uniform(0.001, 0.8) for _ in range(count))

    def carry(self, segment: Segment) -> bool:
        """On the wire; what must not be there is noted."""
        if segment.key_id is None:
            self.wrong.append(f'{segment.kind} without TCP-AO')
        for router in self.world.routers:
            if router.address == segment.pair.local and not router.busy:
                self.check_key(router, segment)
        return self.world.random.random() >= self.lost_tcp

    def check_key(self, router: Router, segment: Segment) -> None:
        for peer in router.core.state.peers.values():
            lives = [life for life in peer.mkts if life.send_id == segment.key_id]
            expired = [life for life in lives if self.world.network.now > life.hard_at + 0.01]
            if segment.kind is Kind.RST:
                # An abort comes when it comes; so does that of a child that is not accepted yet.
                continue
            if expired:
                self.wrong.append(f'{segment.kind} under the expired {expired[0].name}')
            if not lives:
                self.wrong.append(f'{segment.kind} under a KeyID that is free')

    # --- what happens ---------------------------------------------------------------------------

    @rule(family=FAMILY)
    def open(self, family: str) -> None:
        router, pair = self.routers[OPENER[family]], opened(family)
        key = f'{router.name} {family}'
        if pair not in router.sockets and key in router.core.state.policies and not router.busy:
            self.begun[pair] = self.world.now
            router.open(key, pair)

    @rule(family=FAMILY, name=NAMES, silently=st.booleans())
    def close(self, family: str, name: str, silently: bool) -> None:
        router, pair = self.routers[name], opened(family)
        pair = pair if OPENER[family] == name else pair.reversed()
        if pair in router.sockets and not router.busy:
            router.close(pair, silently=silently)
            self.world.settle()

    @rule(seconds=st.sampled_from([0.002, 0.004, 0.008, 0.02, 0.3]))
    def pass_a_moment(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0, 35.0, 70.0]))
    def pass_time(self, seconds: float) -> None:
        while seconds > 0:
            self.world.run(min(5.0, seconds))
            seconds -= 5.0
            self.hang_up()

    def hang_up(self) -> None:
        """The daemons' own time limit on connecting."""
        for router in self.world.routers:
            for pair in list(router.connecting):
                if self.world.now > self.begun[pair] + CONNECTS_WITHIN and not router.busy:
                    router.close(pair)
        self.world.settle()

    @rule(share=SHARE)
    def lose_ike(self, share: float) -> None:
        self.lost_ike = share

    @rule(share=SHARE)
    def lose_tcp(self, share: float) -> None:
        self.lost_tcp = share

    @rule(unruly=st.booleans())
    def mix_datagrams_up(self, unruly: bool) -> None:
        self.unruly = unruly

    @rule(name=NAMES, busy=st.booleans())
    def occupy(self, name: str, busy: bool) -> None:
        self.routers[name].busy = busy
        self.world.settle()

    @rule(name=NAMES, late=st.sampled_from([0.0, 0.003, 0.4, 3.0]))
    def tell_late(self, name: str, late: float) -> None:
        self.routers[name].late = late

    @rule(name=NAMES)
    def kill(self, name: str) -> None:
        self.routers[name].kill()
        self.routers[name] = self.router(name)

    @rule(name=NAMES, seconds=st.sampled_from([0.5, 40.0]))
    def kill_for_a_while(self, name: str, seconds: float) -> None:
        self.routers[name].kill()
        self.world.run(seconds)
        self.routers[name] = self.router(name)

    @rule(family=FAMILY, names=BOTH_OR_ONE)
    def rekey(self, family: str, names: tuple[str, ...]) -> None:
        for name in names:
            state = self.routers[name].core.state
            for conn in list(state.connections.values()):
                if conn.policy.session.name == family:
                    state.deadlines.set(Due.REKEY, conn, self.world.now)
                    ask(state, conn, self.world.now)
            self.routers[name].pump()

    @rule(family=FAMILY, name=NAMES)
    def revoke(self, family: str, name: str) -> None:
        """An operator takes the keys of a session away, and takes that back."""
        core = self.routers[name].core
        selection = Selection(session=family)
        if not any(map(selection.matches, core.state.policies.values())):
            return  # reloaded without it
        core.operate(Operation.REVOKE, selection, self.world.now)
        self.routers[name].pump()
        core.operate(Operation.RESTORE, selection, self.world.now)

    @rule(
        name=NAMES,
        how=st.sampled_from(
            ['rekey_ike_sa', 'replace_ike_sa', 'reauthenticate', 'check_liveness', 'repeat']
        ),
    )
    def touch_ike(self, name: str, how: str) -> None:
        router = self.routers[name]
        for peer in router.core.state.peers:
            getattr(router.core.endpoint, how)(peer, self.world.now)
        router.core.handle_timer(self.world.now)
        router.pump()

    @rule(
        name=NAMES,
        families=st.sampled_from([(V4, V6), (V4, V6), (V4,), (V6,), ()]),
        lifetime=st.sampled_from([15, 60, 300]),
        turned=st.booleans(),
    )
    def reload(self, name: str, families: tuple[str, ...], lifetime: int, turned: bool) -> None:
        found = [p for p in self.wanted(name, lifetime) if p.session.name in families]
        if turned:
            found = [replace(p, algorithms=p.algorithms[::-1]) for p in found]
        self.configure(name, found)

    @rule(names=BOTH_OR_ONE, number=st.integers(0, 2))
    def change_the_credentials(self, names: tuple[str, ...], number: int) -> None:
        for name in names:
            self.numbers[name] = number
            self.configure(name, self.wanted(name))

    def configure(self, name: str, found: list[SessionPolicy]) -> None:
        self.routers[name].core.configure(found, self.world.now)
        self.world.settle()

    @rule(name=NAMES, kind=st.sampled_from([Install, Remove]), cause=st.sampled_from(list(Cause)))
    def refuse(self, name: str, kind: type, cause: Cause) -> None:
        # GONE where the key is still there would be a lie.
        if kind is Install or cause is not Cause.GONE:
            self.routers[name].installer.refuse_next(kind, cause)

    @rule(family=FAMILY, name=NAMES)
    def send(self, family: str, name: str) -> None:
        router = self.routers[name]
        pair = router.sessions.get(f'{name} {family}')
        if pair is not None and not router.busy and router.sockets[pair].is_established():
            router.sockets[pair].send(b'update')
            self.world.settle()

    @rule(hours=st.sampled_from([0.01, 3]))
    def suspend(self, hours: float) -> None:
        self.world.suspend(hours * 3600)
        self.world.settle()

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: hasattr(self, 'routers'))
    def nothing_wrong_was_sent(self) -> None:
        assert not self.wrong, self.wrong

    @invariant()
    @precondition(lambda self: hasattr(self, 'routers'))
    def every_record_is_sound(self) -> None:
        for router in self.world.routers:
            check_listener(router)
            check_records(router)
            check_deadlines(router)

    # --- peace ----------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, 'routers'):
            return
        self.lost_ike = self.lost_tcp = 0.0
        self.unruly = False
        for router in self.world.routers:
            router.busy, router.late = False, 0.0
            router.installer._refusals.clear()
        for name in self.routers:
            self.numbers[name] = 0
            self.configure(name, self.wanted(name))
        self.bring_up()
        # What began before may still end badly: IKE SAs that one side has forgotten, say.
        self.world.run(100)
        self.bring_up()
        closed = {name: len(router.closed) for name, router in self.routers.items()}
        self.world.run(700)
        self.nothing_wrong_was_sent()
        self.every_record_is_sound()
        for name, router in self.routers.items():
            assert len(router.closed) == closed[name], router.closed
            assert len(router.sessions) == 2, router.sessions
        self.let_rotations_end()
        for router in self.routers.values():
            check_nothing_left(router)
        for family in (V4, V6):
            one, two = (router.connection(family).mkt_in_use for router in self.routers.values())
            assert (one.send_id, one.recv_id) == (two.recv_id, two.send_id)
        self.part()

    def up(self) -> bool:
        return all(
            router.sessions.get(f'{name} {family}') is not None
            for name, router in self.routers.items()
            for family in (V4, V6)
        )

    def bring_up(self) -> None:
        for _ in range(80):
            self.open(V4)
            self.open(V6)
            self.world.run(5)
            self.hang_up()
            if self.up():
                return
        raise AssertionError([(r.errors[-3:], r.sockets.keys()) for r in self.routers.values()])

    def let_rotations_end(self) -> None:
        for _ in range(2000):
            conns = [c for r in self.routers.values() for c in r.core.state.connections.values()]
            deletes = any(router.peer.deletes for router in self.routers.values())
            if not deletes and not any(
                c.rotation or c.requested_successor or c.peers_successor for c in conns
            ):
                return
            self.world.run(1)
        raise AssertionError('a rotation never ends')

    def part(self) -> None:
        """All sessions end; what is left is nothing."""
        for family in (V4, V6):
            self.routers[OPENER[family]].close(opened(family))
        self.world.run(150)
        for router in self.routers.values():
            assert not router.core.state.connections
            assert not router.peer.mkts
            assert not router.peer.keyids.sending | router.peer.keyids.receiving
            # Certificates end, whichever router is connected.
            router.core.state.deadlines.cancel(Due.FOREWARN, forewarning.ENDS)
            assert router.core.state.deadlines.next() is None


def check_listener(router: Router) -> None:
    """Every key on the listener belongs to a connection that waits for its SYN or its proof."""
    assert router.listener is not None
    state = router.listener.read()
    assert state is not None
    on_it = {(key.send_id, key.recv_id) for key in state.keys} - {(0, 0)}
    lives = [conn.mkt_in_use for conn in router.core.state.connections.values()]
    expected = {(life.send_id, life.recv_id) for life in lives if life.on_listener}
    # The kernel has refused to take these off; it is asked again.
    refused = {
        (mkt.send_id, mkt.recv_id)
        for due, mkt in router.core.state.deadlines._live
        if due is Due.LISTENER and isinstance(mkt, Mkt)
    }
    assert on_it - refused <= expected
    for conn in router.core.state.connections.values():
        if conn.mkt_in_use.on_listener:
            assert conn.phase in (Phase.WAITING, Phase.PROVING, Phase.ENDING)


def check_records(router: Router) -> None:
    state = router.core.state
    conns = list(state.connections.values())
    for peer in state.peers.values():
        assert peer.keyids.sending == {life.send_id for life in peer.mkts}
        taken = [life.recv_id for life in peer.mkts if life.recv_id is not None]
        assert peer.keyids.receiving == set(taken)
        assert len(taken) == len(set(taken))
        held = [life for conn in conns if conn.peer is peer for life in conn.mkts()]
        for life in peer.mkts:
            assert life.ended or life in held, f'{life.name} is {life.state} and nobody has it'
            assert not life.ended or state.deadlines.is_set(Due.IDS, life) or life.deleting
        assert all(life in peer.mkts for life in peer.undeleted)
    for conn in conns:
        assert conn.phase is not Phase.ENDING or conn.has_socket
        assert not conn.mkt_in_use.ended
        if conn.phase is Phase.PROVEN:
            assert conn.mkt_in_use.state is MktState.IN_USE
        if conn.mkt_in_use.mkt is not None:
            # A promise that a router keeps, unless it is being kept.
            assert (
                state.deadlines.is_set(Due.HARD, conn)
                or state.deadlines.is_set(Due.SYN, conn)
                or state.deadlines.is_set(Due.GATE, conn)
                or conn.phase in (Phase.ENDING, Phase.NEGOTIATING)
            )
        elif conn.phase is Phase.NEGOTIATING:
            assert state.deadlines.is_set(Due.GATE, conn)
    for conn, life in state.exchanges.values():
        assert state.connections.get(conn.pair) is conn
        assert life in conn.mkts()


def check_deadlines(router: Router) -> None:
    """None is set for what is no more."""
    state = router.core.state
    for due, subject in state.deadlines._live:
        if isinstance(subject, Connection):
            assert state.connections.get(subject.pair) is subject, due
        elif isinstance(subject, Peer):
            assert subject in state.peers.values(), due
        elif isinstance(subject, MktRecord) and due is not Due.IDS:
            assert not subject.ended, due


def check_nothing_left(router: Router) -> None:
    state = router.core.state
    assert len(state.connections) == 2
    assert not state.exchanges
    assert not router.core.endpoint._context.pending
    assert router.listener_keys() == 0
    assert not router.peer.deletes
    assert not router.peer.undeleted
    held = [life for conn in state.connections.values() for life in conn.mkts()]
    assert all(life in held for life in router.peer.mkts if not life.ended)
    for conn in state.connections.values():
        assert conn.phase is Phase.PROVEN
        assert conn.waiter is None
        assert conn.replacement is None
    assert not state.strays


# Half a minute of CPU: on a busy machine that is more than two.
@pytest.mark.timeout(600)
def test_gatekeepers_settle_after_any_order_of_events() -> None:
    run_state_machine_as_test(
        TwoRouters,
        settings=settings(
            deadline=None,
            max_examples=25,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
        ),
    )

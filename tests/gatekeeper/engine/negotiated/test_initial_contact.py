"""INITIAL_CONTACT: the peer has restarted, or both have just started, and what that ends."""

from __future__ import annotations

from itertools import product

import pytest

from gatekeeper.engine.negotiated.rekeying import ask
from gatekeeper.state.connection import Phase
from ikev2.constants import ExchangeType
from ikev2.events import Datagram
from tests.gatekeeper.world import (
    DELAY,
    FAMILIES,
    R1,
    R2,
    Router,
    World,
    lose_rsts,
    open_both,
    pair_of,
    policies,
    two_routers,
)

PAIR = pair_of('ipv4 unicast')


@pytest.mark.parametrize('delays', list(product((0.005, 0.1, 0.4), repeat=3)))
def test_session_stays_when_ike_sas_cross_at_the_start(delays: tuple[float, ...]) -> None:
    world = World()
    sent = 0

    def copies(datagram: Datagram) -> tuple[float, ...]:
        nonlocal sent
        sent += 1
        return (delays[sent % 3] if datagram.local == R1 else 0.02,)

    world.copies = copies
    r1, r2 = two_routers(world)
    open_both(r1)
    world.run(60)
    assert set(r1.sessions) == {f'r1 {name}' for name in FAMILIES}
    assert set(r2.sessions) == {f'r2 {name}' for name in FAMILIES}
    assert not r1.errors
    assert not r1.closed + r2.closed


def negotiating(world: World, r1: Router, r2: Router) -> None:
    r2.installer.hold()
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(1)
    assert r2.core.state.connections[PAIR.reversed()].phase is Phase.NEGOTIATING


def waiting(world: World, r1: Router, r2: Router) -> None:
    world.network.deliver = lambda segment: False
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(1)
    assert r2.core.state.connections[PAIR.reversed()].phase is Phase.WAITING


def proving(world: World, r1: Router, r2: Router) -> None:
    r1.open('r1 ipv4 unicast', PAIR)
    while not r2.listener_keys():
        world.run(0.001)
    r2.installer.hold()
    world.run(1)
    assert r2.core.state.connections[PAIR.reversed()].phase is Phase.PROVING


def proven(world: World, r1: Router, r2: Router) -> None:
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(1)
    assert r2.connection('ipv4 unicast').phase is Phase.PROVEN


def rotating(world: World, r1: Router, r2: Router) -> None:
    proven(world, r1, r2)
    world.network.deliver = lambda segment: False
    ask(r2.core.state, r2.connection('ipv4 unicast'), world.now)
    r2.pump()
    world.run(1)
    assert r2.connection('ipv4 unicast').rotation


def crossing(world: World, r1: Router, r2: Router) -> None:
    proven(world, r1, r2)
    world.lose = lambda datagram: datagram.local != R1
    for router in (r1, r2):
        ask(router.core.state, router.connection('ipv4 unicast'), world.now)
        router.pump()
    world.run(0.3)
    assert r2.connection('ipv4 unicast').requested_successor


def ending(world: World, r1: Router, r2: Router) -> None:
    proven(world, r1, r2)
    r2.busy = True
    r2.core.configure(policies('r2')[1:], world.now)
    r2.core.configure(policies('r2'), world.now)


PHASES = [negotiating, waiting, proving, proven, rotating, crossing, ending]


@pytest.mark.parametrize('phase', PHASES, ids=lambda phase: phase.__name__)
def test_opener_finds_no_obstacle_when_it_restarts(phase) -> None:  # type: ignore[no-untyped-def]
    world = World()
    r1, r2 = two_routers(world)
    phase(world, r1, r2)
    deliver = world.network.deliver
    lose_rsts(world)
    r1.kill()
    world.network.deliver = deliver
    world.lose = lambda datagram: False
    r1 = world.router('r1', policies('r1'), listens=False)
    world.run(2)
    r2.release()
    r2.busy = False
    r2.pump()
    world.network.deliver = lambda segment: True
    world.run(2)
    assert not r2.core.state.connections
    assert r2.listener_keys() == 0
    # A request that was given up keeps its id for a minute: it may still be answered.
    assert not [life for life in r2.peer.mkts if life.mkt]
    open_both(r1)
    world.run(5)
    assert not r1.errors
    assert len(r1.sessions) == len(r2.sessions) == 2


def test_attempt_stays_when_the_listener_restarts_meanwhile() -> None:
    world = World()
    r1, r2 = two_routers(world)
    world.run(30)
    r2.kill()
    world.run(1)
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(3)
    r2 = world.router('r2', policies('r2'), listens=True)
    world.run(3)
    assert not r1.errors
    assert 'r1 ipv4 unicast' in r1.sessions
    assert 'r2 ipv4 unicast' in r2.sessions


def test_attempt_ends_when_the_listener_restarts_before_install() -> None:
    world = World()
    r1, r2 = two_routers(world)
    world.run(10)
    r1.busy = True
    ticket = r1.open('r1 ipv4 unicast', PAIR)
    world.run(1)
    r2.kill()
    r2 = world.router('r2', policies('r2'), listens=True)
    world.run(1)
    assert ticket.error is not None
    r1.busy = False
    world.run(1)
    assert not r1.core.state.connections
    assert not r1.peer.mkts
    open_both(r1)
    world.run(5)
    assert len(r1.sessions) == len(r2.sessions) == 2


def test_rekey_is_dropped_when_the_peers_old_process_asked() -> None:
    world = World()
    r1, r2 = two_routers(world)
    proven(world, r1, r2)
    world.copies = lambda datagram: (0.1,)
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    r1.pump()
    r1.kill()
    world.copies = lambda datagram: (0.005,)
    world.router('r1', policies('r1'), listens=False)
    # The old request overtakes nothing: it arrives after the new IKE_SA_INIT.
    world.run(5)
    assert not r2.core.state.connections
    assert not r2.peer.mkts
    assert not r2.peer.keyids.receiving


def test_key_is_dropped_when_the_peers_old_process_made_it() -> None:
    """The old process's answer is overtaken by the new IKE_SA_INIT, so the key is younger than
    that."""
    world = World()
    r1, r2 = two_routers(world)
    world.run(10)
    world.copies = lambda datagram: (2.5 * DELAY if datagram.local == R2 else DELAY,)
    ticket = r1.open('r1 ipv4 unicast', PAIR)
    world.run(DELAY)
    assert r2.listener_keys() == 1
    r2.kill()
    world.copies = lambda datagram: (DELAY,)
    r2 = world.router('r2', policies('r2'), listens=True)
    world.run(1)
    assert ticket.error is None
    assert [cause for _, cause in r1.closed] == ['the peer has restarted (INITIAL_CONTACT)']
    assert not r1.core.state.connections
    assert all(life.ended for life in r1.peer.mkts)
    open_both(r1)
    world.run(5)
    assert len(r1.sessions) == len(r2.sessions) == 2


def test_session_stays_when_a_rekey_meets_crossing_ike_sas() -> None:
    """Keys made under the one IKE SA, old and new, are not what the other one says is dead."""
    world = World()
    late = iter([0.3, 0.3])
    world.copies = lambda datagram: (
        (next(late, DELAY) if datagram.data[18] == ExchangeType.IKE_AUTH else DELAY),
    )
    r1, r2 = two_routers(world)
    open_both(r1)
    world.run(0.2)
    for session in FAMILIES:
        if f'r1 {session}' in r1.sessions:
            ask(r1.core.state, r1.connection(session), world.now)
    r1.pump()
    world.run(20)
    assert not r1.closed + r2.closed
    assert len(r1.sessions) == len(r2.sessions) == 2


def lose_ike_sas(router: Router, world: World) -> None:
    """Replace the IKE SAs that were up by a new one."""
    router.core.state.endpoint.replace_ike_sa(router.peer.pad.name, world.now)
    router.pump()


def test_key_leaves_the_listener_when_its_answer_cannot_go_out() -> None:
    world = World()
    r1, r2 = two_routers(world)
    world.run(10)
    r2.installer.hold()
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(1)
    lose_ike_sas(r2, world)
    r2.release()
    world.run(1)
    assert r2.listener_keys() == 0
    assert not r2.core.state.connections
    world.run(60)
    assert 'r2 ipv4 unicast' in r2.sessions


def test_late_request_makes_no_key_when_old_connection_stays() -> None:
    world = World()
    r1, r2 = two_routers(world)
    proven(world, r1, r2)
    lose_rsts(world)
    r2.busy = True
    r1.close(PAIR, silently=True)
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(1)
    assert r2.core.state.connections[PAIR.reversed()].replacement
    lose_ike_sas(r2, world)
    made = len(r2.keyed)
    r2.busy = False
    r2.pump()
    world.run(0.1)
    assert len(r2.keyed) == made
    assert not r2.core.state.connections
    world.network.deliver = lambda segment: True
    world.run(90)
    assert 'r2 ipv4 unicast' in r2.sessions


def test_successor_is_not_used_when_its_answer_cannot_go_out() -> None:
    world = World()
    r1, r2 = two_routers(world)
    proven(world, r1, r2)
    r2.busy = True
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    r1.pump()
    world.run(1)
    lose_ike_sas(r2, world)
    r2.busy = False
    r2.pump()
    world.run(1)
    assert r2.connection('ipv4 unicast').rotation is None
    assert r2.connection('ipv4 unicast').peers_successor is None
    assert len(r2.keys_on('ipv4 unicast')) == 1
    world.run(120)
    assert r1.connection('ipv4 unicast').rekeys == 1
    assert not r1.closed + r2.closed

"""Commands and their outcomes cross with everything else that happens."""

from __future__ import annotations

import pytest

from gatekeeper.engine.negotiated.rekeying import ask
from gatekeeper.state.connection import Phase
from gatekeeper.state.ticket import Ticket
from ikev2.events import Cause as IkeCause
from ikev2.events import IkeSaFailed
from tcpao.installer import Abort, AdapterDied, Cause, Install, KeyCounters, KeyState, Read
from tests.doubles.memory_network import Kind
from tests.gatekeeper.world import (
    Router,
    World,
    lose_rsts,
    open_both,
    pair_of,
    policies,
    two_routers,
    up,
)

PAIR = pair_of('ipv4 unicast')


@pytest.mark.parametrize('late', [0.01, 0.3, 2.0])
def test_session_comes_up_when_the_daemon_tells_late(late: float) -> None:
    world = World()
    r1, r2 = two_routers(world, lifetime=120)
    r1.late = r2.late = late
    open_both(r1)
    world.run(600)
    assert len(r1.sessions) == len(r2.sessions) == 2
    assert not r1.closed + r2.closed
    assert r1.connection('ipv4 unicast').rekeys >= 4


def test_connection_leaves_nothing_when_it_ends_during_install() -> None:
    world = World()
    r1, r2 = two_routers(world)
    r1.installer.hold()
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(1)
    r1.close(PAIR)
    r1.release()
    world.run(65)
    for router in (r1, r2):
        assert not router.core.state.connections
        assert not router.peer.mkts
    assert r2.listener_keys() == 0


def test_late_key_does_not_revive_an_ending_connection() -> None:
    world = World()
    r1, r2 = two_routers(world)
    r1.installer.hold()
    ticket = r1.open('r1 ipv4 unicast', PAIR)
    world.run(1)
    # The listening side gives up; r1's daemon is busy.
    (conn,) = r2.core.state.connections.values()
    r2.core.state.delete(conn.peer, [conn.mkt_in_use], world.now)
    r2.pump()
    r1.busy = True
    world.run(1)
    ours = r1.core.state.connections[PAIR]
    assert ours.phase is Phase.ENDING
    assert ticket.error is not None
    r1.release()
    assert ours.phase is Phase.ENDING
    r1.busy = False
    world.run(1)
    assert not r1.core.state.connections


def test_reading_is_ignored_when_its_phase_has_passed() -> None:
    world, r1, _ = up()
    before = r1.connection('ipv4 unicast').mkt_in_use
    r1.core.handle(KeyState(PAIR, None, None, (), 0, 0), world.now)
    r1.core.handle(KeyState(PAIR, 7, 7, (KeyCounters(7, 7, 9, 9),), 0, 0), world.now)
    r1.pump()
    world.run(1)
    assert r1.connection('ipv4 unicast').mkt_in_use is before


def test_second_request_answers_the_one_that_still_waits() -> None:
    world, r1, r2 = up()
    lose_rsts(world)
    r2.busy = True
    r1.kill()
    # Two restarts within the time in which r2's daemon closes the old connection.
    for _ in range(2):
        again = world.router('r1', policies('r1'), listens=False)
        again.open('r1 ipv4 unicast', PAIR)
        world.run(1)
        if not r2.core.state.connections[PAIR.reversed()].replacement:
            continue
        again.kill()
    r2.busy = False
    world.run(10)
    assert not r2.core.endpoint._context.pending


def test_connections_are_given_up_when_their_adapter_died() -> None:
    world = World()
    r1, r2 = two_routers(world)
    world.network.deliver = lambda segment: False
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(1)
    for router in (r1, r2):
        router.core.handle(AdapterDied('the reactor is gone'), world.now)
        router.pump()
    world.run(1)
    assert not r1.core.state.connections
    assert not r2.core.state.connections
    assert r2.listener_keys() == 0


def test_failures_of_others_do_not_put_off_our_attempts() -> None:
    world = World()
    world.lose = lambda datagram: True
    r1 = world.router('r1', policies('r1'), listens=False)
    world.run(31)
    for _ in range(300):
        r1.core.endpoint._context.emit(
            IkeSaFailed(r1.peer.pad.name, 'IKE_AUTH', IkeCause.AUTHENTICATION_FAILED, 'forged')
        )
        r1.core.handle_timer(world.now)
        world.run(0.5)
    sent = world.datagrams
    world.run(61)
    assert world.datagrams > sent
    assert len({note.details['detail'] for note in r1.noted('ike_init')}) == 1
    assert world.datagrams > 30


def test_waiter_learns_at_once_that_its_connection_is_given_up() -> None:
    world, r1, r2 = up()
    r1.close(PAIR)
    world.run(1)
    r1.installer.hold()
    r1.busy = True
    ticket = Ticket(lambda: None)
    r1.core.open('r1 ipv4 unicast', PAIR, ticket, world.now)
    r1.pump()
    world.run(1)
    r1.core.configure(policies('r1')[1:], world.now)
    assert ticket.done
    assert 'neighbor 10.0.0.2 session ipv4 unicast' in str(ticket.error)
    assert r2.sessions


# --- the peer says that it doesn't know our key -------------------------------------------------


def test_key_unknown_to_ike_stays_while_its_segments_are_good() -> None:
    world, r1, r2 = up(lifetime=600)
    r2.peer.mkts.clear()
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    r1.pump()
    world.run(20)
    assert 'r1 ipv4 unicast' in r1.sessions
    assert any('does not know the key' in str(note.details) for note in r1.noted('refused'))


def test_key_is_given_up_when_the_peer_does_not_know_it() -> None:
    world, r1, r2 = up(lifetime=600)
    r2.peer.mkts.clear()
    r2.socket('ipv4 unicast').vanish()
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    r1.pump()
    world.run(8)
    assert 'r1 ipv4 unicast' not in r1.sessions


def test_look_in_between_does_not_decide_the_doubt() -> None:
    world, r1, r2 = up(lifetime=600)
    r2.peer.mkts.clear()
    world.network.deliver = lambda segment: False
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    r1.pump()
    world.run(0.5)
    assert r1.connection('ipv4 unicast').doubt is not None
    r1.core.state.command(Read(PAIR))
    r1.pump()
    world.network.deliver = lambda segment: True
    world.run(10)
    assert 'r1 ipv4 unicast' in r1.sessions


def test_aborts_are_told_once_for_each_cause() -> None:
    world, r1, r2 = up()
    r2.busy = True
    lose_rsts(world)
    r1.kill()
    world.router('r1', policies('r1'), listens=False)
    world.run(2)
    aborts = [c for c in r2._waiting if isinstance(c, Abort)]
    assert len(aborts) == 2


def test_attempt_ends_when_its_key_is_refused() -> None:
    world = World()
    r1, _ = two_routers(world)
    r1.installer.refuse_next(Install, Cause.KEYID_IN_USE)
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(2)
    (install,) = [c for c in r1.installer.submitted if isinstance(c, Install)]
    from tcpao.installer import Done

    r1.core.handle(Done(install), world.now)
    assert not r1.core.state.connections


def restart_while_the_first_child_waits(late: float) -> tuple[World, Router, Router]:
    """r1 came up and was killed before r2's daemon has looked; now it asks for the pair again."""
    world = World()
    r1, r2 = two_routers(world)
    r1.open('r1 ipv4 unicast', PAIR)
    while not r2.listener_keys():
        world.run(0.001)
    r2.busy = True
    while not r1.proving and not r1.sessions:
        world.run(0.001)
    lose_rsts(world)
    r1.kill()
    world.network.deliver = lambda segment: True
    r1 = world.router('r1', policies('r1'), listens=False)
    world.run(0.5)
    r2.late = late
    return world, r1, r2


@pytest.mark.parametrize('late', [0.001, 0.02, 0.1, 0.5])
def test_older_keys_child_does_not_take_the_new_key_with_it(late: float) -> None:
    world, r1, r2 = restart_while_the_first_child_waits(late)
    r2.busy = False
    r2.pump()
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(5)
    assert not r1.errors
    assert r1.sessions['r1 ipv4 unicast'] == PAIR
    assert r2.sessions['r2 ipv4 unicast'] == PAIR.reversed()
    assert not r2.core.state.strays


def test_older_keys_child_is_disowned_when_read_under_the_new() -> None:
    world, r1, r2 = restart_while_the_first_child_waits(0.0)
    world.network.deliver = lambda segment: segment.kind is not Kind.SYN
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(0.5)
    assert r2.listener_keys() == 1
    r2.busy = False
    world.run(0.1)
    assert any('does not hold the key' in error for error in r2.errors)
    assert r2.listener_keys() == 1
    world.network.deliver = lambda segment: True
    world.run(3)
    assert not r1.errors
    assert r2.sessions['r2 ipv4 unicast'] == PAIR.reversed()

"""DELETE from the peer, whatever our side is doing at that moment."""

from __future__ import annotations

from gatekeeper.engine.negotiated.rekeying import ask
from gatekeeper.state.connection import Phase
from tcpao.installer import SetRNext
from tests.doubles.memory_network import Segment
from tests.gatekeeper.world import (
    Router,
    World,
    lose_rsts,
    pair_of,
    two_routers,
    up,
)

PAIR = pair_of('ipv4 unicast')


def rekey(router: Router) -> None:
    ask(router.core.state, router.connection('ipv4 unicast'), router.world.now)
    router.pump()


def test_connection_ends_here_when_closed_during_a_rotation() -> None:
    world, r1, r2 = up()
    world.network.deliver = lambda segment: False
    rekey(r1)
    world.run(1)
    assert r1.connection('ipv4 unicast').rotation
    assert r2.connection('ipv4 unicast').rotation
    r1.close(PAIR)
    world.run(7)
    assert 'r2 ipv4 unicast' not in r2.sessions
    assert 'r2 ipv6 unicast' in r2.sessions


def test_connection_ends_here_when_closed_during_our_rekey() -> None:
    world, r1, r2 = up()
    lose_rsts(world)
    rekey(r2)
    r1.close(PAIR)
    world.run(7)
    assert 'r2 ipv4 unicast' not in r2.sessions
    assert PAIR.reversed() not in r2.core.state.connections


def until_held_in_proof(world: World, r1: Router, r2: Router) -> None:
    """TCP is up, and r2's daemon is slow to read the socket."""
    r1.open('r1 ipv4 unicast', PAIR)
    while not r2.listener_keys():
        world.run(0.001)
    r2.installer.hold()
    while r2.core.state.connections[PAIR.reversed()].phase is not Phase.PROVING:
        world.run(0.001)


def test_next_key_is_undisturbed_when_one_is_deleted_in_proof() -> None:
    world = World()
    r1, r2 = two_routers(world)
    until_held_in_proof(world, r1, r2)
    r1.close(PAIR)
    world.run(0.1)
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(0.1)
    r2.release()
    world.run(3)
    assert r1.sessions['r1 ipv4 unicast'] == PAIR
    assert r2.sessions['r2 ipv4 unicast'] == PAIR.reversed()
    assert not r1.errors


def test_successor_is_not_used_when_deleted_before_its_install() -> None:
    world, r1, r2 = up(grace=5)
    r1.busy = True
    rekey(r1)
    # r2 gives its rotation up and deletes the successor.
    while not r2.peer.deletes:
        world.run(0.01)
    (deleted,) = next(iter(r2.peer.deletes.values()))
    world.run(0.5)
    r1.busy = False
    world.run(0.5)
    assert deleted.recv_id not in [
        c.mkt.send_id for c in r1.installer.submitted if isinstance(c, SetRNext)
    ]
    world.run(120)
    assert not r1.closed
    assert not r2.closed
    assert r1.connection('ipv4 unicast').rekeys >= 1


def test_roll_back_ends_when_the_old_key_is_deleted() -> None:
    world, r1, r2 = up(grace=10)
    (old,) = r1.keys_on('ipv4 unicast')
    rekey(r1)
    while not r1.connection('ipv4 unicast').rotation:
        world.run(0.001)

    def old_only_to_r2(segment: Segment) -> bool:
        return segment.pair.remote_port != 179 or segment.key_id == old[0]

    # r2 sees r1's wish for the new key, and nothing under it; r1 is done, and can't say so.
    world.network.deliver = old_only_to_r2
    world.lose = lambda datagram: True
    world.run(11)
    assert r1.connection('ipv4 unicast').rekeys == 1
    rotation = r2.connection('ipv4 unicast').rotation
    assert rotation
    assert rotation.rolling_back
    world.lose = lambda datagram: False
    world.network.deliver = lambda segment: True
    world.run(15)
    assert r2.connection('ipv4 unicast').rekeys == 1
    world.run(65)
    assert len(r1.keys_on('ipv4 unicast')) == 1
    assert r2.keys_on('ipv4 unicast') == [pair[::-1] for pair in r1.keys_on('ipv4 unicast')]

"""The hard lifetime is a promise: in every phase, through suspensions, whatever the peer says."""

from __future__ import annotations

from dataclasses import replace

from gatekeeper.clock import LATE
from gatekeeper.engine.negotiated.rekeying import ask
from gatekeeper.policy.sessions import by_peer
from tests.doubles.memory_network import Kind, Segment
from tests.gatekeeper.world import World, open_both, pair_of, policies, two_routers, up

PAIR = pair_of('ipv4 unicast')


def watch(world: World, *, deliver: bool = True) -> list[tuple[float, Kind]]:
    """Every segment from now on, with its time."""
    seen: list[tuple[float, Kind]] = []

    def pass_on(segment: Segment) -> bool:
        seen.append((world.network.now, segment.kind))
        return deliver

    world.network.deliver = pass_on
    return seen


def test_expired_key_sends_no_syn() -> None:
    world = World()
    r1, _ = two_routers(world, lifetime=15, timeout=60)
    world.run(1)
    seen = watch(world, deliver=False)
    r1.open('r1 ipv4 unicast', PAIR)
    begin = world.now
    world.run(60)
    assert seen
    assert max(when for when, _ in seen) <= begin + 15.1
    assert not r1.core.state.connections


def test_expired_key_admits_no_syn_at_a_listener() -> None:
    world = World()
    r1, r2 = two_routers(world, lifetime=15)
    world.network.deliver = lambda segment: False
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(14)
    assert r2.listener_keys() == 1
    world.run(2)
    assert r2.listener_keys() == 0


def test_key_protects_nothing_when_it_expires_during_the_proof() -> None:
    world = World()
    r1, r2 = two_routers(world, lifetime=15)
    r1.open('r1 ipv4 unicast', PAIR)
    r1.late = 0.02
    while r1.sockets and not r1.proving:
        world.run(0.001)
    r1.busy = True
    world.run(20)
    r1.busy = False
    world.run(1)
    assert not r1.sessions
    assert not r2.sessions


def test_peers_lifetime_counts_from_the_floor_on() -> None:
    world = World()
    r1, r2 = two_routers(world, lifetime=600)
    state = r2.core.state
    state.policies = {key: replace(one, lifetime=1) for key, one in state.policies.items()}
    state.sessions_of = by_peer(state.policies.values())
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(3)
    assert r1.connection('ipv4 unicast').mkt_in_use.lifetime == 15


def test_session_is_aborted_when_an_old_key_ended_unseen() -> None:
    """Another key is in use by then; what came may have been signed under the old one."""
    world, r1, _ = up(lifetime=15)
    connection = r1.connection('ipv4 unicast')
    while not connection.retiring:
        world.run(0.1)
    (old,) = connection.retiring
    world.suspend(old.hard_at + 2 * LATE - world.now)
    seen = watch(world)
    world.run(1)
    assert Kind.DATA not in [kind for _, kind in seen]
    causes = [str(note.details['cause']) for note in r1.noted('refused')]
    assert 'a key ended while this process was paused' in causes


def test_session_is_aborted_silently_when_it_slept_too_long() -> None:
    world, r1, r2 = up(lifetime=3600)
    world.suspend(3 * 3600)
    seen = watch(world)
    world.run(1)
    assert {kind for _, kind in seen} <= {Kind.RST}
    assert not r1.sessions
    assert not r2.sessions
    world.network.deliver = lambda segment: True
    world.run(120)
    open_both(r1)
    world.run(40)
    assert len(r1.sessions) == len(r2.sessions) == 2


def test_nothing_is_left_when_sessions_sleep_during_a_rotation() -> None:
    world, r1, r2 = up(lifetime=3600)
    for router in (r1, r2):
        ask(router.core.state, router.connection('ipv4 unicast'), world.now)
        router.pump()
    world.run(0.012)
    world.suspend(3 * 3600)
    world.run(200)
    for router in (r1, r2):
        assert not router.sessions
        assert not router.core.state.connections
        assert not router.peer.mkts


def test_suspension_within_the_lifetime_does_no_harm() -> None:
    world, r1, r2 = up(lifetime=3600)
    world.suspend(3300)
    world.run(3600)
    assert not r1.closed
    assert not r2.closed
    assert r1.connection('ipv4 unicast').rekeys >= 1


def test_successor_is_given_up_when_it_expires_before_the_old() -> None:
    world, r1, r2 = up(lifetime=600, grace=60)
    for router in (r1, r2):
        wanted = policies(router.name, lifetime=15, grace=60)
        router.core.configure(wanted, world.now)
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    r1.pump()
    while not r1.connection('ipv4 unicast').rotation:
        world.run(0.001)
    new = r1.connection('ipv4 unicast').rotation.new  # type: ignore[union-attr]
    late: list[Kind] = []

    def under_the_new_one(segment: Segment) -> bool:
        found = segment.key_id in (new.send_id, new.recv_id)
        if found and world.network.now > new.hard_at + 0.1:
            late.append(segment.kind)
        return found

    # Both sides sign under the successor, and neither receives the other's under it.
    world.network.deliver = lambda segment: not under_the_new_one(segment)
    world.run(17)
    for router in (r1, r2):
        assert 'has expired' in str([note.details for note in router.noted('refused')])
    world.network.deliver = lambda segment: under_the_new_one(segment) or True
    world.run(60)
    assert not late
    assert not r1.closed
    assert not r2.closed
    assert r1.connection('ipv4 unicast').rekeys >= 1


def test_old_key_goes_at_its_lifetime_when_it_is_current_again() -> None:
    world, r1, r2 = up(lifetime=100)
    old = r1.connection('ipv4 unicast').mkt_in_use
    while not r1.connection('ipv4 unicast').retiring:
        world.run(0.1)
    r1.late = r2.late = 3.0
    late: list[Segment] = []

    def pass_on(segment: Segment) -> bool:
        ids = (old.send_id, old.recv_id)
        if world.network.now > old.hard_at + 0.1 and segment.key_id in ids:
            late.append(segment)
        return True

    world.network.deliver = pass_on
    for _ in range(40):
        # The peer asks for the old key again, for whatever reason.
        socket = r2.socket('ipv4 unicast')
        if any(key.recv_id == old.send_id for key in socket.read().keys):  # type: ignore[union-attr]
            socket.set_rnext(old.send_id)
            socket.send(b'update')
        world.run(1)
    assert not late
    assert not r1.closed
    assert not r2.closed

"""Restarts, deletes, replacements, changes of policy."""

from __future__ import annotations

import pytest

from tests.gatekeeper.world import (
    FAMILIES,
    R1,
    R2,
    World,
    lose_rsts,
    open_both,
    pair_of,
    policies,
    up,
)


def test_killed_opener_is_back_at_once_with_the_same_ports() -> None:
    world, r1, r2 = up()
    lose_rsts(world)
    r1.kill()
    again = world.router('r1', policies('r1'), listens=False)
    open_both(again)
    world.run(5)
    assert set(again.sessions) == {f'r1 {name}' for name in FAMILIES}
    assert set(r2.sessions) == {f'r2 {name}' for name in FAMILIES}


def test_killed_listener_is_back_at_once() -> None:
    world, r1, r2 = up()
    lose_rsts(world)
    r2.kill()
    world.router('r2', policies('r2'), listens=True)
    world.run(5)
    # INITIAL_CONTACT ended r1's old connections; the daemon opens them again.
    assert not r1.sessions
    open_both(r1)
    world.run(5)
    assert set(r1.sessions) == {f'r1 {name}' for name in FAMILIES}


def test_new_request_aborts_the_old_connection_of_its_pair() -> None:
    world, r1, r2 = up()
    lose_rsts(world)
    pair = pair_of('ipv4 unicast')
    survivor = r2.socket('ipv4 unicast')
    # The opener's socket is gone and its DELETE is lost: the survivor knows of nothing.
    world.lose = lambda datagram: True
    r1.close(pair)
    world.lose = lambda datagram: False
    r1.open('r1 ipv4 unicast', pair)
    world.run(8)
    assert survivor.is_dead()
    assert r1.sessions['r1 ipv4 unicast'] == pair
    assert r2.sessions['r2 ipv4 unicast'] == pair.reversed()


def test_delete_of_the_only_key_ends_a_silent_connection() -> None:
    world, r1, r2 = up()
    lose_rsts(world)
    r1.close(pair_of('ipv4 unicast'))
    world.run(4)
    assert 'r2 ipv4 unicast' in r2.sessions
    world.run(3)
    assert 'r2 ipv4 unicast' not in r2.sessions
    assert 'r2 ipv6 unicast' in r2.sessions


def test_delete_goes_out_after_tcp_ended() -> None:
    world, r1, _ = up()
    before = world.datagrams
    world.run(1)
    assert world.datagrams == before
    r1.close(pair_of('ipv4 unicast'))
    r1.pump()
    assert world.datagrams == before + 1


def test_lost_ike_sa_removes_no_key() -> None:
    world, r1, r2 = up()
    (name,) = r1.core.state.peers
    r1.core.endpoint.replace_ike_sa(name, world.now)
    r1.pump()
    world.run(30)
    assert len(r1.sessions) == len(r2.sessions) == 2
    assert not r1.closed
    assert not r2.closed


def test_lost_delete_is_sent_again_under_the_next_ike_sa() -> None:
    world, r1, r2 = up()
    world.lose = lambda datagram: True
    r1.close(pair_of('ipv4 unicast'))
    world.run(120)
    world.lose = lambda datagram: False
    # A minute of backoff at most, and a minute more in which the ids linger.
    world.run(180)
    (peer,) = r2.core.state.peers.values()
    assert len(peer.mkts) == 1
    assert not r1.core.state.peers[next(iter(r1.core.state.peers))].undeleted


def test_removed_session_is_closed_and_the_other_stays() -> None:
    world, r1, _ = up()
    r1.core.configure(policies('r1')[:1], world.now)
    r1.pump()
    world.run(1)
    assert set(r1.sessions) == {'r1 ipv4 unicast'}


def test_new_lifetime_does_not_touch_the_running_session() -> None:
    world, r1, _ = up()
    r1.core.configure(policies('r1', lifetime=1200), world.now)
    r1.pump()
    world.run(1)
    assert len(r1.sessions) == 2
    assert r1.connection('ipv4 unicast').policy.lifetime == 1200


def test_policy_that_forbids_the_running_algorithm_ends_it() -> None:
    world, r1, _ = up(algorithms=('hmac-sha-1-96', 'aes-128-cmac-96'))
    r1.core.configure(policies('r1', algorithms=('aes-128-cmac-96',)), world.now)
    r1.pump()
    world.run(1)
    assert not r1.sessions


def test_configuration_changes_nothing_when_it_cannot_be_served() -> None:
    world, r1, _ = up()
    with pytest.raises(ValueError, match='shorter than'):
        r1.core.configure(policies('r1', lifetime=1), world.now)
    world.run(1)
    assert len(r1.sessions) == 2
    assert len(r1.core.state.policies) == 2


def test_removed_peer_leaves_no_state() -> None:
    world, r1, _ = up()
    r1.core.configure([], world.now)
    r1.pump()
    world.run(200)
    state = r1.core.state
    assert not state.connections
    assert not state.peers
    assert not state.policies
    assert state.deadlines.next() is None


def test_one_ike_sa_is_left_when_two_gatekeepers_start_at_once() -> None:
    world = World()
    r2 = world.router('r2', policies('r2'), listens=True)
    r1 = world.router('r1', policies('r1'), listens=False)
    world.run(120)
    for router in (r1, r2):
        assert all(peer.up for peer in router.core.state.peers.values())
    open_both(r1)
    world.run(5)
    assert len(r1.sessions) == len(r2.sessions) == 2


def test_each_connection_has_its_own_key_when_both_ends_open() -> None:
    from dataclasses import replace

    from tcpao.mkt import SocketPair

    world = World()
    both = [
        [replace(p, connect_port=179, listen_port=179, source_port=None, peer_port=None) for p in w]
        for w in (policies('r1'), policies('r2'))
    ]
    r1 = world.router('r1', both[0], listens=True)
    r2 = world.router('r2', both[1], listens=True)
    r1.open('r1 ipv4 unicast', SocketPair(R1, 50001, R2, 179))
    r2.open('r2 ipv4 unicast', SocketPair(R2, 50002, R1, 179))
    world.run(5)
    assert len(r1.core.state.connections) == len(r2.core.state.connections) == 2
    keys = {tuple(socket.read().keys[0:1]) for socket in r1.sockets.values()}  # type: ignore[union-attr]
    assert len(keys) == 2

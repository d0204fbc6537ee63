"""Sessions under a policy with additional key exchanges: keys that come after the first answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatekeeper.state.mkt_record import MktState
from ikev2.authentication.ppk import Ppk
from ikev2.constants import ExchangeType
from ikev2.events import Datagram
from ikev2.proposals.policies import POLICIES
from ikev2.wire.message import Header
from keymaterial import Secret
from tests.gatekeeper.world import Router, World, pair_of, policies

NAME = 'ipv4 unicast'
LIFETIME = 60


def routers(world: World, policy: str = 'hybrid', ppk: Ppk | None = None) -> tuple[Router, Router]:
    """Both under one policy."""
    pair = []
    for name in ('r1', 'r2'):
        wanted = [
            replace(one, pad=replace(one.pad, ike_policy=POLICIES[policy], ppk=ppk))
            for one in policies(name, lifetime=LIFETIME)
            if one.pad
        ]
        pair.append(world.router(name, wanted, listens=name == 'r2'))
    return pair[0], pair[1]


def up(world: World, policy: str = 'hybrid') -> tuple[Router, Router]:
    r1, r2 = routers(world, policy)
    r1.open('r1 ipv4 unicast', pair_of(NAME))
    world.run(5)
    assert r1.sessions
    assert r2.sessions
    return r1, r2


def follow_up(datagram: Datagram) -> bool:
    """An IKE_FOLLOWUP_KE, request or answer."""
    return Header.decode(datagram.data).exchange_type == ExchangeType.IKE_FOLLOWUP_KE


@pytest.mark.parametrize('policy', ['hybrid', 'hybrid-optional', 'cnsa-2'])
def test_session_comes_up_and_is_rekeyed_for_long(policy: str) -> None:
    world = World()
    r1, r2 = up(world, policy)
    world.run(20 * LIFETIME)
    assert not r1.closed
    assert not r2.closed
    assert r1.connection(NAME).rekeys >= 20
    in_use = r1.connection(NAME).mkt_in_use
    assert (in_use.recv_id, in_use.send_id) in r2.keys_on(NAME)


def test_post_quantum_pre_shared_key_reaches_ike() -> None:
    world = World()
    r1, r2 = routers(world, 'default', Ppk('lab', Secret(b'one that both have')))
    world.run(2)
    assert all(peer.up for router in (r1, r2) for peer in router.core.state.peers.values())
    assert any(peer.ike.ppk for peer in r1.core.state.peers.values())


def test_opener_leaves_nothing_behind_when_it_never_goes_on() -> None:
    world = World()
    r1, r2 = routers(world)
    world.run(1)
    (peer,) = r2.core.state.peers.values()
    free = set(peer.keyids.receiving), len(peer.mkts)
    world.lose = follow_up
    r1.open('r1 ipv4 unicast', pair_of(NAME))
    world.run(0.5)
    assert [life.state for life in peer.mkts] == [MktState.REQUESTED]
    assert peer.keyids.receiving > free[0]
    r1.kill()
    world.run(200)
    assert (set(peer.keyids.receiving), len(peer.mkts)) == free
    assert not r2.core.state.connections
    assert r2.listener_keys() == 0


def test_session_comes_up_later_when_its_exchange_was_cut_off() -> None:
    world = World()
    r1, r2 = routers(world)
    world.run(1)
    world.lose = follow_up
    ticket = r1.open('r1 ipv4 unicast', pair_of(NAME))
    world.run(40)
    assert ticket.done
    assert not r1.sessions
    world.lose = lambda datagram: False
    world.run(60)
    r1.open('r1 ipv4 unicast', pair_of(NAME))
    world.run(10)
    assert r1.sessions
    assert r2.sessions


def test_cut_off_rekey_is_tried_again_and_nothing_flaps() -> None:
    world = World()
    r1, r2 = up(world)
    before = [life.name for life in r1.connection(NAME).mkts()]
    world.lose = follow_up
    world.run(45)
    assert r1.connection(NAME).rekeys == 0
    world.lose = lambda datagram: False
    world.run(LIFETIME)
    assert r1.connection(NAME).rekeys >= 1
    assert [life.name for life in r1.connection(NAME).mkts()] != before
    assert not r1.closed
    assert not r2.closed


def test_ids_are_freed_whatever_is_lost() -> None:
    """A quarter of all datagrams, an hour, rekeys every minute."""
    world = World(seed=3)
    r1, r2 = up(world)
    world.lose = lambda datagram: world.random.random() < 0.25
    world.run(1800)
    world.lose = lambda datagram: False
    world.run(400)
    for router in (r1, r2):
        (peer,) = router.core.state.peers.values()
        alive = [life for life in peer.mkts if not life.ended]
        assert len(alive) <= 3
        assert len(peer.keyids.receiving) <= 6

"""Both ends rekey at once, in every order of what arrives and what is installed when."""

from __future__ import annotations

from itertools import product

import pytest

from gatekeeper.engine.negotiated.rekeying import ask
from ikev2.events import Datagram
from tcpao.installer import Cause, Install
from tests.gatekeeper.world import R1, Router, World, pair_of, two_routers


def up(seed: int) -> tuple[World, Router, Router]:
    """One session, up; its IKE SAs have come to rest."""
    world = World(seed=seed)
    r1, r2 = two_routers(world, lifetime=900)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(20)
    assert r1.sessions
    assert r2.sessions
    return world, r1, r2


def begin(*routers: Router) -> None:
    for router in routers:
        ask(router.core.state, router.connection('ipv4 unicast'), router.world.now)
        router.pump()


def check(world: World, r1: Router, r2: Router, within: float = 100) -> None:
    world.run(within)
    for router in (r1, r2):
        conn = router.connection('ipv4 unicast')
        assert conn.rekeys >= 1
        assert conn.requested_successor is None
        assert conn.peers_successor is None
        assert conn.rotation is None
        assert not router.closed
        assert [life.name for life in router.peer.mkts] == [conn.mkt_in_use.name]
    one, two = r1.keys_on('ipv4 unicast'), r2.keys_on('ipv4 unicast')
    assert len(one) == 1
    assert two == [pair[::-1] for pair in one]


# Seconds on the way: request and answer of r1's exchange, of r2's; how late a daemon is.
DELAYS = (0.005, 0.3)
LATE = (0.0, 0.1, 0.7)


@pytest.mark.parametrize('late', list(product(LATE, repeat=2)))
@pytest.mark.parametrize('delays', list(product(DELAYS, repeat=4)))
def test_one_successor_is_left(delays: tuple[float, ...], late: tuple[float, ...]) -> None:
    world, r1, r2 = up(seed=int(sum(d > 0.1 for d in delays)))
    from_r1 = [delays[0], delays[3]]
    from_r2 = [delays[2], delays[1]]

    def copies(datagram: Datagram) -> tuple[float, ...]:
        left = from_r1 if datagram.local == R1 else from_r2
        return (left.pop(0) if left else 0.005,)

    world.copies = copies
    r1.late, r2.late = late
    begin(r1, r2)
    check(world, r1, r2)


@pytest.mark.parametrize('refused', ['r1 r1', 'r2 r2', 'r1', 'r2', 'r1 r2'])
@pytest.mark.parametrize('seed', range(4))
def test_other_or_later_key_is_left_when_keys_are_refused(refused: str, seed: int) -> None:
    world, r1, r2 = up(seed)
    for name in refused.split():
        (r1 if name == 'r1' else r2).installer.refuse_next(Install, Cause.NO_MEMORY)
    begin(r1, r2)
    check(world, r1, r2, 200)


@pytest.mark.parametrize('seed', range(4))
def test_our_key_is_used_when_the_peers_cannot_be_installed(seed: int) -> None:
    world, r1, r2 = up(seed)
    r1.installer.hold()
    begin(r1, r2)
    world.run(1)
    conn = r1.connection('ipv4 unicast')
    assert conn.requested_successor
    assert conn.peers_successor
    # Ours is installed, then the peer's is refused.
    held = r1.installer._held
    assert held is not None
    installs = [command for command in held if isinstance(command, Install)]
    held.clear()
    held.extend(sorted(installs, key=lambda c: c.mkt.identity != conn.requested_successor.name))  # type: ignore[union-attr]
    first = held.popleft()
    rest = list(held)
    held.clear()
    r1.release()
    r1._submit(first)
    r1.installer.refuse_next(Install, Cause.NO_MEMORY)
    for command in rest:
        r1._submit(command)
    r1.pump()
    world.run(20)
    assert r1.connection('ipv4 unicast').rekeys == 1
    check(world, r1, r2, 200)


@pytest.mark.parametrize('seed', range(6))
def test_one_successor_is_left_when_an_ike_sa_is_lost_between(seed: int) -> None:
    world, r1, r2 = up(seed)
    lost: list[Datagram] = []

    def lose(datagram: Datagram) -> bool:
        # Requests arrive, answers don't.
        if datagram.data[19] & 0x20:
            lost.append(datagram)
            return True
        return False

    world.lose = lose
    begin(r1, r2)
    world.run(0.2)
    assert lost
    world.lose = lambda datagram: False
    for router in (r1, r2)[seed % 2 :]:
        router.core.endpoint.replace_ike_sa(router.peer.pad.name, world.now)
        router.pump()
    check(world, r1, r2, 400)

"""Lifetimes by volume: a key is replaced, or ends its session, for what it has protected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatekeeper.policy.volume import Volume
from gatekeeper.state.limits import CEASE_BEFORE, SPENT_FOR, VOLUME_READS
from gatekeeper.state.snapshot import snapshot
from tcpao.installer import Read
from tests.gatekeeper.world import Router, World, up

SESSION = 'ipv4 unicast'
SEGMENTS, OCTETS = 1000, 100_000
PATIENCE = 4 * VOLUME_READS[1]
"""Until the reading after which a successor is in use."""


def send(world: World, router: Router, octets: int, *, pieces: int = 1) -> None:
    """Send that many octets in as many segments, and let the peer acknowledge them."""
    for _ in range(pieces):
        router.socket(SESSION).send(bytes(octets // pieces))
    world.run(0)


def rekeys(*routers: Router) -> list[int]:
    return [router.connection(SESSION).rekeys for router in routers]


@pytest.mark.parametrize('volume', [Volume(octets=OCTETS), Volume(SEGMENTS, OCTETS)])
def test_key_is_replaced_when_most_octets_are_used(volume: Volume) -> None:
    world, r1, r2 = up(volume=volume)
    send(world, r1, OCTETS * 85 // 100)
    world.run(PATIENCE)
    assert rekeys(r1, r2) == [1, 1]
    assert not r1.closed


def test_key_is_replaced_when_most_segments_are_used() -> None:
    world, r1, r2 = up(volume=Volume(segments=SEGMENTS))
    send(world, r1, SEGMENTS, pieces=SEGMENTS * 85 // 200)
    world.run(PATIENCE)
    assert rekeys(r1, r2) == [1, 1]


def test_key_stays_when_little_of_its_volume_is_used() -> None:
    world, r1, r2 = up(volume=Volume(octets=OCTETS))
    send(world, r1, OCTETS // 2)
    world.run(PATIENCE)
    assert rekeys(r1, r2) == [0, 0]


def test_volume_counts_from_the_successor_when_replaced() -> None:
    world, r1, r2 = up(volume=Volume(octets=OCTETS))
    for expected in (1, 2, 3):
        send(world, r1, OCTETS * 85 // 100)
        world.run(PATIENCE)
        assert rekeys(r1, r2) == [expected, expected]


def test_rekey_is_due_by_time_when_volume_is_unused() -> None:
    world, r1, r2 = up(volume=Volume(octets=OCTETS), lifetime=60)
    world.run(60)
    assert min(rekeys(r1, r2)) >= 1


def test_burst_beyond_the_volume_ends_no_session() -> None:
    """A burst between two readings, of several volumes; its key is replaced at once."""
    world, r1, r2 = up(volume=Volume(octets=OCTETS))
    send(world, r1, 5 * OCTETS)
    world.run(PATIENCE)
    assert rekeys(r1, r2) == [1, 1]
    assert not r1.closed


def test_session_ends_when_volume_is_spent_without_ike() -> None:
    world, r1, r2 = up(volume=Volume(octets=OCTETS))
    world.lose = lambda _: True
    send(world, r1, OCTETS)
    world.run(VOLUME_READS[1] + SPENT_FOR - CEASE_BEFORE)
    assert not r1.sessions.keys() & {f'r1 {SESSION}'}
    (cause,) = {cause for _, cause in r1.closed + r2.closed if 'volume' in cause}
    assert 'lifetime by volume reached without a successor' in cause
    row = next(row for row in snapshot(r1.core.state, world.now) if row['session'] == SESSION)
    assert 'lifetime by volume' in str(row['last_error'])


def test_connection_is_not_read_when_it_has_no_volume() -> None:
    world, r1, _ = up()
    r1.installer.submitted.clear()
    world.run(10 * VOLUME_READS[1])
    assert not [one for one in r1.installer.submitted if isinstance(one, Read)]


def test_volume_is_in_force_when_a_reload_adds_it() -> None:
    world, r1, r2 = up()
    wanted = [replace(one, volume=Volume(octets=OCTETS)) for one in r1.core.state.policies.values()]
    r1.core.configure(wanted, world.now)
    send(world, r1, OCTETS)
    world.run(PATIENCE)
    assert rekeys(r1, r2) == [1, 1]

"""IKE from an address that is no neighbor's is told, and not too often."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from gatekeeper.engine.negotiated.unknown_sources import MAX_UNKNOWN_SOURCES, TOLD_AGAIN_AFTER
from ikev2.events import Datagram
from tests.gatekeeper.world import R1, R2, Router, World, policies
from tests.ikev2.bench import turned


def call(world: World, router: Router, address: str) -> None:
    """A true IKE_SA_INIT, from there."""
    seen: list[Datagram] = []

    def catch(datagram: Datagram) -> bool:
        seen.append(datagram)
        return True

    other = World(lose=catch)
    other.router('r1', policies('r1'), listens=False)
    forged = replace(turned(seen[0]), remote=ip_address(address), local=R2)
    router.core.receive_datagram(forged, world.now)
    router.pump()


def listening() -> tuple[World, Router]:
    world = World()
    return world, world.router('r2', policies('r2'), listens=True)


def told(router: Router) -> list[str]:
    return [str(note.details['cause']) for note in router.noted('refused')]


def test_unknown_source_is_told_once_an_hour() -> None:
    world, r2 = listening()
    for _ in range(3):
        call(world, r2, '10.0.0.99')
    assert told(r2) == ['10.0.0.99 asks 10.0.0.2 for IKE, and is no address of a neighbor here']
    world.run(TOLD_AGAIN_AFTER)
    call(world, r2, '10.0.0.99')
    assert sum('10.0.0.99' in one for one in told(r2)) == 2


def test_unknown_sources_do_not_fill_a_log() -> None:
    world, r2 = listening()
    for number in range(100):
        call(world, r2, f'10.1.0.{number}')
    assert len(told(r2)) == MAX_UNKNOWN_SOURCES


def test_neighbor_is_no_unknown_source() -> None:
    world, r2 = listening()
    call(world, r2, str(R1))
    assert told(r2) == []

"""A probe with the identity and address of a router that runs: its sessions notice nothing."""

from __future__ import annotations

import random

from gatekeeper.reporting.events import EventName
from tests.gatekeeper.prober import Beside, a_probe, a_request, near
from tests.gatekeeper.world import FAMILIES, Router, World, policies, up

LIFETIME = 600


def routers() -> tuple[World, Router, Router]:
    """Two sessions are up, whose source ports are not pinned."""
    return up(peer_port=None, lifetime=LIFETIME)


def beside(world: World, *, key: bool = True, seed: int = 1) -> Beside:
    credential = policies('r1')[0].entry.local_credential
    peer = near(credential=credential, remote_credential=credential)
    request = a_request() if key else None
    return Beside(world, a_probe(peer, request, random=random.Random(seed).randbytes))


def finish(prober: Beside, world: World) -> None:
    world.run(2)
    assert prober.probe.done
    world.routers.remove(prober)  # type: ignore[arg-type]


def running(r1: Router, r2: Router) -> dict[str, list[tuple[int, int]]]:
    """Keys on both sessions' sockets, which must be up."""
    return {f'{r.name} {name}': r.keys_on(name) for r in (r1, r2) for name in FAMILIES}


def test_probe_changes_nothing_at_the_peer() -> None:
    world, r1, r2 = routers()
    before = running(r1, r2)
    for key in (False, True):
        prober = beside(world, key=key)
        finish(prober, world)
        assert prober.probe.proven, prober.text()
    assert running(r1, r2) == before
    assert r2.listener_keys() == 0
    assert r1.closed == r2.closed == []
    # Ids of the probe's key are free again when its segments can't come any more.
    world.run(120)
    assert {life.recv_id for life in r2.peer.mkts} == {
        recv for name in FAMILIES for _, recv in r2.keys_on(name)
    }


def test_router_rekeys_after_the_probe_as_before() -> None:
    world, r1, r2 = routers()
    before = running(r1, r2)
    finish(beside(world), world)
    world.run(2 * LIFETIME)
    after = running(r1, r2)
    assert all(after[name] and not set(after[name]) & set(before[name]) for name in before)
    assert r1.closed == r2.closed == []


def test_rekey_is_only_delayed_when_a_probe_hangs() -> None:
    """The probe stands still with its IKE SA up, as if its host slept, and never sends a Delete."""
    world, r1, r2 = routers()
    prober = beside(world)
    world.run(0.03)
    prober.held = True
    world.run(2 * LIFETIME)
    assert r1.closed == r2.closed == []
    assert len(running(r1, r2)) == 4
    assert all(running(r1, r2).values())


def test_routers_delete_reaches_it_when_the_probe_receives_it() -> None:
    world, r1, r2 = routers()
    prober = beside(world)
    while not prober.steps or prober.steps[-1].exchange != 'IKE_AUTH':
        world.run(0.001)
    world.run(0.006)  # the peer has its IKE_AUTH: the probe's was the last that it received
    prober.held = True
    name = next(iter(FAMILIES))
    pair = r2.sessions[f'r2 {name}']
    (key,) = r2.keys_on(name)
    r2.close(pair, silently=True)  # no RST: only IKE can tell r1
    world.run(0.5)
    prober.go_on()
    world.run(10)
    assert prober.probe.done
    assert f'r1 {name}' not in r1.sessions
    assert all((life.send_id, life.recv_id) != key[::-1] or life.ended for life in r1.peer.mkts)


def test_opening_session_of_the_router_comes_up_beside_a_probe() -> None:
    """The peer keeps one pending key for each session: the newer request wins, then r1's retry."""
    world = World()
    r2 = world.router('r2', policies('r2', peer_port=None), listens=True)
    r1 = world.router('r1', policies('r1'), listens=False)
    prober = beside(world)
    name = next(iter(FAMILIES))
    from tests.gatekeeper.world import pair_of

    r1.open(f'r1 {name}', pair_of(name))
    world.run(5)
    assert prober.probe.done
    if f'r1 {name}' not in r1.sessions:
        r1.close(pair_of(name))
        r1.open(f'r1 {name}', pair_of(name))
        world.run(5)
    assert f'r1 {name}' in r1.sessions
    assert r2.noted(EventName.ESTABLISHED)

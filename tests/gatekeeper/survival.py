"""The survival of sessions: lost datagrams of IKE, outages, waves of rekeys, flaps.

Each trial is one simulated run of two routers. `python -m tests.gatekeeper.survival` makes the
whole tables, in minutes, and writes them to `build/soak/`; tests run a part of each.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatekeeper.policy.sessions import SessionId, SessionPolicy
from tcpao.mkt import SocketPair
from tests.gatekeeper.world import R1, R2, Router, World, open_both, policies, two_routers

FOLDER = Path(__file__).resolve().parents[2] / 'build' / 'soak'
LIFETIMES = (15, 20, 30, 45, 59, 60, 61, 90, 120, 140, 200, 300, 400)
LOSSES = (0.05, 0.10, 0.20)
LONG_LIFETIMES = (60, 90, 120, 140, 200, 300, 600, 1200, 1800, 3600)
MANY = 127
"""Sessions with one peer: the most that there may be."""


def begin_losing(world: World, share: float, seed: int) -> None:
    """Lose this share of the IKE datagrams from now on."""
    chance = random.Random(seed)
    world.lose = lambda _: chance.random() < share


def closed_under_loss(lifetime: int, share: float, seed: int) -> int:
    """Return how many sessions of two are closed within 2.2 lifetimes of loss."""
    world = World(seed=seed)
    r1, r2 = two_routers(world, lifetime=lifetime)
    open_both(r1)
    world.run(3)
    begin_losing(world, share, seed)
    world.run(2.2 * lifetime)
    return len({pair for router in (r1, r2) for pair, _ in router.closed})


def closed_by_outage(lifetime: int, seconds: float, begins: float, seed: int = 1) -> int:
    """Return how many sessions of two an outage of IKE closes.

    It begins `begins` seconds after the first key was installed.
    """
    world = World(seed=seed)
    start = world.now
    r1, r2 = two_routers(world, lifetime=lifetime)
    open_both(r1)
    world.run(max(0.5, begins))
    until = world.now + seconds
    world.lose = lambda _: world.now < until
    world.run(start + 2.2 * lifetime + seconds - world.now)
    return len({pair for router in (r1, r2) for pair, _ in router.closed})


# --- many sessions with one peer ------------------------------------------------------------------


def many(name: str, count: int, **changes: Any) -> list[SessionPolicy]:
    """So many sessions of r1 (which connects) or r2 (which listens) with the other one."""
    pattern = policies(name)[0]
    made = []
    for number in range(count):
        port = 41000 + number
        session = SessionId('bgp', f'session {number}', ((1 + number // 250, 1 + number % 250),))
        ports: dict[str, Any] = {'source_port': port} if name == 'r1' else {'peer_port': port}
        policy = replace(pattern, key=f'{name} {session.name}', session=session, **ports)
        made.append(replace(policy, **changes))
    return made


def open_missing(router: Router, wanted: Sequence[SessionPolicy]) -> None:
    """Have the daemon open what is down and isn't being opened."""
    for policy in wanted:
        pair = SocketPair(R1, policy.source_port or 0, R2, 179)
        if policy.key not in router.sessions and pair not in router.sockets:
            router.open(policy.key, pair)


def up_many(
    count: int, seed: int = 1, within: float = 60.0, **changes: Any
) -> tuple[World, Router, Router, list[SessionPolicy]]:
    """So many sessions with one peer, all up."""
    world = World(seed=seed)
    r2 = world.router('r2', many('r2', count, **changes), listens=True)
    wanted = many('r1', count, **changes)
    r1 = world.router('r1', wanted, listens=False)
    until_up(world, r1, r2, wanted, within)
    assert len(r1.sessions) == len(r2.sessions) == count
    return world, r1, r2, wanted


def until_up(
    world: World, r1: Router, r2: Router, wanted: Sequence[SessionPolicy], within: float
) -> float:
    """Return the seconds until every session is up at both ends; `within` if it takes longer.

    The daemon tries what is down again after half a second.
    """
    start = world.now
    while world.now < start + within:
        open_missing(r1, wanted)
        world.run(0.5)
        if len(r1.sessions) == len(r2.sessions) == len(wanted):
            break
    return world.now - start


def seconds_after_flap(count: int, seed: int = 1) -> float:
    """Return how long so many sessions take to be up again that have ended together."""
    world, r1, r2, wanted = up_many(count, seed)
    for pair in list(r1.sessions.values()):
        r1.close(pair)
    world.settle()
    return until_up(world, r1, r2, wanted, 120.0)


def closed_in_wave(count: int, lifetime: int, share: float, seed: int = 1) -> int:
    """Return how many of so many sessions are closed while all their keys are replaced under loss.

    Their keys were made together; the loss lasts for 2.2 lifetimes.
    """
    world, r1, r2, _ = up_many(count, seed, lifetime=lifetime)
    begin_losing(world, share, seed)
    world.run(2.2 * lifetime)
    return len({pair for router in (r1, r2) for pair, _ in router.closed})


# --- tables ---------------------------------------------------------------------------------------


def loss_table(runs: int) -> Iterable[str]:
    """Yield lines: runs in which a session was closed, by lifetime and loss."""
    yield '| lifetime | ' + ' | '.join(f'{share:.0%} lost' for share in LOSSES) + ' |'
    yield '|---' * (1 + len(LOSSES)) + '|'
    for lifetime in LIFETIMES:
        cells = [
            sum(closed_under_loss(lifetime, share, seed) > 0 for seed in range(runs))
            for share in LOSSES
        ]
        yield f'| {lifetime} s | ' + ' | '.join(f'{found} of {runs}' for found in cells) + ' |'


def starts(lifetime: int, seconds: float, steps: int = 16) -> list[float]:
    """Return when outages of so many seconds begin: spread over the lifetime of the first key.

    In seconds after its installation; the last one ends with the lifetime.
    """
    return [
        lifetime * 0.2 + (lifetime * 0.8 - seconds) * step / (steps - 1) for step in range(steps)
    ]


def outage_table(parts: Sequence[float] = (0.1, 0.2, 0.25)) -> Iterable[str]:
    """Yield lines: outages that closed a session, by lifetime and length."""
    yield '| lifetime | ' + ' | '.join(f'{part:.0%} of it' for part in parts) + ' |'
    yield '|---' * (1 + len(parts)) + '|'
    for lifetime in LONG_LIFETIMES:
        cells = []
        for part in parts:
            seconds = part * lifetime
            begins = starts(lifetime, seconds)
            bad = sum(closed_by_outage(lifetime, seconds, at) > 0 for at in begins)
            cells.append(f'{bad} of {len(begins)}')
        yield f'| {lifetime} s | ' + ' | '.join(cells) + ' |'


def wave_table(runs: int) -> Iterable[str]:
    """Yield lines: sessions of MANY that were closed in a wave of rekeys."""
    yield '| lifetime | ' + ' | '.join(f'{share:.0%} lost' for share in LOSSES) + ' |'
    yield '|---' * (1 + len(LOSSES)) + '|'
    for lifetime in (300, 600, 3600):
        cells = [
            max(closed_in_wave(MANY, lifetime, share, seed) for seed in range(runs))
            for share in LOSSES
        ]
        yield f'| {lifetime} s | ' + ' | '.join(f'{found} of {MANY}' for found in cells) + ' |'


def flap_table() -> Iterable[str]:
    """Yield lines: seconds until sessions that ended together are up again."""
    yield '| sessions | up again after |'
    yield '|---|---|'
    for count in (10, 63, 64, 100, MANY):
        yield f'| {count} | {seconds_after_flap(count):.1f} s |'


TABLES: dict[str, Callable[[], Iterable[str]]] = {
    'flap': flap_table,
    'outage': outage_table,
    'wave': lambda: wave_table(2),
    'loss': lambda: loss_table(20),
}


def main(names: Sequence[str]) -> int:
    """Make the tables with these names, or all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names or TABLES:
        print(f'\n# {name}\n', flush=True)
        lines = []
        for line in TABLES[name]():
            print(line, flush=True)
            lines.append(line)
        (FOLDER / f'{name}.md').write_text('\n'.join(lines) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))

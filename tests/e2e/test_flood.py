"""A flood of forged segments from the peer's own address: the sessions live, and routes arrive.

A few seconds of each kind; `make flood` is the long form, and writes docs/benchmarks' table. Hold
time 9: what costs three keepalives ends the session.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gatekeeper.reporting.events import EventName
from lab.flood.frames import Kind
from tests.e2e import pair
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import FAMILIES
from tests.e2e.conftest import Routers
from tests.e2e.router import Router
from tests.interop_report import FOLDER

SECONDS = float(os.environ.get('FLOOD_SECONDS', '2'))
RATE = 20_000
"""Forged segments a second, at most: a busy machine sends fewer, the report says how many."""
HOLD_TIME = 9
PROJECT = Path(__file__).parents[2]
COUNTED = ('good', 'bad', 'key_not_found', 'beyond_limit', 'second_net_dropped_in')

pytestmark = [under_userspace, pytest.mark.timeout(120 + 2 * SECONDS)]


@dataclass
class Report:
    """The table."""

    rows: list[str] = field(default_factory=list)

    def add(self, kind: Kind, to: str, sent: float, counts: dict[str, int], cpu: float) -> None:
        """Add a row: rates a second, and the share of a processor."""
        numbers = ' | '.join(f'{counts[name] / SECONDS:,.0f}' for name in COUNTED)
        self.rows.append(f'| {kind} | {to} | {sent / SECONDS:,.0f} | {numbers} | {cpu:.0%} |')

    def write(self) -> None:
        """Write what there is."""
        names = ('sent', 'good', 'bad', 'no key', 'beyond limit', 'by the net')
        rates = ' | '.join(f'{name}/s' for name in names)
        head = f'| {SECONDS:g} s of | to | {rates} | CPU |'
        FOLDER.mkdir(parents=True, exist_ok=True)
        lines = [head, '|---' * 9 + '|', *self.rows]
        (FOLDER / 'flood.md').write_text('\n'.join(lines) + '\n')


@pytest.fixture(scope='module')
def report() -> Iterator[Report]:
    made = Report()
    yield made
    made.write()


@pytest.fixture(scope='module')
def up(routers: Routers) -> Routers:
    """Both sessions are up; both routers have the second net."""
    pair.configure(routers, hold_time=HOLD_TIME)
    for router in (routers.r2, routers.r1):
        router.start(
            listen=pair.R2 if router is routers.r2 else None,
            environment={'exabgp_ikev2_secondnet': 'true'},
        )
    pair.await_up(routers)
    return routers


def cpu_seconds(router: Router) -> float:
    """Return the CPU time of the router's packet process until now."""
    stat = Path(f'/proc/{router.packet_process()}/stat').read_text().rpartition(')')[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf('SC_CLK_TCK')


def flood(sender: Router, addresses: tuple[str, str], kind: Kind) -> int:
    """Send as many as can be sent; return how many."""
    command = [sys.executable, '-m', 'lab.flood', 'eth1', *addresses, kind, str(RATE), str(SECONDS)]
    forger = sender.node.popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    said, _ = forger.communicate(timeout=60 + 2 * SECONDS)
    sent = json.loads(said)['sent']
    assert isinstance(sent, int)
    return sent


# An opener has no listener: only its live connections are anything to flood.
@pytest.mark.parametrize(
    ('kind', 'to'), [*((kind, 'r2') for kind in Kind), (Kind.UNSIGNED, 'r1'), (Kind.SIGNED, 'r1')]
)
def test_sessions_live_and_get_segments(up: Routers, report: Report, kind: Kind, to: str) -> None:
    target, sender = (up.r2, up.r1) if to == 'r2' else (up.r1, up.r2)
    addresses = (pair.R1, pair.R2) if to == 'r2' else (pair.R2, pair.R1)
    connections = [router.connections() for router in (up.r1, up.r2)]
    before, cpu = target.counters(), cpu_seconds(target)
    # The forger waits for a keepalive, whose place in the stream it takes.
    sent = flood(sender, addresses, kind)
    after = target.counters()
    counts = {name: after[name] - before[name] for name in COUNTED}
    report.add(kind, to, sent, counts, (cpu_seconds(target) - cpu) / SECONDS)
    assert counts['good'] > 0
    for router in (up.r1, up.r2):
        router.await_established(*FAMILIES)
        assert not router.named(EventName.END)
    assert [router.connections() for router in (up.r1, up.r2)] == connections

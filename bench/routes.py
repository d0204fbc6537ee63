"""A table of routes from one ExaBGP daemon to another: plain, and through the packet processes.

Two daemons in separate namespaces on this host, one UPDATE for each route, which is the largest
number of segments of a table. Timed from the first UPDATE that the receiving daemon has counted to
its End-of-RIB; the shares of that time show which part was the limit. Needs root and netfilter
queues. `--routes 1000000` takes ExaBGP 5 GB of memory.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.topology import Topology
from tcpao.backend import Preference
from tests.e2e.router import Router

MODES = ('plain', 'protected')

TOPOLOGY = """
name: bench
topology:
  nodes:
    r1: {kind: linux, exec: [ip address add 10.0.0.1/24 dev eth1]}
    r2: {kind: linux, exec: [ip address add 10.0.0.2/24 dev eth1]}
  links:
    - endpoints: ["r1:eth1", "r2:eth1"]
"""
ADDRESSES = {'r1': '10.0.0.1', 'r2': '10.0.0.2'}
CHAIN = """
keychain bench {
    key 1 { send-id 1; recv-id 1; algorithm hmac-sha-1-96; key-file "key"; }
}
"""
PREFIX_LENGTH = 28
FIRST = 10 << 24

PROTECTION = 'ikev2 { keychain bench; }'

# Seconds between two readings of the receiver's counter, each of which takes a millisecond.
LOOK_EVERY = 0.1
# Seconds until the first route, and for a thousand routes on a busy machine.
START, PATIENCE = 60.0, 4.0

PARTS = ('sender', 'receiver', 'signing', 'verifying')
"""The two daemons and their packet processes."""


@dataclass(frozen=True)
class Table:
    """The transfer of one table."""

    mode: str
    routes: int
    seconds: float
    cpu: dict[str, float]
    """CPU seconds of each of PARTS that exists."""
    blocked: float
    """The part of the time with data to send in which the receiver's window was closed: near 1, the
    receiving daemon is the limit."""
    segments: int
    """Segments with data, counted by the sender's TCP."""

    @property
    def rate(self) -> float:
        """Return routes per second."""
        return self.routes / self.seconds


def table(mode: str, routes: int) -> Table:
    """Transfer one table, from start to end.

    Raises AssertionError with the daemons' logs if it fails.
    """
    with tempfile.TemporaryDirectory() as folder, _routers(Path(folder)) as (r1, r2):
        for router, peer, sent in ((r1, 'r2', routes), (r2, 'r1', 0)):
            router.write('key', b'a secret of the bench\n', 0o600)
            router.backend = Preference.USERSPACE
            router.configure(_configuration(router.name, peer, mode, sent))
        r2.start(listen=ADDRESSES['r2'])
        r1.start(cli=False)
        return _measured(mode, routes, r1, r2)


def _measured(mode: str, routes: int, r1: Router, r2: Router) -> Table:
    until = time.monotonic() + START + PATIENCE * routes / 1000

    def await_updates(least: int) -> tuple[int, float]:
        while (count := _updates(r2)) < least:
            assert time.monotonic() < until, r1.told(f'{count} UPDATEs') + r2.told('the receiver')
            time.sleep(LOOK_EVERY)
        return count, time.monotonic()

    first, began = await_updates(1)
    processes = _processes(r1, r2)
    before = {part: _cpu(pid) for part, pid in processes.items()}
    _, ended = await_updates(routes + 1)  # End-of-RIB is one too
    cpu = {part: _cpu(pid) - before[part] for part, pid in processes.items()}
    (line,) = (
        line
        for line in r1.node.run(['ss', '-tin', 'state', 'established']).stdout.splitlines()
        if 'data_segs_out' in line
    )
    busy, blocked, segments = (
        int(found[1]) if (found := re.search(rf'\b{word}:(\d+)', line)) else 0
        for word in ('busy', 'rwnd_limited', 'data_segs_out')
    )
    return Table(mode, routes - first, ended - began, cpu, blocked / busy, segments)


def _updates(router: Router) -> int:
    """Return the number of UPDATEs that the router has read."""
    (neighbor,) = router.neighbors()
    count: int = neighbor['messages']['received'].get('update', 0)
    return count if neighbor['state'] == 'up' else 0


def _processes(r1: Router, r2: Router) -> dict[str, int]:
    found = {}
    for router, daemon, packets in ((r1, 'sender', 'signing'), (r2, 'receiver', 'verifying')):
        assert router.process is not None
        pid = found[daemon] = router.process.pid
        for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split():
            if 'tcpao.userspace' in Path(f'/proc/{child}/cmdline').read_text():
                found[packets] = int(child)
    return found


def _cpu(pid: int) -> float:
    """Return CPU seconds of all threads, to a clock tick."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(') ')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def _configuration(name: str, peer: str, mode: str, routes: int) -> str:
    protected = mode == 'protected'
    return f"""
{CHAIN if protected else ''}
neighbor {ADDRESSES[peer]} {{
    router-id {ADDRESSES[name]};
    local-address {ADDRESSES[name]};
    local-as 65001;
    peer-as 65001;
    {'passive;' if name == 'r2' else ''}
    group-updates false;
    family {{ ipv4 unicast; }}
    {PROTECTION if protected else ''}
    static {{ {' '.join(split_routes(routes))} }}
}}
"""


def split_routes(count: int) -> Iterator[str]:
    """Yield so many routes: for each bit of their number a prefix that ExaBGP splits."""
    at = FIRST
    for bit in range(count.bit_length()):
        if count >> bit & 1:
            # Aligned to its own size, whatever precedes it.
            size = 1 << bit + 32 - PREFIX_LENGTH
            at = -(-at // size) * size
            prefix = '.'.join(map(str, at.to_bytes(4, 'big')))
            yield f'route {prefix}/{PREFIX_LENGTH - bit} next-hop 10.0.0.1 split /{PREFIX_LENGTH};'
            at += size


@contextmanager
def _routers(folder: Path) -> Iterator[tuple[Router, Router]]:
    path = folder / 'bench.clab.yml'
    path.write_text(TOPOLOGY)
    with Topology.load(path).up(folder) as lab:
        r1, r2 = Router(lab.node('r1')), Router(lab.node('r2'))
        try:
            yield r1, r2
        finally:
            r1.kill()
            r2.kill()


# --- the command line ---------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument('--routes', type=int, default=100_000, help='default 100,000')
    parser.add_argument('--rounds', type=int, default=2, help='the best one counts')


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure both modes in turn and print."""
    if os.geteuid() != 0:
        raise SystemExit('the daemons need root')
    tables = [table(m, arguments.routes) for _ in range(arguments.rounds) for m in MODES]
    best = [max((t for t in tables if t.mode == m), key=lambda t: t.rate) for m in MODES]
    print('Routes from daemon to daemon; CPU as a part of the time, and how long the sender waited')
    print("for the receiver's window")
    print(f'{"mode":10} {"routes/s":>9} {"of plain":>9} {"segments":>9} {"blocked":>8}', end='')
    print(*(f'{part:>10}' for part in PARTS))
    for one in best:
        print(
            f'{one.mode:10} {one.rate:9.0f} {one.rate / best[0].rate:9.3f} {one.segments:9} '
            f'{one.blocked:8.3f}',
            end='',
        )
        print(*(f'{one.cpu.get(part, 0) / one.seconds:10.3f}' for part in PARTS))
    return [asdict(one) | {'rate': one.rate} for one in tables]

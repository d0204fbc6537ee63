"""Rules of a thousand neighbors: the time of a load, and the cost for other traffic.

Each in a separate namespace (`bench.rules_end`); exchanges of one octet string on loopback, where a
packet passes OUTPUT and INPUT: UDP, TCP of another port, and TCP of the guarded port with an
address that isn't guarded. Needs root and netfilter queues.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from bench.transfers import namespaces
from tcpao.userspace.rules.interface import Kind


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument('--neighbors', type=int, nargs='+', default=[1, 1000])
    parser.add_argument('--exchanges', type=int, default=2000, help='of each of five rounds')


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every kind of rules that works here, and print."""
    if os.geteuid() != 0:
        raise SystemExit('the rules need root')
    found = []
    print('| rules | neighbors | load, s | unload, s | UDP | TCP | guarded port |')
    print('|---|---|---|---|---|---|---|')
    for kind in Kind:
        for neighbors in arguments.neighbors:
            one = _measured(kind, neighbors, arguments.exchanges)
            if one is None:
                continue
            found.append({'rules': kind, 'neighbors': neighbors} | one)
            ratios = ' | '.join(
                f'{one["guarded"][name] / one["plain"][name]:.2f}' for name in one['plain']
            )
            print(f'| {kind} | {neighbors} | {one["load"]:.2f} | {one["unload"]:.2f} | {ratios} |')
    return found


def _measured(kind: Kind, neighbors: int, exchanges: int) -> dict[str, Any] | None:
    """Return the measurements; None if this kind of rules does not work here."""
    with namespaces(1500) as (name, _):
        end = [sys.executable, '-m', 'bench.rules_end', kind, str(neighbors), str(exchanges)]
        done = subprocess.run(
            ['ip', 'netns', 'exec', name, *end], capture_output=True, text=True, check=False
        )
    if done.returncode:
        print(f'{kind}: {done.stderr.strip().splitlines()[-1][:200]}', file=sys.stderr)
        return None
    said: dict[str, Any] = json.loads(done.stdout)
    return said

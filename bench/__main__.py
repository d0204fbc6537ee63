"""`python -m bench`: needs root and, for the bulk transfers, netfilter queues.

In User Mode Linux (`python -m lab.tcpao_kernel run -- python -m bench --mib 16`) the kernel's own
TCP-AO is measured beside the packet processes; only ratios mean anything there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from bench.bulk import Transfer, transfer
from bench.segments import SegmentCost, measure_all
from lab.tcpao_kernel import has_tcp_ao

FOLDER = Path(__file__).resolve().parents[1] / 'build' / 'bench'


def main() -> int:
    """Measure, print, and write `build/bench/`."""
    parser = argparse.ArgumentParser(prog='python -m bench', description=__doc__)
    parser.add_argument('--mib', type=int, default=64, help='size of a transfer (default 64)')
    parser.add_argument('--algorithm', default='hmac-sha-1-96', help='of the transfers')
    parser.add_argument('--mtu', type=int, default=1500)
    parser.add_argument('--rounds', type=int, default=3, help='of each transfer; the best counts')
    parser.add_argument('--segments-only', action='store_true', help='no transfers')
    arguments = parser.parse_args()
    print(f'# {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}\n')
    costs = measure_all()
    _print_segments(costs)
    transfers: list[Transfer] = []
    if not arguments.segments_only:
        if os.geteuid() != 0:
            print('the transfers need root', file=sys.stderr)
            return 1
        transfers = _transfers(arguments)
        _print_transfers(transfers)
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = 'guest' if has_tcp_ao() else 'host'
    found = {
        'kernel': platform.release(),
        'segments': [asdict(cost) for cost in costs],
        'transfers': [asdict(one) | {'rate': one.rate} for one in transfers],
    }
    (FOLDER / f'{name}.json').write_text(json.dumps(found, indent=1) + '\n')
    return 0


def _transfers(arguments: argparse.Namespace) -> list[Transfer]:
    modes = ['plain', 'userspace', *(['kernel'] if has_tcp_ao() else [])]
    found = []
    for version in (4, 6):
        for mode in modes:
            # All modes within minutes of each other, and of each the one least disturbed.
            rounds = [
                transfer(
                    mode,
                    arguments.mib << 20,
                    algorithm=arguments.algorithm,
                    version=version,
                    mtu=arguments.mtu,
                )
                for _ in range(arguments.rounds)
            ]
            found.append(min(rounds, key=lambda one: one.seconds))
    return found


def _print_segments(costs: list[SegmentCost]) -> None:
    print(
        'CPU of a full-size segment in the packet core, in microseconds; the MAC alone is the floor'
    )
    print(f'{"suite":22} {"IP":>3} {"MAC":>7} {"out":>7} {"in":>7} {"out/MAC":>8} {"in/MAC":>8}')
    for cost in costs:
        print(
            f'{cost.algorithm:22} {cost.version:3} {cost.mac:7.1f} {cost.out:7.1f} '
            f'{cost.into:7.1f} {cost.out / cost.mac:8.1f} {cost.into / cost.mac:8.1f}'
        )
    print()


def _print_transfers(transfers: list[Transfer]) -> None:
    print(
        'Bulk transfers; CPU of each packet process for a full-size segment, kernel included, with'
    )
    print('the acknowledgments of the other direction charged to it, in microseconds')
    print(
        f'{"mode":10} {"IP":>3} {"MiB":>4} {"Mbit/s":>8} {"of plain":>9} {"segments":>9} '
        f'{"ACKs":>7} {"out":>6} {"in":>6}'
    )
    plain = {one.version: one.rate for one in transfers if one.mode == 'plain'}
    for one in transfers:
        line = (
            f'{one.mode:10} {one.version:3} {one.octets >> 20:4} {one.rate:8.0f} '
            f'{one.rate / plain[one.version]:9.3f}'
        )
        if one.sender is not None and one.receiver is not None:
            data, acks = one.receiver['good'], one.sender['good']
            line += (
                f' {data:9} {acks:7} {one.sender["cpu"] / data * 1e6:6.1f} '
                f'{one.receiver["cpu"] / data * 1e6:6.1f}'
            )
        print(line)


if __name__ == '__main__':
    sys.exit(main())

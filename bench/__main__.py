"""The costs, as ratios: `python -m bench` for everything, or `python -m bench NAME`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from bench import handshake, routes, rules, segments, start, transfers
from lab.tcpao_kernel import has_tcp_ao

FOLDER = Path(__file__).resolve().parents[1] / 'build' / 'bench'
BENCHES = {
    'handshake': handshake,
    'segments': segments,
    'transfers': transfers,
    'routes': routes,
    'rules': rules,
    'start': start,
}


def main(words: list[str]) -> int:
    """Measure, print, and write `build/bench/`; return the exit status."""
    parser = argparse.ArgumentParser(prog='python -m bench', description=__doc__)
    names = parser.add_subparsers(dest='name', metavar='NAME', help=', '.join(BENCHES))
    for name, bench in BENCHES.items():
        bench.options(names.add_parser(name, description=bench.__doc__))
    chosen = parser.parse_args(words)
    each = [chosen] if chosen.name else [parser.parse_args([name]) for name in BENCHES]
    print(f'# {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}')
    FOLDER.mkdir(parents=True, exist_ok=True)
    where = 'guest' if has_tcp_ao() else 'host'
    for arguments in each:
        print(f'\n# {arguments.name}\n')
        found = {
            'kernel': platform.release(),
            arguments.name: BENCHES[arguments.name].run(arguments),
        }
        path = FOLDER / f'{arguments.name}-{where}.json'
        path.write_text(json.dumps(found, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))

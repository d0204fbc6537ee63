"""The commands `python -m lab.uml build` and `python -m lab.uml run -- COMMAND...`."""

from __future__ import annotations

import argparse
import sys

from lab.uml.boot import Guest, run
from lab.uml.build import BuildError, ensure_kernel


def main() -> int:
    """Run the command line; return the command's exit status."""
    parser = argparse.ArgumentParser(prog='python -m lab.uml', description=__doc__)
    verbs = parser.add_subparsers(dest='verb', required=True)
    verbs.add_parser('build', help='build the kernel unless it is cached; print its path')
    boot = verbs.add_parser('run', help='run a command in a fresh guest')
    add_guest_options(boot)
    arguments = parser.parse_args()
    try:
        if arguments.verb == 'build':
            print(ensure_kernel())
            return 0
        return run(arguments.command, guest_from(arguments))
    except BuildError as error:
        print(f'kernel: {error}', file=sys.stderr)
        return 1


def add_guest_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a guest, and the command to run in it."""
    parser.add_argument('--memory', default='1G', metavar='SIZE', help='as in mem= (default 1G)')
    parser.add_argument('--timeout', type=float, metavar='SECONDS', help='of wall-clock time')
    parser.add_argument(
        '--time-travel', action='store_true', help='idle time costs nothing; the clock jumps'
    )
    parser.add_argument('command', nargs='+', metavar='COMMAND', help='after --')


def guest_from(arguments: argparse.Namespace) -> Guest:
    """Return the guest that these options describe."""
    return Guest(
        memory=arguments.memory,
        timeout=arguments.timeout,
        time_travel=arguments.time_travel,
    )


if __name__ == '__main__':
    sys.exit(main())

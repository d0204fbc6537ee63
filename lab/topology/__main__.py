"""The command for a containerlab topology: `python -m lab.topology check|up|down FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab.topology.lab import Lab, LabError
from lab.topology.model import Topology, TopologyError
from lab.unprivileged import daemon_environment


def main() -> int:
    """Run the command line; return 0 on success."""
    parser = argparse.ArgumentParser(prog='python -m lab.topology', description=__doc__)
    verbs = parser.add_subparsers(dest='verb', required=True)
    for verb, meaning in (
        ('check', 'read the file and say what it describes'),
        ('up', 'bring the lab up and leave it running'),
        ('down', 'remove it'),
    ):
        command = verbs.add_parser(verb, help=meaning)
        command.add_argument('file', type=Path)
        if verb == 'up':
            command.add_argument('--logs', type=Path, default=Path('build/lab'), metavar='FOLDER')
    arguments = parser.parse_args()
    try:
        topology = Topology.load(arguments.file)
        logs = getattr(arguments, 'logs', Path()).absolute() / topology.name
        lab = Lab(topology, logs, daemon_environment() if arguments.verb == 'up' else None)
        if arguments.verb == 'check':
            _describe(topology)
        elif arguments.verb == 'up':
            lab.bring_up()
            _say_how_to_enter(lab)
        else:
            lab.remove()
    except (TopologyError, LabError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _describe(topology: Topology) -> None:
    for node in topology.nodes:
        print(f'{node.name}: {" ".join(node.command) or "no main process"}')
    for first, second in topology.links:
        print(f'{first.node}:{first.interface} - {second.node}:{second.interface}')


def _say_how_to_enter(lab: Lab) -> None:
    for node in lab.nodes.values():
        print(f'{node.name}: {" ".join(node.enter)} sh    (log: {node.log})')


if __name__ == '__main__':
    sys.exit(main())

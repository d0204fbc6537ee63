"""Routes that r1 announces and withdraws, so that keys are replaced under traffic.

A silent session moves to a new key too, by keepalive probes, one a second.
"""

from __future__ import annotations

from itertools import cycle

from lab.demo.places import CHANGING
from lab.exabgp_cli import CommandLine


class RouteChanges:
    """Changes of routes, one in each session at a time."""

    def __init__(self, line: CommandLine) -> None:
        """Take `line`, the command line of the router that announces."""
        self._line = line
        self._verbs = cycle(('announce', 'withdraw'))

    def next(self) -> None:
        """Announce the routes, or withdraw the announced ones. Raises CommandLineError."""
        verb = next(self._verbs)
        for route in CHANGING:
            self._line.ask(f'{verb} route {route}')

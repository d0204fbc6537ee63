"""The routes that r2 has from r1, asked over one open connection to its command line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from gatekeeper.reporting.events import EventName, OperatorEvent
from lab.demo.places import PREFIXES
from lab.exabgp_cli import CommandLine

# Up-times count seconds: not needed at every sample.
SAMPLES_PER_UPTIME = 10


@dataclass(slots=True)
class Sampled:
    """The samples of one session's prefix, from its first appearance on."""

    samples: int = 0
    present: int = 0
    first: float = 0.0
    last: float = 0.0
    longest_gap: float = 0.0
    """Seconds between two samples."""
    uptime: float = 0.0
    """Seconds, reported by r2."""
    resets: int = 0
    """Number of times that the up-time was less than before."""
    there: bool = False


class RouteWatch:
    """A sampler of routes; every change is an event."""

    def __init__(self, line: CommandLine) -> None:
        self._line = line
        self._asked = 0
        self.sessions = {session: Sampled() for session in PREFIXES}

    @property
    def complete(self) -> bool:
        """Return True once both prefixes have been seen."""
        return all(sampled.samples for sampled in self.sessions.values())

    def sample(self) -> Iterator[OperatorEvent]:
        """Ask once, and yield the changes."""
        routes = self._line.ask('show adj-rib in')
        now = time.time()
        for session, prefix in PREFIXES.items():
            there = any(prefix in line.split() for line in routes)
            yield from self._count(session, prefix, there, now)
        if self._asked % SAMPLES_PER_UPTIME == 0:
            self.ask_uptimes()
        self._asked += 1

    def _count(self, session: str, prefix: str, there: bool, now: float) -> Iterator[OperatorEvent]:
        sampled = self.sessions[session]
        if not sampled.samples and not there:
            return
        if sampled.samples:
            sampled.longest_gap = max(sampled.longest_gap, now - sampled.last)
        else:
            sampled.first = now
        sampled.last = now
        sampled.samples += 1
        sampled.present += there
        if there != sampled.there:
            details: dict[str, str | int | float | bool | None]
            details = {'prefix': prefix, 'present': there}
            yield OperatorEvent(now, 'r2', session, EventName.ROUTE, details)
        sampled.there = there

    def ask_uptimes(self) -> None:
        """Ask r2 for the up-times of its sessions."""
        for answer in self._line.ask('show neighbor json'):
            for neighbor in json.loads(answer):
                for family in neighbor['families']:
                    self._uptime(family, neighbor)

    def _uptime(self, session: str, neighbor: dict[str, object]) -> None:
        duration = neighbor.get('duration')
        uptime = float(duration) if isinstance(duration, int | float) else 0.0
        sampled = self.sessions[session]
        if uptime < sampled.uptime:
            sampled.resets += 1
        sampled.uptime = uptime

    def summary(self) -> Iterator[OperatorEvent]:
        """Yield the sums of all samples."""
        for session, sampled in self.sessions.items():
            yield OperatorEvent(
                sampled.last,
                'r2',
                session,
                EventName.ROUTE,
                {
                    'prefix': PREFIXES[session],
                    'samples': sampled.samples,
                    'present': sampled.present,
                    'first': sampled.first,
                    'last': sampled.last,
                    'longest_gap': round(sampled.longest_gap, 3),
                    'uptime': sampled.uptime,
                    'resets': sampled.resets,
                },
            )

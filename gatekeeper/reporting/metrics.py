"""Metrics for Prometheus, on request: the rows of `show` as numbers, and counts of events.

`Metrics` is a collector of the library prometheus-client. It asks for rows and counters at each
scrape; only events are counted as they come. No secrets: rows and events have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Final

from gatekeeper.errors import GatekeeperError
from gatekeeper.reporting.events import EventName, OperatorEvent

Row = Mapping[str, object]

PREFIX: Final = 'gatekeeper'
_SESSION: Final = ('neighbor', 'session')
UP: Final = frozenset({'in use', 'rekeying'})
"""States in which a session is protected and BGP may use it."""
ENDS: Final = {
    'expires': ('key_expires_seconds', 'Seconds to the hard lifetime of the key in use'),
    'certificate_expires': (
        'certificate_expires_seconds',
        'Seconds to the end of our certificate, or of a CRL that it needs',
    ),
    'proven_until': ('proof_expires_seconds', "Seconds to the end of the peer's certificates"),
    'next_change': ('keychain_change_seconds', 'Seconds to the next change of the keychain'),
}
"""Times in a row, as seconds from now: the name of each metric and its help."""
SEGMENTS: Final = ('good', 'bad', 'key_not_found', 'required_but_missing', 'beyond_limit')
"""Verdicts, as in tcpao.backend.Counters."""


class Metrics:
    """A collector of metrics.

    `rows` and `counted` are called on the thread of the scrape, and may raise GatekeeperError;
    `clock` returns seconds since the epoch.
    """

    def __init__(
        self,
        rows: Callable[[], Sequence[Row]],
        counted: Callable[[], Mapping[str, object]],
        clock: Callable[[], float],
    ) -> None:
        self._rows = rows
        self._counted = counted
        self._clock = clock
        self._lock = Lock()
        self._events: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()

    def count(self, event: OperatorEvent) -> None:
        """Count an event, from any thread."""
        with self._lock:
            self._events[event.event.value] += 1
            if event.event is EventName.REFUSED:
                self._failures[str(event.details.get('reason') or 'unknown')] += 1

    def collect(self) -> Iterator[Any]:
        """Yield the metric families, for prometheus-client.

        A gatekeeper that does not answer is `gatekeeper_up 0`, not an error of the scrape.
        """
        # Imported only where metrics are requested.
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        try:
            rows, counted = self._rows(), self._counted()
        except GatekeeperError:
            yield GaugeMetricFamily(f'{PREFIX}_up', 'Whether the gatekeeper answers', value=0)
            return
        yield GaugeMetricFamily(f'{PREFIX}_up', 'Whether the gatekeeper answers', value=1)
        yield from self._of_sessions(rows, GaugeMetricFamily)
        segments = CounterMetricFamily(
            f'{PREFIX}_segments', 'Segments received by protected sockets', labels=('verdict',)
        )
        for name in SEGMENTS:
            value = counted.get(name)
            if isinstance(value, int):
                segments.add_metric((name,), value)
        yield segments
        with self._lock:
            events, failures = dict(self._events), dict(self._failures)
        for name, label, text, counts in (
            ('events', 'event', 'Events, as in the timeline', events),
            ('failures', 'reason', 'Failures by their reason', failures),
        ):
            family = CounterMetricFamily(f'{PREFIX}_{name}', text, labels=(label,))
            for word, number in sorted(counts.items()):
                family.add_metric((word,), number)
            yield family

    def _of_sessions(self, rows: Sequence[Row], gauge: Any) -> Iterator[Any]:
        now = self._clock()
        states = gauge(f'{PREFIX}_sessions', 'Protected sessions by state', labels=('state',))
        for state, number in sorted(Counter(str(row['state']) for row in rows).items()):
            states.add_metric((state,), number)
        yield states
        # Two connections of one session are two rows, until BGP has chosen one.
        up = gauge(f'{PREFIX}_session_up', 'Whether a session is under a key', labels=_SESSION)
        protected = {_whose(row) for row in rows if row['state'] in UP}
        for whose in sorted({_whose(row) for row in rows}):
            up.add_metric(whose, whose in protected)
        yield up
        for name, (metric, text) in ENDS.items():
            family = gauge(f'{PREFIX}_{metric}', text, labels=_SESSION)
            soonest: dict[tuple[str, str], float] = {}
            for row in rows:
                value = row.get(name)
                if isinstance(value, int | float):
                    left = value - now
                    soonest[_whose(row)] = min(left, soonest.get(_whose(row), left))
            for whose, left in sorted(soonest.items()):
                family.add_metric(whose, left)
            yield family


def _whose(row: Row) -> tuple[str, str]:
    return str(row['neighbor']), str(row['session'])

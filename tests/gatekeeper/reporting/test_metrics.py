"""Metrics: what Prometheus gets of rows, counters and events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from prometheus_client.core import CollectorRegistry
from prometheus_client.exposition import generate_latest

from gatekeeper.errors import GatekeeperError
from gatekeeper.reporting.events import EventName, OperatorEvent
from gatekeeper.reporting.metrics import ENDS, SEGMENTS, Metrics

NOW = 1_000_000.0
ROW: dict[str, object] = {
    'neighbor': '10.0.0.2',
    'session': 'ipv4 unicast',
    'state': 'in use',
    'expires': NOW + 60,
}
COUNTED = {'backend': 'userspace', **dict.fromkeys(SEGMENTS, 7)}


def metrics(*rows: Mapping[str, object], counted: Mapping[str, object] = COUNTED) -> Metrics:
    return Metrics(lambda: rows, lambda: counted, lambda: NOW)


def scraped(collector: Any) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(' ') for line in lines if not line.startswith('#'))
    }


WHOSE = '{neighbor="10.0.0.2",session="ipv4 unicast"}'


def test_session_is_up_when_its_key_is_in_use() -> None:
    assert scraped(metrics(ROW))[f'gatekeeper_session_up{WHOSE}'] == 1


@pytest.mark.parametrize('state', ['down', 'waiting for IKE', 'proving', 'a state to come'])
def test_session_is_not_up_in_any_other_state(state: str) -> None:
    found = scraped(metrics(ROW | {'state': state}))
    assert found[f'gatekeeper_session_up{WHOSE}'] == 0
    assert found[f'gatekeeper_sessions{{state="{state}"}}'] == 1


def test_session_is_up_when_one_of_its_two_connections_is() -> None:
    found = scraped(metrics(ROW, ROW | {'state': 'proving', 'expires': None}))
    assert found[f'gatekeeper_session_up{WHOSE}'] == 1


@pytest.mark.parametrize('name', ENDS)
def test_ends_are_seconds_from_now(name: str) -> None:
    found = scraped(metrics(ROW | {name: NOW + 90}))
    assert found[f'gatekeeper_{ENDS[name][0]}{WHOSE}'] == 90


def test_end_is_left_out_when_it_is_not_known() -> None:
    found = scraped(metrics(ROW | {'expires': None}))
    assert not [name for name in found if name.startswith('gatekeeper_key_expires')]


def test_soonest_end_of_several_connections_counts() -> None:
    found = scraped(metrics(ROW, ROW | {'expires': NOW + 10}))
    assert found[f'gatekeeper_key_expires_seconds{WHOSE}'] == 10


def test_segments_are_counted_by_verdict() -> None:
    found = scraped(metrics(ROW))
    assert {found[f'gatekeeper_segments_total{{verdict="{name}"}}'] for name in SEGMENTS} == {7.0}


def test_events_and_failures_are_counted_as_they_come() -> None:
    collector = metrics(ROW)
    for reason in ('no-ike-answer', 'no-ike-answer', None):
        details: dict[str, str | int | float | bool | None] = {'reason': reason}
        collector.count(OperatorEvent(NOW, 'r1', 'ipv4 unicast', EventName.REFUSED, details))
    collector.count(OperatorEvent(NOW, 'r1', 'ipv4 unicast', EventName.END))
    found = scraped(collector)
    assert found['gatekeeper_events_total{event="refused"}'] == 3
    assert found['gatekeeper_events_total{event="end"}'] == 1
    assert found['gatekeeper_failures_total{reason="no-ike-answer"}'] == 2
    assert found['gatekeeper_failures_total{reason="unknown"}'] == 1


def test_gatekeeper_is_not_up_when_it_does_not_answer() -> None:
    def dead() -> Sequence[Mapping[str, object]]:
        raise GatekeeperError('the gatekeeper is not running')

    assert scraped(Metrics(dead, lambda: COUNTED, lambda: NOW)) == {'gatekeeper_up': 0.0}


def test_names_of_neighbors_are_escaped() -> None:
    assert scraped(metrics(ROW | {'neighbor': 'a"\\\nb'}))

"""configs/monitoring: the rules are good for promtool, and all ask for metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.metrics import Metrics
from lab.unprivileged import PROJECT

FOLDER = PROJECT / 'configs' / 'monitoring'
PROMTOOL = PROJECT / 'build' / 'promtool' / 'usr' / 'bin' / 'promtool'
DASHBOARD: dict[str, Any] = json.loads((FOLDER / 'dashboard.json').read_text())


def families() -> dict[str, str]:
    """Name and type of every metric there is, as Prometheus names them."""
    found = {}
    for family in Metrics(list, dict, lambda: 0.0).collect():
        total = '_total' if family.type == 'counter' else ''
        found[family.name + total] = family.type
    return found


def expressions() -> list[str]:
    rules = yaml.safe_load((FOLDER / 'alerts.yml').read_text())['groups'][0]['rules']
    targets = [target['expr'] for panel in DASHBOARD['panels'] for target in panel['targets']]
    return [rule['expr'] for rule in rules] + targets


@pytest.mark.parametrize('expression', expressions())
def test_expression_asks_only_for_existing_metrics(expression: str) -> None:
    names = set(re.findall(r'gatekeeper_\w+', expression))
    assert names
    assert names <= families().keys()
    assert set(re.findall(r'event="(\w+)"', expression)) <= {event.value for event in EventName}


def test_documented_metrics_are_the_existing_ones() -> None:
    rows = re.findall(r'^\| `(gatekeeper_\w+)`', (FOLDER / 'README.md').read_text(), re.MULTILINE)
    assert set(rows) == families().keys()


def test_dashboard_can_be_imported_by_grafana() -> None:
    assert {'title', 'uid', 'schemaVersion', 'panels', 'templating', 'time'} <= DASHBOARD.keys()
    numbers = [panel['id'] for panel in DASHBOARD['panels']]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD['panels']:
        at = panel['gridPos']
        cells = {
            (x, y)
            for x in range(at['x'], at['x'] + at['w'])
            for y in range(at['y'], at['y'] + at['h'])
        }
        assert at['x'] + at['w'] <= 24
        assert not cells & taken
        taken |= cells
        assert panel['datasource']['uid'] == '${datasource}'
        assert panel['type'] in ('stat', 'timeseries')


@pytest.mark.parametrize(
    'command',
    [['check', 'rules', 'alerts.yml'], ['test', 'rules', 'alerts-test.yml']],
    ids=' '.join,
)
def test_rules_are_good_for_promtool(command: list[str]) -> None:
    assert PROMTOOL.exists(), 'promtool is not there: run `make promtool`'
    done = subprocess.run(
        [PROMTOOL, *command], cwd=FOLDER, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_provoked_or_held_back_by_a_test() -> None:
    rules = yaml.safe_load((FOLDER / 'alerts.yml').read_text())['groups'][0]['rules']
    tests = yaml.safe_load((FOLDER / 'alerts-test.yml').read_text())['tests']
    tried = {one['alertname'] for test in tests for one in test['alert_rule_test']}
    assert {rule['alert'] for rule in rules} == tried

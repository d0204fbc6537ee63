"""Each cause of a session that is down has one sentence, in `show` and in the log.

The table at the end of docs/gatekeeper.md has the same sentences.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatekeeper.reporting.events import OperatorEvent
from gatekeeper.reporting.ordinary_failures import PATIENCE
from gatekeeper.reporting.timeline import Level, Recorder
from gatekeeper.state.snapshot import snapshot
from tests.gatekeeper.reporting.provoked import CAUSES, SESSION
from tests.gatekeeper.world import Router

HEADING = '## Why is it down'


class Log(Recorder):
    """The lines that an operator sees."""

    def __init__(self) -> None:
        super().__init__('r1')
        self.lines: list[str] = []

    def log(self, level: Level, line: Callable[[], str]) -> None:
        if level is not Level.DEBUG:
            self.lines.append(line())


def logged(router: Router, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines of the log when the failures last: ordinary ones are logged then."""
    log, begin = Log(), time.monotonic()
    for later in (0.0, PATIENCE):
        monkeypatch.setattr(time, 'monotonic', lambda later=later: begin + later)
        for note in router.notes:
            log.record(OperatorEvent(0.0, 'r1', note.session, note.event, note.details))
    return log.lines


@pytest.mark.parametrize('case', CAUSES, ids=' - '.join)
def test_cause_is_told_in_show_and_in_the_log(
    case: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence, _ = case
    router = CAUSES[case]()
    rows = snapshot(router.core.state, router.world.now)
    (row,) = (row for row in rows if row['session'] == SESSION)
    assert sentence in str(row['last_error'])
    assert row['try_next']
    assert any(sentence in line for line in logged(router, monkeypatch))


def test_table_of_the_document_has_these_sentences() -> None:
    text = (Path(__file__).parents[3] / 'docs' / 'gatekeeper.md').read_text()
    lines = text.partition(HEADING)[2].splitlines()
    cells = [line.strip('| ').split(' | ') for line in lines if line.startswith('| ')][1:]
    assert {(said.strip('`'), keys) for _, said, keys in cells} == set(CAUSES)
    assert len(cells) == len(CAUSES)

"""The interop tables: what a row says, and that none is overwritten."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.interop_report import Report, shared_report

COLUMNS = ('peer', 'what')


def written(report: Report) -> list[tuple[str, str, str]]:
    """(what, outcome, note) of each row of the JSON file."""
    data = json.loads(report.json_path.read_text())
    return [(row['what'], row['outcome'], row['note']) for row in data['rows']]


def fail_after_all(report: Report) -> None:
    with report.row('x', 'fails after all') as row:
        row.unsupported('it said no')
        raise AssertionError


def test_row_is_good_only_when_nothing_was_raised(tmp_path: Path) -> None:
    report = Report('t', 'T', COLUMNS, tmp_path)
    with report.row('x', 'works'):
        pass
    with pytest.raises(AssertionError), report.row('x', 'fails'):
        raise AssertionError
    with pytest.raises(AssertionError):
        fail_after_all(report)
    with report.row('x', 'lacks it') as row:
        row.unsupported('it said no')
    assert written(report) == [
        ('works', 'good', ''),
        ('fails', 'BAD', ''),
        ('fails after all', 'BAD', 'it said no'),
        ('lacks it', 'not supported', 'it said no'),
    ]


def test_markdown_and_json_say_the_same(tmp_path: Path) -> None:
    report = Report('t', 'T', COLUMNS, tmp_path)
    with report.row('x', 'a|b') as row:
        row.note = 'two\nlines'
    with pytest.raises(KeyError), report.row('x', 'c'):
        raise KeyError
    assert report.markdown_path.read_text().splitlines() == [
        f'# T, Linux {os.uname().release}',
        '',
        '1 good, 1 bad, 0 not supported',
        '',
        '| peer | what | outcome | note |',
        '| --- | --- | --- | --- |',
        '| x | a\\|b | good | two lines |',
        '| x | c | **BAD** |  |',
    ]


def test_run_leaves_its_rows_when_it_breaks_off(tmp_path: Path) -> None:
    report = Report('t', 'T', COLUMNS, tmp_path)
    with report.row('x', 'first'):
        pass
    with report.row('x', 'second'):
        assert written(report) == [('first', 'good', '')]


def test_all_modules_of_a_run_write_one_table() -> None:
    report = shared_report('test of the shared table', 'T', COLUMNS)
    assert shared_report('test of the shared table', 'T', COLUMNS) is report
    with pytest.raises(AssertionError, match='two tables'):
        shared_report('test of the shared table', 'T', ('other',))


def test_each_kernel_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Report('t', 'T', COLUMNS, tmp_path)
    names = os.uname()
    other = os.uname_result((*names[:2], '0.0-guest', *names[3:]))
    monkeypatch.setattr(os, 'uname', lambda: other)
    there = Report('t', 'T', COLUMNS, tmp_path)
    with here.row('x', 'on the host'), there.row('x', 'in the guest'):
        pass
    assert written(here) == [('on the host', 'good', '')]
    assert written(there) == [('in the guest', 'good', '')]

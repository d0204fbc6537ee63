"""Interop tables: what was tried between which ends, and what came of it.

A table goes to `build/interop/` as Markdown and JSON, after each row, so a run that breaks off
leaves what it has. All modules of one run that name the same table add to it; the kernel that it
ran on is in the file's name, so host and guest don't overwrite each other's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / 'build' / 'interop'

Cell = str | int


class Outcome(StrEnum):
    """The outcome of a row."""

    GOOD = 'good'
    BAD = 'BAD'
    UNSUPPORTED = 'not supported'
    """The other end can't do it, and said so when it was tried; the note has its words."""


@dataclass
class Row:
    """One thing tried. What it is stands in `cells`, a test may add a note."""

    cells: dict[str, Cell]
    outcome: Outcome = Outcome.BAD
    note: str = ''

    def unsupported(self, reason: str) -> None:
        """The other end was asked, and can't."""
        self.outcome = Outcome.UNSUPPORTED
        self.note = reason


class Report:
    """A table. Rows are in the order in which they were tried."""

    def __init__(
        self, name: str, title: str, columns: tuple[str, ...], folder: Path = FOLDER
    ) -> None:
        self.title = title
        self.columns = columns
        self.rows: list[Row] = []
        self._kernel = os.uname().release
        self._path = folder / f'{name}-on-{self._kernel}'

    @contextmanager
    def row(self, *cells: Cell) -> Iterator[Row]:
        """Report what happens inside as one row: good unless it raises, or says "unsupported"."""
        row = Row(dict(zip(self.columns, cells, strict=True)))
        try:
            yield row
        except BaseException:
            row.outcome = Outcome.BAD
            raise
        else:
            if row.outcome is not Outcome.UNSUPPORTED:
                row.outcome = Outcome.GOOD
        finally:
            self.rows.append(row)
            self._write()

    @property
    def json_path(self) -> Path:
        """Where it is for machines."""
        return self._path.with_name(self._path.name + '.json')

    @property
    def markdown_path(self) -> Path:
        """Where it is for people."""
        return self._path.with_name(self._path.name + '.md')

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{**row.cells, 'outcome': row.outcome, 'note': row.note} for row in self.rows]
        data = {'title': self.title, 'kernel': self._kernel, 'rows': rows}
        self.json_path.write_text(json.dumps(data, indent=1) + '\n')
        self.markdown_path.write_text('\n'.join(self._markdown()) + '\n')

    def _markdown(self) -> Iterator[str]:
        yield f'# {self.title}, Linux {self._kernel}'
        yield ''
        yield ', '.join(
            f'{sum(row.outcome is outcome for row in self.rows)} {outcome.lower()}'
            for outcome in Outcome
        )
        yield ''
        yield _line(*self.columns, 'outcome', 'note')
        yield _line(*('---' for _ in range(len(self.columns) + 2)))
        for row in self.rows:
            outcome = '**BAD**' if row.outcome is Outcome.BAD else row.outcome
            yield _line(*row.cells.values(), outcome, row.note)


def _line(*cells: Cell) -> str:
    texts = (' '.join(str(cell).split()).replace('|', '\\|') for cell in cells)
    return f'| {" | ".join(texts)} |'


_reports: dict[str, Report] = {}


def shared_report(name: str, title: str, columns: tuple[str, ...]) -> Report:
    """The table of that name: one in a run, whichever modules ask for it."""
    report = _reports.setdefault(name, Report(name, title, columns))
    assert (report.title, report.columns) == (title, columns), f'two tables are called {name}'
    return report

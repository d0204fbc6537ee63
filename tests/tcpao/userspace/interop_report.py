"""The interop matrix: what was tried between which ends, and what came of it.

Written to `build/interop/` as Markdown and JSON, one of each for every kernel that tests run on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / 'build' / 'interop'


@dataclass(frozen=True)
class Row:
    """One thing tried."""

    client: str
    server: str
    version: int
    what: str
    suite: str
    tcp_options: bool
    ok: bool


class Report:
    """Rows of one run of the tests."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rows: list[Row] = []

    @contextmanager
    def row(
        self,
        client: str,
        server: str,
        version: int,
        what: str,
        suite: str = 'hmac-sha-1-96',
        tcp_options: bool = True,
    ) -> Iterator[None]:
        """What happens inside is one row: good unless it raises."""
        ok = False
        try:
            yield
            ok = True
        finally:
            self._rows.append(Row(client, server, version, what, suite, tcp_options, ok))

    def write(self) -> None:
        """To both files; nothing if nothing was tried."""
        if not self._rows:
            return
        FOLDER.mkdir(parents=True, exist_ok=True)
        kernel = os.uname().release
        text = json.dumps({'kernel': kernel, 'rows': [asdict(row) for row in self._rows]}, indent=1)
        (FOLDER / f'{self._name}.json').write_text(text + '\n')
        lines = [
            f'# TCP-AO interoperability: {self._name}, Linux {kernel}',
            '',
            f'{sum(row.ok for row in self._rows)} of {len(self._rows)} good.',
            '',
            '| client | server | IP | what | suite | options covered | |',
            '|---|---|---|---|---|---|---|',
            *(
                f'| {row.client} | {row.server} | {row.version} | {row.what} | {row.suite} '
                f'| {"yes" if row.tcp_options else "no"} | {"good" if row.ok else "**BAD**"} |'
                for row in self._rows
            ),
        ]
        (FOLDER / f'{self._name}.md').write_text('\n'.join(lines) + '\n')

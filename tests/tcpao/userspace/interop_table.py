"""The table of packet process and kernel: the columns of `tests.interop_report` that it has."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests.interop_report import Row, shared_report

_COLUMNS = ('client', 'server', 'IP', 'what', 'suite', 'options covered')


class Table:
    """Rows of this run."""

    def __init__(self, name: str) -> None:
        self._report = shared_report(name, 'TCP-AO interoperability', _COLUMNS)

    def row(
        self,
        client: str,
        server: str,
        version: int,
        what: str,
        suite: str = 'hmac-sha-1-96',
        tcp_options: bool = True,
    ) -> AbstractContextManager[Row]:
        """What happens inside is one row: good unless it raises."""
        return self._report.row(
            client, server, version, what, suite, 'yes' if tcp_options else 'no'
        )

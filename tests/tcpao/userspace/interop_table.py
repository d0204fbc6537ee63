"""The table of packet process and kernel: the columns of `tests.interop_report` that it has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any

from tests.interop_report import Row, shared_report

Test = Callable[..., None]

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
        """Report what happens inside as one row: good unless it raises."""
        return self._report.row(
            client, server, version, what, suite, 'yes' if tcp_options else 'no'
        )

    def of(self, what: str, client: str, server: str) -> Callable[[Test], Test]:
        """A decorator: the test is a row, of the IP version and suite in its arguments."""

        def decorate(test: Test) -> Test:
            @wraps(test)
            def recorded(**arguments: Any) -> None:
                version = arguments.get('version', 4)
                suite = arguments.get('algorithm', 'hmac-sha-1-96')
                with self.row(client, server, version, what.format(**arguments), suite):
                    test(**arguments)

            return recorded

        return decorate

"""The second net by the command `nft`, which a keeper runs as root: lighter than a library.

The message of a RulesError is nft's own first line.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection, Iterable
from typing import Final

from tcpao.second_net.ruleset import COUNTERS, PREFIX, Service, number_of, script, table_name
from tcpao.userspace.rules.existing_tables import may_have_tables
from tcpao.userspace.rules.interface import RulesError
from tcpao.userspace.rules.nftables_watch import NftablesWatch, Watch

_PATIENCE: Final = 10.0
"""Seconds to wait for one run."""
# Daemons often have no /usr/sbin in their path.
_ENVIRONMENT: Final = {'PATH': f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin', 'LC_ALL': 'C'}


class NftNetRules:
    """A table of nftables for each net, replaced by one transaction."""

    def numbers(self) -> set[int]:
        """Return the numbers of our tables."""
        if not may_have_tables(PREFIX):
            return set()
        listed = json.loads(_run(['-j', 'list', 'tables', 'inet']) or '{}')
        names = (one['table']['name'] for one in listed.get('nftables', ()) if 'table' in one)
        return {number for number in map(number_of, names) if number is not None}

    def replace(
        self, number: int, services: Collection[Service], without: Iterable[int] = ()
    ) -> None:
        """Execute one script, whole or not at all."""
        _run(['-f', '-'], script(number, services, without))

    def stands(self, number: int, services: Collection[Service]) -> bool:
        """Return False if the table is gone."""
        return number in self.numbers()

    def counters(self, number: int) -> dict[str, int]:
        """Return the packets of the table's counters."""
        found = dict.fromkeys(COUNTERS, 0)
        if number in self.numbers():
            text = _run(['-j', 'list', 'counters', 'table', 'inet', table_name(number)])
            for one in json.loads(text)['nftables']:
                if 'counter' in one:
                    found[one['counter']['name']] = one['counter']['packets']
        return found

    def watch(self, number: int) -> Watch:
        """Return a watch for the removal of this table."""
        try:
            return NftablesWatch({table_name(number)})
        except OSError as error:
            raise RulesError(f'nobody would notice a flush: {error}') from None

    def name(self, number: int) -> str:
        """Return the table's name."""
        return f'nftables: table inet {table_name(number)}'


def _run(arguments: list[str], text: str = '') -> str:
    try:
        done = subprocess.run(
            ['nft', *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env=_ENVIRONMENT,
            check=False,
        )
    except FileNotFoundError:
        raise RulesError('nft is not installed') from None
    except OSError as error:
        raise RulesError(f'nft cannot be run: {error.strerror}') from None
    except subprocess.TimeoutExpired:
        raise RulesError(f'nft did not end within {_PATIENCE:g} s') from None
    if done.returncode:
        raise RulesError((done.stderr.strip() or 'nft failed').splitlines()[0])
    return done.stdout

"""The command `nft`, which a keeper runs as root: a common program, lighter than a library."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Final

from tcpao.second_net.ruleset import COUNTERS, number_of, table_name

_PATIENCE: Final = 10.0
"""Seconds to wait for one run."""
# Daemons often have no /usr/sbin in their path.
_ENVIRONMENT: Final = {'PATH': f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin', 'LC_ALL': 'C'}


class NftError(Exception):
    """Rules could not be made, or read; the message is nft's own first line."""


def apply(script: str) -> None:
    """Execute a script, whole or not at all. Raises NftError."""
    _run(['-f', '-'], script)


def our_tables() -> set[int]:
    """Return the numbers of our tables that exist. Raises NftError."""
    listed = json.loads(_run(['-j', 'list', 'tables', 'inet']) or '{}')
    names = (one['table']['name'] for one in listed.get('nftables', ()) if 'table' in one)
    return {number for number in map(number_of, names) if number is not None}


def counters(number: int) -> dict[str, int]:
    """Return packets by counter; zeros if there is no table. Raises NftError."""
    found = dict.fromkeys(COUNTERS, 0)
    if number in our_tables():
        listed = json.loads(_run(['-j', 'list', 'counters', 'table', 'inet', table_name(number)]))
        for one in listed['nftables']:
            if 'counter' in one:
                found[one['counter']['name']] = one['counter']['packets']
    return found


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
        raise NftError('nft is not installed') from None
    except OSError as error:
        raise NftError(f'nft cannot be run: {error.strerror}') from None
    except subprocess.TimeoutExpired:
        raise NftError(f'nft did not end within {_PATIENCE:g} s') from None
    if done.returncode:
        raise NftError((done.stderr.strip() or 'nft failed').splitlines()[0])
    return done.stdout

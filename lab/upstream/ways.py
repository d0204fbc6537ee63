"""The two programs that are compared, and a table of what each did."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_BIN = Path(sys.executable).parent


class Way(StrEnum):
    """The two ways to run ExaBGP."""

    PLAIN = 'plain'
    HOOKS = 'with our hooks'
    PROTECTED = 'protected'
    """With our hooks, and every neighbor in a keychain."""

    @property
    def program(self) -> str:
        """Return the path of the command."""
        return str(_BIN / ('exabgp' if self is Way.PLAIN else 'exabgp-gatekeeper'))


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of each run: no CLI pipes, no listener, quiet."""
    return {
        **{name: value for name, value in os.environ.items() if 'exabgp' not in name.lower()},
        'exabgp_api_cli': 'false',
        'exabgp_tcp_bind': '',
        **{f'exabgp_{name}': value for name, value in settings.items()},
    }


_VOLATILE = (
    (re.compile(r'\x1b\[[0-9;]*m'), ''),
    (re.compile(r'\d{2}:\d{2}:\d{2}[.0-9]*'), 'TIME'),
    (re.compile(r'"(time|pid|ppid|counter)"\s*:\s*[0-9.]+'), r'"\1": 0'),
    (re.compile(r'\b(pid|PID)\s+\d+'), 'PID'),
    (re.compile(r'\| \d+ +\|'), '| PID |'),
    (re.compile(r'0x[0-9a-f]{8,}'), '0xADDRESS'),
    (re.compile(r'exabgp(-gatekeeper)?\b'), 'exabgp'),
)


def settled(text: str) -> str:
    """Return `text` without what differs from run to run: times, process ids, addresses."""
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return text


@dataclass(frozen=True, slots=True)
class Difference:
    """One row: what plain ExaBGP does differently from ExaBGP with our hooks."""

    case: str
    plain: str
    hooks: str
    """Of the second program, whichever it is."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a suite."""

    suite: str
    passed: Mapping[Way, int]
    failed: Mapping[Way, int]
    differences: tuple[Difference, ...] = ()
    note: str = ''

    def row(self) -> str:
        """Return a row of the table in Markdown."""
        counts = ' | '.join(f'{self.passed[way]} / {self.failed[way]}' for way in self.passed)
        return f'| {self.suite} | {counts} | {len(self.differences)} | {self.note} |'


def failed_in_both(plain: Mapping[str, str], hooks: Mapping[str, str]) -> str:
    """Return the names of cases that went wrong both times; values are what went wrong."""
    names = [name for name in plain if plain[name] and hooks.get(name)]
    return f'both fail: {", ".join(names)}' if names else ''


def table(results: Iterable[Result]) -> str:
    """Return the table in Markdown, with each difference below it."""
    lines = [
        '| suite | plain: passed / failed | with our hooks: passed / failed | rows that differ | |',
        '|---|---|---|---|---|',
    ]
    below: list[str] = []
    for result in results:
        lines.append(result.row())
        for difference in result.differences:
            below += [
                f'{result.suite}: {difference.case}',
                f'  plain:          {difference.plain}',
                f'  with our hooks: {difference.hooks}',
            ]
    return '\n'.join([*lines, '', *below])

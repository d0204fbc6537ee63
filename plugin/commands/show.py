"""The commands `show ikev2`, `show ikev2 backend` and `show ikev2 keytable`, also with `json`.

Read only, and without secrets: the gatekeeper's snapshot has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from exabgp.reactor.api.command.command import Command

from gatekeeper.reporting.text_table import KEY_TABLE_FIELDS, key_table_cells, text_table
from gatekeeper.service.gatekeeper import GatekeeperError
from plugin.commands.answers import NOTHING, Answer, answer, known, then
from plugin.connections.runtime import Runtime
from plugin.patching import add

NAME = 'show ikev2'
BACKEND = 'backend'
KEY_TABLE = 'keytable'
WORDS = (BACKEND, KEY_TABLE, 'json', 'text')

Row = dict[str, object]


def _since(row: Row, now: float) -> str:
    value = row.get('since')
    return f'{max(0, now - value):.0f} s' if isinstance(value, int | float) else '-'


def _left(row: Row, now: float) -> str:
    value = row.get('expires')
    return f'{max(0, value - now):.0f} s' if isinstance(value, int | float) else '-'


def _plain(name: str) -> Callable[[Row, float], str]:
    def cell(row: Row, now: float) -> str:
        value = row.get(name)
        return '-' if value is None else str(value)

    return cell


def _peer(row: Row, now: float) -> str:
    """Return the peer's proven identity, or its configured identity or key."""
    chain, key = row.get('keychain'), row.get('key')
    if chain is None:
        return _plain('peer_id')(row, now)
    return f'keychain {chain}' if key is None else f'keychain {chain} key {key}'


def _next(row: Row, now: float) -> str:
    """Return the key that a keychain will prefer next."""
    change, key = row.get('next_change'), row.get('next_key')
    if not isinstance(change, int | float):
        return '-'
    what = 'denies' if key is None else f'key {key}'
    return f'{what} in {max(0, change - now):.0f} s'


def _keyids(row: Row, now: float) -> str:
    send_id, recv_id = row.get('send_id'), row.get('recv_id')
    return '-' if send_id is None else f'{send_id}/{"-" if recv_id is None else recv_id}'


def _trouble(row: Row, now: float) -> str:
    """Return the failure that explains most, what to try next, and how BGP ended."""
    told = [str(row[name]) for name in ('last_error', 'try_next') if row.get(name)]
    if row.get('notification'):
        told.append(f'BGP: {row["notification"]}')
    return '; '.join(told) or '-'


COLUMNS: tuple[tuple[str, Callable[[Row, float], str]], ...] = (
    ('Neighbor', _plain('neighbor')),
    ('Session', _plain('session')),
    ('State', _plain('state')),
    ('Local', _plain('local')),
    ('Remote', _plain('remote')),
    ('Algorithm', _plain('algorithm')),
    ('Send/Recv', _keyids),
    ('Since', _since),
    ('Expires', _left),
    ('Next', _next),
    ('Rekeys', _plain('rekeys')),
    ('Peer', _peer),
    ('Last error', _trouble),
)


def table(rows: Sequence[Row], now: float) -> list[str]:
    """Return one line each, a head line first; columns as wide as their widest cell."""
    lines = [[title for title, _ in COLUMNS]]
    lines += [[cell(row, now) for _, cell in COLUMNS] for row in rows]
    return text_table(lines)


def which_backend(row: Row) -> str:
    """Return the backend that protects the connections here, and the reason for it."""
    return f'TCP-AO backend: {row.get("backend")}, since {row.get("backend_why")}'


def _sessions(running: Runtime | None) -> Future[Answer]:
    return then(running.gatekeeper.look(), _of_rows) if running is not None else known(_of_rows([]))


def _of_rows(rows: list[Row]) -> Answer:
    return rows, [*table(rows, time.time()), which_backend(rows[0])] if rows else [NOTHING]


def _backend(running: Runtime | None) -> Future[Answer]:
    if running is None:
        return known(({}, [NOTHING]))
    counted = running.gatekeeper.counted()
    said = {'backend', 'backend_why'}
    counters = [f'{name}: {value}' for name, value in counted.items() if name not in said]
    return known((counted, [which_backend(counted), *counters]))


def _key_table(running: Runtime | None) -> Future[Answer]:
    if running is None:
        return known(([], [NOTHING]))
    return then(running.gatekeeper.key_table(), _of_key_table)


def _of_key_table(rows: list[Row]) -> Answer:
    lines = text_table([KEY_TABLE_FIELDS, *(key_table_cells(row) for row in rows)])
    return rows, lines


_LOOKS = {BACKEND: _backend, KEY_TABLE: _key_table}


def show(self: Any, reactor: Any, service: str, line: str, use_json: bool) -> bool:
    """Answer the command; return True, as ExaBGP requires."""
    words = line.removeprefix(NAME).split()
    look = next((_LOOKS[word] for word in words if word in _LOOKS), _sessions)

    def ask(running: Runtime | None) -> Future[Answer]:
        for word in words:
            if word not in WORDS:
                raise GatekeeperError(
                    f'{NAME}: {word!r} is unknown; expected json, backend or keytable'
                )
        return look(running)

    answer(reactor, service, ask, use_json)
    return True


def install() -> None:
    """Register the command, with JSON: otherwise the word `json` would be fatal."""
    tables = Command.callback
    for kind in ('text', 'json'):
        add(tables[kind], NAME, show)
    add(tables['neighbor'], NAME, False)
    add(tables['options'], NAME, ['json', BACKEND, KEY_TABLE])
    Command.functions.append(NAME)
    Command.functions.sort(reverse=True)

"""`gatekeeper keytable`: show, select, export and import rows of a crypto key table (RFC 7210).

A table is a JSON list of rows, as a running daemon prints it on request. Keys are never
printed; they go into private files, and come from private files.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from gatekeeper.configuration.keychains import master_key
from gatekeeper.policy import key_table
from gatekeeper.policy.key_table import KeyTableError, Row
from gatekeeper.reporting.text_table import KEY_TABLE_FIELDS, key_table_cells, text_table
from gatekeeper.tools.errors import ANY_OWNER, ToolError
from gatekeeper.tools.keychain_of_table import keychain_of, write_keychain
from keymaterial import KeyFileError, create_private_file, read_public_file, read_secret_file
from tcpao.verification.known_keys import (
    KnownKey,
    KnownKeyError,
    parse_endpoint,
    read_known_keys,
)

LARGEST_TABLE: Final = 16 * 1024 * 1024
NOT_FOUND: Final = 1
STANDARD_INPUT: Final = Path('-')


def add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `keytable` to the command line."""
    top = verbs.add_parser('keytable', help='rows of a crypto key table (RFC 7210), as JSON')
    actions = top.add_subparsers(dest='action', required=True)
    show = _action(actions, 'show', 'print the rows, without keys')
    show.set_defaults(run=_show)
    select = _action(actions, 'select', 'print the row that RFC 7210 selects; status 1: none')
    select.add_argument('--peer', type=ip_address, required=True, metavar='ADDRESS')
    select.add_argument(
        '--receive', type=_key_name, metavar='LOCALKEYNAME', help='for a segment with this KeyID'
    )
    select.add_argument('--connection', metavar='TEXT', help="as in the row's information")
    select.add_argument('--at', type=_time, metavar='TIME', help='20261123120000Z; default: now')
    select.set_defaults(run=_select)
    export = _action(actions, 'export', 'write the rows into a new private file; keys on request')
    export.add_argument('out', type=Path, metavar='FILE')
    export.add_argument(
        '--keys', type=Path, metavar='FILE', help="the daemon's private list of negotiated keys"
    )
    export.add_argument(
        '--key-file',
        nargs=2,
        action='append',
        default=[],
        metavar=('ADMINKEYNAME', 'FILE'),
        help='the key file of a manual key; may be repeated',
    )
    export.set_defaults(run=_export)
    taken = _action(actions, 'import', 'write key files, and print a keychain of the rows')
    taken.add_argument('--name', required=True, help='of the keychain')
    taken.add_argument('--folder', type=Path, required=True, help='for the key files')
    taken.add_argument('--peer', type=ip_address, metavar='ADDRESS', help='only rows of this peer')
    taken.add_argument(
        '--from-peer', action='store_true', help="the table is the peer's: swap the key names"
    )
    taken.set_defaults(run=_import)


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, about: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=about)
    parser.add_argument('table', type=Path, metavar='TABLE', help='a JSON file, or - for input')
    return parser


def _show(arguments: argparse.Namespace) -> int:
    rows = _read(arguments.table)
    print('\n'.join(text_table([KEY_TABLE_FIELDS, *(key_table_cells(r.to_json()) for r in rows)])))
    return 0


def _select(arguments: argparse.Namespace) -> int:
    rows, peer, connection = _read(arguments.table), arguments.peer, arguments.connection
    wall = time.time() if arguments.at is None else arguments.at
    if arguments.receive is None:
        found = key_table.select_to_send(rows, peer, wall, connection)
    else:
        found = key_table.select_to_accept(rows, peer, arguments.receive, wall, connection)
    if found is None:
        print('no key is selected', file=sys.stderr)
        return NOT_FOUND
    print(json.dumps(found.to_json(), indent=2))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    rows = _read(arguments.table)
    try:
        known = read_known_keys(arguments.keys) if arguments.keys is not None else []
        rows = [_with_negotiated_key(row, known) for row in rows]
        for name, path in arguments.key_file:
            rows = _with_manual_key(rows, name, path)
        octets = json.dumps([row.to_json(with_key=True) for row in rows], indent=2).encode()
        with os.fdopen(create_private_file(arguments.out), 'wb') as file:
            file.write(octets + b'\n')
    except (KeyFileError, KnownKeyError) as error:
        raise ToolError(str(error)) from None
    except OSError as error:
        raise ToolError(f'cannot write {arguments.out}: {error.strerror}') from None
    keyed = sum(row.key is not None for row in rows)
    print(f'{arguments.out}: {len(rows)} rows, {keyed} with their key')
    return 0


def _with_negotiated_key(row: Row, known: Sequence[KnownKey]) -> Row:
    """Return the row with its key, if the list has it: ends and ids there are the opener's."""
    if row.connection is None or row.key is not None:
        return row
    try:
        local, remote = (parse_endpoint(end) for end in row.connection.split(' -> '))
    except ValueError:
        raise ToolError(f'{row.admin_key_name}: connection {row.connection!r} is none') from None
    ours = (local, remote, row.send_id, row.recv_id)
    theirs = (remote, local, row.recv_id, row.send_id)
    for key in reversed(known):
        if (key.local, key.remote, key.send_id, key.recv_id) in (ours, theirs):
            return replace(row, key=key.master_key)
    return row


def _with_manual_key(rows: Sequence[Row], name: str, path: str) -> list[Row]:
    """Return the rows, the named one with the key of a key file. Raises KeyFileError."""
    if name not in {row.admin_key_name for row in rows}:
        raise ToolError(f'no row has the AdminKeyName {name!r}')
    key = master_key(read_secret_file(path, owners=ANY_OWNER))
    if key is None:
        raise ToolError(f'{path} begins with 0x and holds no hex')
    return [replace(row, key=key) if row.admin_key_name == name else row for row in rows]


def _import(arguments: argparse.Namespace) -> int:
    rows = _read(arguments.table)
    if arguments.peer is not None:
        rows = [row for row in rows if arguments.peer in row.peers]
    chain = keychain_of(arguments.name, rows, from_peer=arguments.from_peer)
    print('\n'.join(write_keychain(chain, arguments.folder)))
    return 0


def _read(path: Path) -> list[Row]:
    """Return the rows of a table; a file with keys must be private. Raises ToolError."""
    try:
        if path == STANDARD_INPUT:
            return _parse(sys.stdin.read())
        rows = _parse(read_public_file(path, LARGEST_TABLE))
        if any(row.key is not None for row in rows):
            rows = _parse(read_secret_file(path, largest=LARGEST_TABLE, owners=ANY_OWNER).reveal())
        return rows
    except (KeyFileError, KeyTableError) as error:
        raise ToolError(str(error)) from None


def _parse(text: str | bytes) -> list[Row]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ToolError('the table is not JSON') from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ToolError('the table is not a JSON list of rows')
    rows = []
    for number, one in enumerate(found, 1):
        try:
            rows.append(key_table.row_of(one))
        except KeyTableError as error:
            raise ToolError(f'row {number}: {error}') from None
    return rows


def _key_name(text: str) -> int:
    if len(text) != 2:
        raise argparse.ArgumentTypeError('two hex digits, like 0a')
    return int(text, 16)


def _time(text: str) -> float:
    try:
        return key_table.time_of(text)
    except KeyTableError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

"""A keychain of rows of a key table: its private key files, and its text for the configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gatekeeper.configuration.values import WordError, chain_name
from gatekeeper.policy.key_table import Direction, Row
from gatekeeper.policy.keychain import (
    ALWAYS,
    ChainKey,
    Keychain,
    KeychainError,
    Lifetime,
    check_keychain,
)
from gatekeeper.tools.errors import ToolError
from keymaterial import create_private_file


def keychain_of(name: str, rows: Sequence[Row], *, from_peer: bool) -> Keychain:
    """Return the keychain; disabled rows are left out.

    `from_peer`: the table is the peer's, whose key names are the other way round. Raises ToolError
    if a row has no key, is for sending only, or doesn't go with the others.
    """
    usable = [row for row in rows if row.direction is not Direction.DISABLED]
    keys = [_key(number, row, from_peer=from_peer) for number, row in enumerate(usable, 1)]
    try:
        chain = Keychain(str(chain_name((name,))), tuple(keys))
        check_keychain(chain)
    except WordError as error:
        raise ToolError(f'--name: {error.cause}; expected {error.expected}') from None
    except KeychainError as error:
        raise ToolError(str(error)) from None
    return chain


def _key(number: int, row: Row, *, from_peer: bool) -> ChainKey:
    if row.key is None:
        raise ToolError(f'{row.admin_key_name} has no key: export the table with keys first')
    one_way = Direction.OUT if not from_peer else Direction.IN
    if row.direction is one_way:
        raise ToolError(
            f'{row.admin_key_name} is for sending only: a key of TCP-AO serves both directions'
        )
    made = ChainKey(
        number=number,
        send_id=row.send_id,
        recv_id=row.recv_id,
        algorithm=row.algorithm,
        master_key=row.key,
        tcp_options=row.tcp_options,
        send=row.send,
        accept=row.accept,
    )
    if from_peer:
        made = replace(made, send_id=row.recv_id, recv_id=row.send_id)
    if row.direction is not Direction.BOTH:
        made = replace(made, send=Lifetime(row.accept.start, row.accept.start))
    return made


def write_keychain(chain: Keychain, folder: Path) -> list[str]:
    """Write the key files, all or none; return the lines of the configuration. Raises ToolError."""
    paths: list[Path] = []
    try:
        for key in chain.keys:
            path = folder / f'{chain.name}-{key.number}.key'
            descriptor = create_private_file(path)
            paths.append(path)
            with os.fdopen(descriptor, 'wb') as file:
                file.write(b'0x' + key.master_key.reveal().hex().encode() + b'\n')
    except OSError as error:
        for path in paths:
            with suppress(OSError):
                path.unlink()
        raise ToolError(f'cannot write {error.filename}: {error.strerror}') from None
    lines = [f'keychain {chain.name} {{']
    for key, path in zip(chain.keys, paths, strict=True):
        lines += _lines(key, path)
    return [*lines, '}']


def _lines(key: ChainKey, path: Path) -> list[str]:
    said = [
        f'send-id {key.send_id}; recv-id {key.recv_id};',
        f'algorithm {key.algorithm.name};',
        f'key-file "{path.absolute()}";',
        f'tcp-options {"included" if key.tcp_options else "excluded"};',
        f'send-lifetime {_since_epoch(key.send)};',
        f'accept-lifetime {_since_epoch(key.accept)};',
    ]
    return [f'    key {key.number} {{', *(f'        {line}' for line in said), '    }']


def _since_epoch(lifetime: Lifetime) -> Lifetime:
    """Return the lifetime with a beginning that the configuration has words for."""
    if lifetime == ALWAYS:
        return lifetime
    return Lifetime(max(lifetime.start, 0.0), max(lifetime.end, 0.0))

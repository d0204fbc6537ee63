"""Master keys for the verification of captures: the list in `keys.json`.

Each object has `algorithm` and `master_key` (hex); `session`, `local`, `remote`, `tcp_options`,
`send_id` and `recv_id` may be missing. Ends and ids are seen from the opener of the connection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from keymaterial import Secret, read_secret_file
from tcpao.mkt import ALGORITHMS, Algorithm, IPAddress

# A month of rekeys every few minutes fits.
LARGEST_FILE = 64 * 1024 * 1024

Endpoint = tuple[IPAddress, int]


class KnownKeyError(Exception):
    """The list of keys is wrong; the message names the object and the member."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One master key; None marks an unknown value, for which everything is tried."""

    algorithm: Algorithm
    master_key: Secret
    session: str | None = None
    local: Endpoint | None = None
    remote: Endpoint | None = None
    tcp_options: bool | None = None
    send_id: int | None = None
    recv_id: int | None = None

    def may_protect(self, client: Endpoint, server: Endpoint) -> bool:
        """Return True unless this key is known to be for other endpoints."""
        return self.local in (None, client) and self.remote in (None, server)

    def may_sign(self, *, from_client: bool, key_id: int) -> bool:
        """Return True unless the KeyID in this direction is known to be another."""
        return (self.send_id if from_client else self.recv_id) in (None, key_id)


def read_known_keys(path: str | Path) -> list[KnownKey]:
    """Return the keys of a private file.

    Raises keymaterial.KeyFileError if the file can't be read or isn't private, KnownKeyError if its
    content is wrong.
    """
    secret = read_secret_file(path, largest=LARGEST_FILE)
    try:
        return parse_known_keys(secret.reveal())
    finally:
        secret.wipe()


def parse_known_keys(octets: bytes) -> list[KnownKey]:
    """Return the keys of a JSON list. Raises KnownKeyError, which never quotes a key."""
    try:
        entries = json.loads(octets)
    except (ValueError, RecursionError):
        raise KnownKeyError('the list of keys is not JSON') from None
    if not isinstance(entries, list):
        raise KnownKeyError('the keys must be a JSON list of objects')
    return [_known_key(number, entry) for number, entry in enumerate(entries, 1)]


def _known_key(number: int, entry: object) -> KnownKey:
    if not isinstance(entry, dict):
        raise KnownKeyError(f'key {number} is not an object')
    unknown = entry.keys() - _MEMBERS
    if unknown:
        raise KnownKeyError(f'key {number} has an unknown member {min(unknown)!r}')
    name = _typed(number, entry, 'algorithm', str)
    if name not in ALGORITHMS:
        raise KnownKeyError(f"key {number}: 'algorithm' must be one of {', '.join(ALGORITHMS)}")
    return KnownKey(
        algorithm=ALGORITHMS[name],
        master_key=_master_key(number, entry.get('master_key')),
        session=_typed(number, entry, 'session', str),
        local=_endpoint(number, entry, 'local'),
        remote=_endpoint(number, entry, 'remote'),
        tcp_options=_typed(number, entry, 'tcp_options', bool),
        send_id=_id(number, entry, 'send_id'),
        recv_id=_id(number, entry, 'recv_id'),
    )


_MEMBERS = {
    'algorithm',
    'master_key',
    'session',
    'local',
    'remote',
    'tcp_options',
    'send_id',
    'recv_id',
}


def _master_key(number: int, value: object) -> Secret:
    try:
        octets = bytes.fromhex(value) if isinstance(value, str) else b''
    except ValueError:
        octets = b''
    if not octets:
        raise KnownKeyError(f"key {number}: 'master_key' must be hex digits")
    return Secret(octets)


def _typed(number: int, entry: dict[str, Any], member: str, kind: type) -> Any:
    value = entry.get(member)
    if value is not None and type(value) is not kind:
        raise KnownKeyError(f'key {number}: {member!r} must be {_NAMES[kind]}')
    return value


_NAMES = {str: 'a string', bool: 'true or false', int: 'a number'}


def _id(number: int, entry: dict[str, Any], member: str) -> int | None:
    value: int | None = _typed(number, entry, member, int)
    if value is not None and not 0 <= value <= 255:
        raise KnownKeyError(f'key {number}: {member!r} must be from 0 to 255')
    return value


def _endpoint(number: int, entry: dict[str, Any], member: str) -> Endpoint | None:
    value: str | None = _typed(number, entry, member, str)
    if value is None:
        return None
    try:
        return parse_endpoint(value)
    except ValueError:
        raise KnownKeyError(
            f'key {number}: {member!r} must be like 10.0.0.1:179 or [fd00::1]:179'
        ) from None


def parse_endpoint(text: str) -> Endpoint:
    """Parse `10.0.0.1:179` or `[fd00::1]:179`. Raises ValueError."""
    host, colon, port = text.rpartition(':')
    bracketed = host.startswith('[') and host.endswith(']')
    address = ip_address(host[1:-1] if bracketed else host)
    if not colon or bracketed != (address.version == 6) or not 0 <= int(port) < 65536:
        raise ValueError(f'{text!r} is not an address and a port')
    return address, int(port)

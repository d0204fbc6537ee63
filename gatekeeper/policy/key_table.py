"""The crypto key table of RFC 7210: its rows, their text, and the selection of a row.

Pure. Every MKT is a row, negotiated or manual; `gatekeeper.state.key_table` makes the rows of a
running gatekeeper. The names of fields, and the text of times and keys, are the RFC's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address
from math import inf
from typing import Any, Final

from gatekeeper.policy import key_selection
from gatekeeper.policy.keychain import Lifetime
from keymaterial import Secret
from tcpao.mkt import ALGORITHMS, Algorithm, IPAddress

PROTOCOL: Final = 'TCP-AO'
ALL_INTERFACES: Final = 'all'
KDF_AND_ALGID: Final[dict[str, tuple[str, str]]] = {
    'hmac-sha-1-96': ('HMAC-SHA-1', 'HMAC-SHA-1-96'),
    'aes-128-cmac-96': ('AES-128-CMAC', 'AES-128-CMAC-96'),
    'hmac-sha-256-96': ('HMAC-SHA-256', 'HMAC-SHA-256-96'),
    'hmac-sha-256-128': ('HMAC-SHA-256', 'HMAC-SHA-256-128'),
    'hmac-sha256-128-hkdf': ('HKDF-SHA-256', 'HMAC-SHA-256-128'),
    'kmac256-128': ('KMAC256', 'KMAC256-128'),
}
"""KDF and AlgID of each algorithm. The first two are registered (RFC 7210 8.2, 8.3), the others
are named in the same way."""
_ALGORITHM_OF: Final = {pair: ALGORITHMS[name] for name, pair in KDF_AND_ALGID.items()}

_NO_START, _NO_END = '00010101000000Z', '99991231235959Z'
"""RFC 7210 has no text for a lifetime without a bound; the second is RFC 5280's (4.1.2.5)."""
_TIME = re.compile(r'[0-9]{14}Z', re.ASCII)
_KEY_NAME = re.compile(r'[0-9a-f]{2}', re.ASCII)
_HEX = re.compile(r'([0-9a-f]{2})+', re.ASCII)


class KeyTableError(ValueError):
    """A row is unusable; the message names its field."""


class Direction(StrEnum):
    """Traffic that a key may be used for."""

    IN = 'in'
    OUT = 'out'
    BOTH = 'both'
    DISABLED = 'disabled'


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. KeyIDs are numbers here, and two hex digits in text (RFC 7210 5.1)."""

    admin_key_name: str
    recv_id: int
    """LocalKeyName."""
    send_id: int
    """PeerKeyName."""
    peers: tuple[IPAddress, ...]
    algorithm: Algorithm
    """KDF and AlgID."""
    tcp_options: bool
    send: Lifetime
    accept: Lifetime
    direction: Direction = Direction.BOTH
    connection: str | None = None
    """The only socket pair of the key, `10.0.0.1:40001 -> 10.0.0.2:179`."""
    key: Secret | None = None
    """None: redacted."""

    def to_json(self, *, with_key: bool = False) -> dict[str, object]:
        """Return the row with the RFC's names; Key is null unless it is asked for."""
        kdf, algorithm = KDF_AND_ALGID[self.algorithm.name]
        info: dict[str, object] = {'tcp-options': 'included' if self.tcp_options else 'excluded'}
        if self.connection is not None:
            info['connection'] = self.connection
        shown = self.key.reveal().hex() if with_key and self.key is not None else None
        return {
            'AdminKeyName': self.admin_key_name,
            'LocalKeyName': f'{self.recv_id:02x}',
            'PeerKeyName': f'{self.send_id:02x}',
            'Peers': [str(peer) for peer in self.peers],
            'Interfaces': [ALL_INTERFACES],
            'Protocol': PROTOCOL,
            'ProtocolSpecificInfo': info,
            'KDF': kdf,
            'AlgID': algorithm,
            'Key': shown,
            'Direction': str(self.direction),
            'SendLifetimeStart': time_text(self.send.start),
            'SendLifeTimeEnd': time_text(self.send.end),
            'AcceptLifeTimeStart': time_text(self.accept.start),
            'AcceptLifeTimeEnd': time_text(self.accept.end),
        }


def row_of(said: Mapping[str, Any]) -> Row:
    """Return the row of a JSON object. Raises KeyTableError."""
    info = _field(said, 'ProtocolSpecificInfo', dict)
    if _field(said, 'Protocol', str) != PROTOCOL:
        raise KeyTableError(f'Protocol {said["Protocol"]!r} is not {PROTOCOL}')
    if ALL_INTERFACES not in _field(said, 'Interfaces', list):
        raise KeyTableError('Interfaces: TCP-AO has "all" only')
    if info.get('tcp-options') not in ('included', 'excluded'):
        raise KeyTableError('ProtocolSpecificInfo: tcp-options is included or excluded')
    suite = (_field(said, 'KDF', str), _field(said, 'AlgID', str))
    if suite not in _ALGORITHM_OF:
        raise KeyTableError(f'KDF {suite[0]} with AlgID {suite[1]} is no algorithm of ours')
    connection = info.get('connection')
    return Row(
        admin_key_name=_field(said, 'AdminKeyName', str),
        recv_id=_key_name(said, 'LocalKeyName'),
        send_id=_key_name(said, 'PeerKeyName'),
        peers=_peers(said),
        algorithm=_ALGORITHM_OF[suite],
        tcp_options=info['tcp-options'] == 'included',
        send=_lifetime(said, 'SendLifetimeStart', 'SendLifeTimeEnd'),
        accept=_lifetime(said, 'AcceptLifeTimeStart', 'AcceptLifeTimeEnd'),
        direction=_direction(said),
        connection=str(connection) if connection is not None else None,
        key=_key(said),
    )


# --- selection (RFC 7210 3) -------------------------------------------------------------------


def select_to_send(
    rows: Iterable[Row], peer: IPAddress, wall: float, connection: str | None = None
) -> Row | None:
    """Return the row to send with to this peer, on this connection if one is named."""
    found = _of_peer(rows, peer, connection, {Direction.OUT, Direction.BOTH})
    return key_selection.to_send(found, wall)


def select_to_accept(
    rows: Iterable[Row], peer: IPAddress, recv_id: int, wall: float, connection: str | None = None
) -> Row | None:
    """Return the row for a segment of this peer with this KeyID.

    None if there is none, or more than one: the connection decides between them.
    """
    found = _of_peer(rows, peer, connection, {Direction.IN, Direction.BOTH})
    named = key_selection.to_accept((row for row in found if row.recv_id == recv_id), wall)
    return named[0] if len(named) == 1 else None


def _of_peer(
    rows: Iterable[Row], peer: IPAddress, connection: str | None, directions: set[Direction]
) -> list[Row]:
    return [
        row
        for row in rows
        if peer in row.peers
        and row.direction in directions
        and (connection is None or row.connection in (None, connection))
    ]


# --- text -------------------------------------------------------------------------------------


def time_text(wall: float) -> str:
    """Return `20261123120000Z`, in whole seconds (RFC 7210 2)."""
    if wall == -inf:
        return _NO_START
    try:
        return datetime.fromtimestamp(wall, UTC).strftime('%Y%m%d%H%M%SZ')
    except (OverflowError, ValueError):
        return _NO_END


def time_of(text: str) -> float:
    """Return seconds since the epoch. Raises KeyTableError."""
    if text in (_NO_START, _NO_END):
        return -inf if text == _NO_START else inf
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return datetime.strptime(text, '%Y%m%d%H%M%SZ').replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise KeyTableError(f'{text!r} is no time like 20261123120000Z') from None


def _field(said: Mapping[str, Any], name: str, kind: type) -> Any:
    if not isinstance(said.get(name), kind):
        raise KeyTableError(f'{name} is missing, or is no {kind.__name__}')
    return said[name]


def _key_name(said: Mapping[str, Any], name: str) -> int:
    text = _field(said, name, str)
    if not _KEY_NAME.fullmatch(text):
        raise KeyTableError(f'{name} {text!r} is not two lowercase hex digits')
    return int(text, 16)


def _peers(said: Mapping[str, Any]) -> tuple[IPAddress, ...]:
    texts: Sequence[object] = _field(said, 'Peers', list)
    try:
        return tuple(ip_address(str(text)) for text in texts)
    except ValueError as error:
        raise KeyTableError(f'Peers: {error}') from None


def _lifetime(said: Mapping[str, Any], start: str, end: str) -> Lifetime:
    return Lifetime(time_of(_field(said, start, str)), time_of(_field(said, end, str)))


def _direction(said: Mapping[str, Any]) -> Direction:
    try:
        return Direction(_field(said, 'Direction', str))
    except ValueError:
        raise KeyTableError(f'Direction {said["Direction"]!r} is none of RFC 7210') from None


def _key(said: Mapping[str, Any]) -> Secret | None:
    if said.get('Key') is None:
        return None
    text = _field(said, 'Key', str)
    if not _HEX.fullmatch(text):
        raise KeyTableError('Key is not lowercase hex')
    return Secret(bytes.fromhex(text))

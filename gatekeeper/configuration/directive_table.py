"""Every directive of an `ikev2 { }` section and of its `session` blocks, each in one row.

Code that reads, merges, writes or offers directives (a configuration language, `gatekeeper probe`)
asks this table. A new word needs one row and nothing else. Data and pure functions only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final

from gatekeeper.configuration import values
from gatekeeper.configuration.values import Parser
from gatekeeper.policy.sessions import IKE_LIFETIME, SHORTEST_LIFETIME
from ikev2.proposals.policies import POLICIES

LONGEST_LIFETIME = 366 * 86400
"""Seconds. A key above a year is not rekeyed, it is forgotten."""
SHORTEST_IKE_LIFETIME = 60
LONGEST_LIVENESS = 86400
LONGEST_GRACE = 3600
LONGEST_TIMEOUT = 600
LEAST_SEGMENTS = 100
"""A change of keys takes some ten segments at each end."""
LEAST_OCTETS = 10_000
MOST_SEGMENTS = 2**31
"""Half of what the kernel's counter holds before it wraps."""
MOST_OCTETS = 2**53
LOWEST_SOURCE_PORT = 1024
"""Ports below need privileges, which a daemon has dropped when it connects."""


class Where(Enum):
    """Blocks that a directive may stand in."""

    SECTION = auto()
    SESSION = auto()
    BOTH = auto()
    """The session block has precedence."""


class Role(Enum):
    """The subject of a directive, which decides when it has an effect."""

    IKE = auto()
    """Without effect where the keys are a keychain's."""
    CREDENTIAL = auto()
    """As IKE, and read by `gatekeeper.configuration.credentials`."""
    NEGOTIATED = auto()
    """Negotiated for each key; with a keychain each key says it instead."""
    LOCAL = auto()
    """For negotiated keys, and a decision of this end: the peer is not told."""
    SESSION = auto()
    """For any source of keys."""


_OF_IKE: Final = frozenset({Role.IKE, Role.CREDENTIAL})


@dataclass(frozen=True, slots=True)
class Directive:
    """One row of the table."""

    name: str
    parse: Parser
    role: Role
    where: Where = Where.SECTION
    default: object = None
    """The value where the directive is missing; None: there is none."""
    quoted: bool = False
    """The value is printed in quotes."""
    listed: bool = False
    """The value is a tuple: one word, or several in [ ]."""
    excludes: frozenset[str] = frozenset()
    """Directives that this one supersedes when a neighbor inherits them."""
    needs: str | None = None
    """The directive without which this one means nothing."""
    offer: str = ''
    """What `gatekeeper probe` says of its option; empty: it has none of its own."""
    placeholder: str | None = None
    """The name of the option's value in the help."""


_PEERS_KEY: Final = frozenset(
    {'peer-key', 'peer-fingerprint', 'trust-anchor', 'crl', 'crl-required'}
)
_KEYCHAIN: Final = frozenset({'keychain'})
_PSK: Final = frozenset({'psk-file'})
_yes_or_no: Final = values.choice('true', 'false')
_ike_seconds: Final = values.number(SHORTEST_IKE_LIFETIME, LONGEST_LIFETIME, 'seconds')


_credential = partial(Directive, role=Role.CREDENTIAL)
_file = partial(_credential, parse=values.path, quoted=True, placeholder='FILE')
_files = partial(_credential, parse=values.paths, quoted=True, listed=True, placeholder='FILE')

_ROWS: Final = (
    Directive('local-id', values.identity, Role.IKE, excludes=_KEYCHAIN),
    Directive('peer-id', values.identity, Role.IKE, excludes=_KEYCHAIN),
    _file(
        'psk-file',
        offer='the pre-shared key',
        excludes=frozenset({'private-key', 'certificate'}) | _PEERS_KEY,
    ),
    _file('private-key', offer='our private key', excludes=_PSK),
    _file(
        'certificate',
        offer='our certificate, and the chain behind it',
        excludes=_PSK,
        needs='private-key',
    ),
    _file('peer-key', offer="the peer's public key", excludes=_PSK | _PEERS_KEY - {'peer-key'}),
    _credential(
        'peer-fingerprint',
        parse=values.fingerprint,
        excludes=_PSK | _PEERS_KEY - {'peer-fingerprint'},
        offer="of the peer's public key",
        placeholder='sha256:HEX',
    ),
    _files(
        'trust-anchor', offer='a CA of the peer', excludes=_PSK | {'peer-key', 'peer-fingerprint'}
    ),
    _files('crl', offer='its revocation list', needs='trust-anchor'),
    _credential(
        'crl-required',
        parse=_yes_or_no,
        needs='trust-anchor',
        offer='refuse a chain without a CRL',
        placeholder='true|false',
    ),
    _file('ppk-file', offer='a post-quantum pre-shared key', needs='ppk-id'),
    _credential(
        'ppk-id',
        parse=values.ppk_id,
        quoted=True,
        needs='ppk-file',
        offer='its name, the same at both ends',
        placeholder='NAME',
    ),
    _credential(
        'ppk-required',
        parse=_yes_or_no,
        needs='ppk-file',
        offer='refuse a peer without it',
        placeholder='true|false',
    ),
    Directive('ike-policy', values.choice(*POLICIES), Role.IKE, default='default'),
    Directive('ike-lifetime', _ike_seconds, Role.IKE, default=IKE_LIFETIME),
    Directive('ike-reauthentication', _ike_seconds, Role.IKE),
    Directive('ike-liveness', values.number(5, LONGEST_LIVENESS, 'seconds'), Role.IKE),
    Directive('ike-port', values.port(1, 'a UDP port'), Role.IKE, default=500),
    Directive('tcp-ao-backend', values.backend, Role.SESSION, default='auto'),
    Directive(
        'algorithm',
        values.algorithms,
        Role.NEGOTIATED,
        Where.BOTH,
        default=('hmac-sha-1-96', 'aes-128-cmac-96'),
        listed=True,
        offer='the most wanted first',
        placeholder='NAME',
    ),
    Directive(
        'tcp-options',
        values.choice('included', 'excluded'),
        Role.NEGOTIATED,
        Where.BOTH,
        default='included',
        offer='whether the MAC covers them',
        placeholder='included|excluded',
    ),
    Directive(
        'lifetime',
        values.number(SHORTEST_LIFETIME, LONGEST_LIFETIME, 'seconds'),
        Role.NEGOTIATED,
        Where.BOTH,
        default=3600,
        offer='of the key',
        placeholder='SECONDS',
    ),
    Directive(
        'lifetime-segments',
        values.number(LEAST_SEGMENTS, MOST_SEGMENTS, 'segments'),
        Role.LOCAL,
        Where.BOTH,
    ),
    Directive(
        'lifetime-octets',
        values.number(LEAST_OCTETS, MOST_OCTETS, 'octets'),
        Role.LOCAL,
        Where.BOTH,
    ),
    Directive(
        'grace', values.number(5, LONGEST_GRACE, 'seconds'), Role.SESSION, Where.BOTH, default=60
    ),
    Directive(
        'timeout',
        values.number(1, LONGEST_TIMEOUT, 'seconds'),
        Role.SESSION,
        Where.BOTH,
        default=30,
    ),
    Directive('keychain', values.chain_name, Role.SESSION, Where.BOTH),
    Directive(
        'source-port',
        values.port(
            LOWEST_SOURCE_PORT,
            'a TCP port',
            ' (lower ones need privileges that were dropped)',
        ),
        Role.SESSION,
        Where.SESSION,
    ),
    Directive('peer-port', values.port(1, 'a TCP port'), Role.SESSION, Where.SESSION),
)

TABLE: Final[dict[str, Directive]] = {row.name: row for row in _ROWS}
"""By name. Asked each time, never copied."""


def words_of(where: Where) -> Mapping[str, Parser]:
    """Return the parsers of the directives that may stand in a block."""
    return {row.name: row.parse for row in TABLE.values() if row.where in (where, Where.BOTH)}


def default_of(name: str) -> object:
    """Return the value where the directive is missing."""
    return TABLE[name].default


def of_ike() -> frozenset[str]:
    """Return the directives without effect in a session with a keychain."""
    return frozenset(row.name for row in TABLE.values() if row.role in _OF_IKE)


def of_role(role: Role) -> tuple[str, ...]:
    """Return the directives of one role, in the order of the table."""
    return tuple(row.name for row in TABLE.values() if row.role is role)


def superseded_by(names: Iterable[str]) -> frozenset[str]:
    """Return what these directives supersede when a neighbor inherits it."""
    found = frozenset().union(*(TABLE[name].excludes for name in names if name in TABLE))
    if 'keychain' in names:
        found |= of_ike() | frozenset(of_role(Role.NEGOTIATED) + of_role(Role.LOCAL))
    return found

"""The statements of an `ikev2 { }` section, before neighbor and template are merged.

Data only; `gatekeeper.configuration.directives` has the allowed words, and
`plugin.configuration.neighbor_protection` their effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from gatekeeper.configuration.location import Location

Family = tuple[str, str]
"""AFI and SAFI with the names of configurations: ('ipv4', 'unicast')."""

IKE_ONLY = frozenset(
    {
        'local-id',
        'peer-id',
        'psk-file',
        'private-key',
        'peer-key',
        'peer-fingerprint',
        'certificate',
        'trust-anchor',
        'crl',
        'crl-required',
        'ppk-file',
        'ppk-id',
        'ppk-required',
        'ike-policy',
        'ike-lifetime',
        'ike-reauthentication',
        'ike-liveness',
        'ike-port',
    }
)
"""Directives without effect in a session with a keychain."""
NEGOTIATED = frozenset({'algorithm', 'tcp-options', 'lifetime'})
"""Negotiated directives, which stand with each key of a keychain instead."""

_PEERS_KEY = frozenset({'peer-key', 'peer-fingerprint', 'trust-anchor', 'crl', 'crl-required'})
# Directives that supersede others when a neighbor inherits: one credential, and one identification
# of the peer's key.
_ALTERNATIVES: Mapping[str, frozenset[str]] = {
    'psk-file': frozenset({'private-key', 'certificate'}) | _PEERS_KEY,
    'private-key': frozenset({'psk-file'}),
    'certificate': frozenset({'psk-file'}),
    'peer-key': frozenset({'psk-file'}) | _PEERS_KEY - {'peer-key'},
    'peer-fingerprint': frozenset({'psk-file'}) | _PEERS_KEY - {'peer-fingerprint'},
    'trust-anchor': frozenset({'psk-file', 'peer-key', 'peer-fingerprint'}),
    'keychain': IKE_ONLY | NEGOTIATED,
    'local-id': frozenset({'keychain'}),
    'peer-id': frozenset({'keychain'}),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A directive's value, checked on its own, and its location."""

    value: object
    place: Location


@dataclass(frozen=True, slots=True)
class SectionStatements:
    """The directives of one section, and of its `session` blocks."""

    place: Location
    directives: Mapping[str, Statement] = field(default_factory=dict)
    sessions: Mapping[Family, SectionStatements] = field(default_factory=dict)

    def over(self, base: SectionStatements) -> SectionStatements:
        """Return this section merged over an inherited one: its own words have precedence."""
        superseded = frozenset().union(
            *(_ALTERNATIVES.get(name, frozenset()) for name in self.directives)
        )
        inherited = {
            name: directive for name, directive in base.directives.items() if name not in superseded
        }
        sessions = dict(base.sessions)
        for family, session in self.sessions.items():
            sessions[family] = session.over(sessions[family]) if family in sessions else session
        return SectionStatements(self.place, {**inherited, **self.directives}, sessions)

    # Adapters may deep-copy neighbors; this object never changes, so one is enough.
    def __deepcopy__(self, memo: object) -> Self:
        return self

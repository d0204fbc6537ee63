"""Settings of each session from its statements and those of its peer, with the defaults.

Pure: no file is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gatekeeper.configuration.directive_table import Role, default_of, of_ike, of_role
from gatekeeper.configuration.location import ConfigurationError, Location
from gatekeeper.configuration.statements import SectionStatements, Statement
from gatekeeper.policy.volume import Volume
from ikev2.authentication.identity import Identity
from ikev2.errors import UnsupportedAlgorithm
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.policies import policy_named

_NOT_OF_KEYCHAINS: Final = {
    Role.NEGOTIATED: 'each key of the keychain says that itself',
    Role.LOCAL: 'the keys of a keychain have no successor that could be asked for',
}


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """One session's part of the policy."""

    algorithms: tuple[str, ...]
    tcp_options: bool
    lifetime: int
    volume: Volume | None
    grace: int
    timeout: int
    source_port: int | None
    peer_port: int | None
    keychain: Statement | None = None
    """The name of the keychain in place of IKE, and its location."""


def ike_policy(draft: SectionStatements) -> IkePolicy:
    try:
        return policy_named(value_of(draft, 'ike-policy'))
    except UnsupportedAlgorithm as error:
        place = draft.directives['ike-policy'].place
        raise ConfigurationError(place, 'ikev2 ike-policy', str(error), 'another policy') from None


def check_no_ike(draft: SectionStatements) -> None:
    for name, directive in draft.directives.items():
        if name in of_ike():
            raise ConfigurationError(
                directive.place,
                f'ikev2 {name}',
                'every session has a keychain, so there is no IKE',
                'a keychain, or what IKE needs',
            )


def session_settings(draft: SectionStatements, block: SectionStatements | None) -> SessionSettings:
    def value(name: str) -> Any:
        if block is not None and name in block.directives:
            return block.directives[name].value
        return value_of(draft, name)

    return SessionSettings(
        algorithms=value('algorithm'),
        tcp_options=value('tcp-options') == 'included',
        lifetime=value('lifetime'),
        volume=_volume(value('lifetime-segments'), value('lifetime-octets')),
        grace=value('grace'),
        timeout=value('timeout'),
        source_port=value('source-port'),
        peer_port=value('peer-port'),
        keychain=_keychain(draft, block),
    )


def _volume(segments: int | None, octets: int | None) -> Volume | None:
    return None if segments is octets is None else Volume(segments, octets)


def _keychain(draft: SectionStatements, block: SectionStatements | None) -> Statement | None:
    """Return the keychain of the session, or of the neighbor."""
    for said in (block, draft):
        chain = said.directives.get('keychain') if said is not None else None
        if chain is None:
            continue
        assert said is not None
        for role, cause in _NOT_OF_KEYCHAINS.items():
            for name in of_role(role):
                extra = said.directives.get(name)
                if extra is not None:
                    raise ConfigurationError(extra.place, f'ikev2 {name}', cause)
        return chain
    return None


def check_ports(draft: SectionStatements) -> None:
    """Check that no two sessions share a port that has to distinguish them.

    Raises ConfigurationError.
    """
    for name in ('source-port', 'peer-port'):
        seen: dict[object, Location] = {}
        for family, block in draft.sessions.items():
            directive = block.directives.get(name)
            if directive is None:
                continue
            first = seen.setdefault(directive.value, directive.place)
            if first is not directive.place:
                raise ConfigurationError(
                    directive.place,
                    f'ikev2 session {" ".join(family)} {name}',
                    f'{directive.value} is taken on line {first.line}',
                    'a port of its own for each session',
                )


def mandatory(draft: SectionStatements, name: str) -> Identity:
    directive = draft.directives.get(name)
    if directive is None:
        raise ConfigurationError(
            draft.place, 'ikev2', f'incomplete, {name} is missing', f'{name} ...'
        )
    assert isinstance(directive.value, Identity)
    return directive.value


def value_of(draft: SectionStatements, name: str) -> Any:
    directive = draft.directives.get(name)
    return default_of(name) if directive is None else directive.value

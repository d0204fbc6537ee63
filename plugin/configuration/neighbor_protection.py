"""What a neighbor's `ikev2 { }` section amounts to: the PAD entry and each session's settings.

Pure but for the key files, which are read here. What ExaBGP knows of the neighbor comes in as
`Facts`; no ExaBGP object does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from gatekeeper.configuration.credential_directives import credentials
from gatekeeper.configuration.key_files import KeyFiles
from gatekeeper.configuration.location import Place, SectionError
from gatekeeper.configuration.statements import IKE_ONLY, NEGOTIATED, Directive, Draft, Family
from gatekeeper.policy.sessions import IKE_LIFETIME, PadEntry
from ikev2.authentication.identity import Identity
from ikev2.errors import UnsupportedAlgorithm
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.policies import policy_named

DEFAULTS: dict[str, Any] = {
    'algorithm': ('hmac-sha-1-96', 'aes-128-cmac-96'),
    'tcp-options': 'included',
    'lifetime': 3600,
    'grace': 60,
    'timeout': 30,
    'ike-port': 500,
    'ike-policy': 'default',
    'ike-lifetime': IKE_LIFETIME,
    'ike-reauthentication': None,
    'ike-liveness': None,
    'tcp-ao-backend': 'auto',
    'source-port': None,
    'peer-port': None,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the neighbor's other directives say."""

    families: Sequence[Family]
    """Those of an explicit family block; empty without one, or with `all`."""
    multi_session: bool
    local_address: bool
    """True if it is an address, not auto-discovered."""
    md5: bool
    md5_ip: bool
    """True if md5-ip, to which ExaBGP binds, isn't the local-address."""
    range: bool
    """True if the peer is a range of addresses."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """One session's part of the policy."""

    algorithms: tuple[str, ...]
    tcp_options: bool
    lifetime: int
    grace: int
    timeout: int
    source_port: int | None
    peer_port: int | None
    keychain: Directive | None = None
    """The name of the one that it has in place of IKE, and where that is said."""


@dataclass(frozen=True, slots=True)
class Protection:
    """A gated neighbor's `neighbor['ikev2']`: plain data that ExaBGP may copy. Holds secrets
    only inside Secret and PrivateKey, which never print."""

    draft: Draft
    pad: PadEntry | None
    """None if every session has a keychain."""
    sessions: dict[tuple[Family, ...], SessionSettings]
    """By the families that a session carries."""
    backend: str = 'auto'
    """tcp-ao-backend: kernel, userspace or auto."""

    @property
    def place(self) -> Place:
        """Where the section stands."""
        return self.draft.place

    def settings(self, families: tuple[Family, ...]) -> SessionSettings:
        """Those of the session that carries these families."""
        return self.sessions[families]

    # ExaBGP deep-copies neighbors; keys can't be copied and needn't be.
    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __copy__(self) -> Self:
        return self


def protect(draft: Draft, facts: Facts, files: KeyFiles) -> Protection:
    """Check the section against the neighbor and read its keys. Raises SectionError."""
    _check_neighbor(draft, facts)
    sessions = _sessions(draft, facts)
    backend = _value(draft, 'tcp-ao-backend')
    if all(settings.keychain is not None for settings in sessions.values()):
        _check_no_ike(draft)
        return Protection(draft, None, sessions, backend)
    local_id, peer_id = (_mandatory(draft, name) for name in ('local-id', 'peer-id'))
    if local_id == peer_id:
        raise SectionError(
            draft.directives['peer-id'].place,
            'ikev2 peer-id',
            f'{peer_id} is the local-id too',
            "the peer's own identity",
        )
    proofs = credentials(draft, files, local_id, peer_id)
    pad = PadEntry(
        local_id,
        peer_id,
        proofs.local,
        proofs.peer,
        ike_port=_value(draft, 'ike-port'),
        ike_policy=_ike_policy(draft),
        ppk=proofs.ppk,
        ike_lifetime=_value(draft, 'ike-lifetime'),
        reauthentication=_value(draft, 'ike-reauthentication'),
        liveness=_value(draft, 'ike-liveness'),
    )
    return Protection(draft, pad, sessions, backend)


def _ike_policy(draft: Draft) -> IkePolicy:
    try:
        return policy_named(_value(draft, 'ike-policy'))
    except UnsupportedAlgorithm as error:
        place = draft.directives['ike-policy'].place
        raise SectionError(place, 'ikev2 ike-policy', str(error), 'another policy') from None


def _check_no_ike(draft: Draft) -> None:
    for name, directive in draft.directives.items():
        if name in IKE_ONLY:
            raise SectionError(
                directive.place,
                f'ikev2 {name}',
                'every session has a keychain, so there is no IKE',
                'a keychain, or what IKE needs',
            )


def _check_neighbor(draft: Draft, facts: Facts) -> None:
    def refuse(cause: str, expected: str) -> SectionError:
        return SectionError(draft.place, 'ikev2', cause, expected)

    if not facts.local_address:
        raise refuse('the neighbor has no local-address of its own', 'local-address and an address')
    if facts.md5_ip:
        raise refuse('md5-ip is not the local-address of the neighbor', 'no md5-ip')
    if facts.range:
        raise refuse('peers that are a range of addresses are not in this version', 'one address')
    if facts.md5:
        raise refuse('the neighbor has a md5-password too', 'TCP-AO or TCP MD5, not both')
    if not facts.families:
        raise refuse(
            'the neighbor has no family block that names its families',
            'family { ipv4 unicast; } or the like: each becomes a session with multi-session',
        )


def _sessions(draft: Draft, facts: Facts) -> dict[tuple[Family, ...], SessionSettings]:
    for family, block in draft.sessions.items():
        if family not in facts.families:
            raise SectionError(
                block.place,
                f'ikev2 session {" ".join(family)}',
                'the neighbor does not have this family',
                f'one of {", ".join(" ".join(known) for known in facts.families)}',
            )
        if len(facts.families) > 1 and not facts.multi_session:
            raise SectionError(
                block.place,
                f'ikev2 session {" ".join(family)}',
                'the neighbor has one session for all its families',
                'capability { multi-session; }, or no session block',
            )
    groups: list[tuple[Family, ...]] = [tuple(facts.families)]
    if facts.multi_session:
        groups = [(family,) for family in facts.families]
    sessions = {group: _settings(draft, draft.sessions.get(group[0])) for group in groups}
    _check_ports(draft)
    return sessions


def _settings(draft: Draft, block: Draft | None) -> SessionSettings:
    def value(name: str) -> Any:
        if block is not None and name in block.directives:
            return block.directives[name].value
        return _value(draft, name)

    return SessionSettings(
        algorithms=value('algorithm'),
        tcp_options=value('tcp-options') == 'included',
        lifetime=value('lifetime'),
        grace=value('grace'),
        timeout=value('timeout'),
        source_port=value('source-port'),
        peer_port=value('peer-port'),
        keychain=_keychain(draft, block),
    )


def _keychain(draft: Draft, block: Draft | None) -> Directive | None:
    """The session's own, or the neighbor's."""
    for said in (block, draft):
        chain = said.directives.get('keychain') if said is not None else None
        if chain is None:
            continue
        assert said is not None
        for name in NEGOTIATED:
            extra = said.directives.get(name)
            if extra is not None:
                raise SectionError(
                    extra.place, f'ikev2 {name}', 'each key of the keychain says that itself'
                )
        return chain
    return None


def _check_ports(draft: Draft) -> None:
    """Two sessions with one peer can't share a port that is to tell them apart."""
    for name in ('source-port', 'peer-port'):
        seen: dict[object, Place] = {}
        for family, block in draft.sessions.items():
            directive = block.directives.get(name)
            if directive is None:
                continue
            first = seen.setdefault(directive.value, directive.place)
            if first is not directive.place:
                raise SectionError(
                    directive.place,
                    f'ikev2 session {" ".join(family)} {name}',
                    f'{directive.value} is taken on line {first.line}',
                    'a port of its own for each session',
                )


def _mandatory(draft: Draft, name: str) -> Identity:
    directive = draft.directives.get(name)
    if directive is None:
        raise SectionError(draft.place, 'ikev2', f'incomplete, {name} is missing', f'{name} ...')
    assert isinstance(directive.value, Identity)
    return directive.value


def _value(draft: Draft, name: str) -> Any:
    directive = draft.directives.get(name)
    return DEFAULTS[name] if directive is None else directive.value

"""The meaning of a neighbor's `ikev2 { }` section: the PAD entry and each session's settings.

Pure but for the key files, which are read here. `Facts` has ExaBGP's data of the neighbor; no
ExaBGP object comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from gatekeeper.configuration.credential_directives import credentials
from gatekeeper.configuration.key_files import KeyFiles
from gatekeeper.configuration.location import ConfigurationError, Location
from gatekeeper.configuration.session_settings import (
    SessionSettings,
    check_no_ike,
    check_ports,
    ike_policy,
    mandatory,
    session_settings,
    value_of,
)
from gatekeeper.configuration.statements import Family, SectionStatements
from gatekeeper.policy.sessions import PadEntry


@dataclass(frozen=True, slots=True)
class Facts:
    """The values of the neighbor's other directives."""

    families: Sequence[Family]
    """Families of an explicit family block; empty without one, or with `all`."""
    multi_session: bool
    local_address: bool
    """True if it is an address, not auto-discovered."""
    md5: Location | None
    """The location of its md5-password, in the neighbor or a template."""
    md5_ip: bool
    """True if md5-ip, to which ExaBGP binds, isn't the local-address."""
    without_zone: bool
    """True if an address is link-local, and no source-interface names its link."""
    range: bool
    """True if the peer is a range of addresses."""


@dataclass(frozen=True, slots=True)
class Protection:
    """A gated neighbor's `neighbor['ikev2']`: plain data that ExaBGP may copy.

    Secrets are only in Secret and PrivateKey, which never print.
    """

    draft: SectionStatements
    pad: PadEntry | None
    """None if every session has a keychain."""
    sessions: dict[frozenset[Family], SessionSettings]
    """By the families of a session, whose order in ExaBGP differs."""
    backend: str = 'auto'
    """tcp-ao-backend: kernel, userspace or auto."""

    @property
    def place(self) -> Location:
        """Return the location of the section."""
        return self.draft.place

    def settings(self, families: tuple[Family, ...]) -> SessionSettings:
        """Return the settings of the session that carries these families."""
        return self.sessions[frozenset(families)]

    # ExaBGP deep-copies neighbors; keys can't be copied, and need not be.
    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __copy__(self) -> Self:
        return self


def protect(draft: SectionStatements, facts: Facts, files: KeyFiles) -> Protection:
    """Check the section against the neighbor and read its keys. Raises ConfigurationError."""
    _check_neighbor(draft, facts)
    sessions = _sessions(draft, facts)
    backend = value_of(draft, 'tcp-ao-backend')
    if all(settings.keychain is not None for settings in sessions.values()):
        check_no_ike(draft)
        return Protection(draft, None, sessions, backend)
    local_id, peer_id = (mandatory(draft, name) for name in ('local-id', 'peer-id'))
    if local_id == peer_id:
        raise ConfigurationError(
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
        ike_port=value_of(draft, 'ike-port'),
        ike_policy=ike_policy(draft),
        ppk=proofs.ppk,
        ike_lifetime=value_of(draft, 'ike-lifetime'),
        reauthentication=value_of(draft, 'ike-reauthentication'),
        liveness=value_of(draft, 'ike-liveness'),
    )
    return Protection(draft, pad, sessions, backend)


def _check_neighbor(draft: SectionStatements, facts: Facts) -> None:
    def refuse(cause: str, expected: str) -> ConfigurationError:
        return ConfigurationError(draft.place, 'ikev2', cause, expected)

    if not facts.local_address:
        raise refuse('the neighbor has no local-address of its own', 'local-address and an address')
    if facts.md5_ip:
        raise refuse('md5-ip is not the local-address of the neighbor', 'no md5-ip')
    if facts.without_zone:
        raise refuse(
            'a link-local address says nothing without its interface',
            'source-interface and the name of one',
        )
    if facts.range:
        raise refuse('peers that are a range of addresses are not in this version', 'one address')
    if facts.md5:
        raise refuse(
            f'the neighbor has a md5-password too, on line {facts.md5.line}',
            'TCP-AO or TCP MD5, not both',
        )
    if not facts.families:
        raise refuse(
            'the neighbor has no family block that names its families',
            'family { ipv4 unicast; } or the like: each becomes a session with multi-session',
        )


def _sessions(draft: SectionStatements, facts: Facts) -> dict[frozenset[Family], SessionSettings]:
    for family, block in draft.sessions.items():
        if family not in facts.families:
            raise ConfigurationError(
                block.place,
                f'ikev2 session {" ".join(family)}',
                'the neighbor does not have this family',
                f'one of {", ".join(" ".join(known) for known in facts.families)}',
            )
        if len(facts.families) > 1 and not facts.multi_session:
            raise ConfigurationError(
                block.place,
                f'ikev2 session {" ".join(family)}',
                'the neighbor has one session for all its families',
                'capability { multi-session; }, or no session block',
            )
    groups: list[tuple[Family, ...]] = [tuple(facts.families)]
    if facts.multi_session:
        groups = [(family,) for family in facts.families]
    sessions = {
        frozenset(group): session_settings(draft, draft.sessions.get(group[0])) for group in groups
    }
    check_ports(draft)
    return sessions

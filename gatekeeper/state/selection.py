"""Which sessions an operator means, by what operators call them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from gatekeeper.errors import GatekeeperError
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.reasons import Reason


class Withheld(Enum):
    """Why an operator lets a session have no keys: in words, and as a reason."""

    REVOKED = ('revoked by an operator', Reason.REVOKED)
    """At once, without another octet."""
    DRAINED = ('drained by an operator', Reason.DRAINED)
    """With NOTIFICATION Cease."""

    def __init__(self, cause: str, reason: Reason) -> None:
        self.cause = cause
        self.reason = reason


class Operation(StrEnum):
    """What an operator can do to sessions."""

    REKEY = 'rekey'
    """Replace the keys in use now."""
    REVOKE = 'revoke'
    """Take the keys away at once, and give none."""
    RESTORE = 'restore'
    """Take a revocation back."""
    DRAIN = 'drain'
    """End the sessions with NOTIFICATION Cease, and give no key."""
    UNDRAIN = 'undrain'
    """Take a drain back."""


@dataclass(frozen=True, slots=True)
class Operated:
    """What an operation did."""

    count: int
    """Of the keys that are being replaced, or the connections that end."""
    text: str
    """For the operator."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Every session with negotiated keys that fits all that is said."""

    neighbor: str | None = None
    """As in the configuration."""
    session: str | None = None
    """`ipv4 unicast`"""
    peer_id: str | None = None
    """`fqdn r2.lab`"""

    def matches(self, policy: SessionPolicy) -> bool:
        """Return True if the operator means this session."""
        return (
            policy.pad is not None
            and self.neighbor in (None, policy.neighbor)
            and self.session in (None, policy.session.name)
            and self.peer_id in (None, str(policy.pad.peer_id))
        )

    def __str__(self) -> str:
        said = [
            f'{word} {value}'
            for word, value in (
                ('neighbor', self.neighbor),
                ('session', self.session),
                ('peer-id', self.peer_id),
            )
            if value is not None
        ]
        return ' '.join(said) or EVERYTHING


EVERYTHING: Final = 'all'
"""The word for every session: nobody should mean all of them by forgetting a word."""
_LENGTHS: Final = {'neighbor': 1, 'session': 2, 'peer-id': 2}
"""Words that follow."""


def parse_selection(words: Sequence[str]) -> Selection:
    """Return what `neighbor 10.0.0.2 session ipv4 unicast peer-id fqdn r2.lab` or `all` means.

    Raises GatekeeperError for anything else.
    """
    if list(words) == [EVERYTHING]:
        return Selection()
    said: dict[str, str] = {}
    rest = list(words)
    while rest:
        word, rest = rest[0], rest[1:]
        length = _LENGTHS.get(word)
        if length is None or len(rest) < length or word in said:
            raise GatekeeperError(f'{word!r} is unknown, repeated or incomplete; {EXPECTED}')
        said[word], rest = ' '.join(rest[:length]), rest[length:]
    if not said:
        raise GatekeeperError(f'which sessions? {EXPECTED}')
    return Selection(said.get('neighbor'), said.get('session'), said.get('peer-id'))


EXPECTED: Final = (
    f'expected neighbor ADDRESS, session AFI SAFI, peer-id TYPE NAME (one or more), or {EVERYTHING}'
)

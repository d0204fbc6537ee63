"""The selection of sessions by an operator, with an operator's names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from gatekeeper.errors import GatekeeperError
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.reasons import Reason


class Withheld(Enum):
    """The reason why an operator gives a session no keys: as a text, and as a Reason."""

    REVOKED = ('revoked by an operator', Reason.REVOKED)
    """At once, without another octet."""
    DRAINED = ('drained by an operator', Reason.DRAINED)
    """With NOTIFICATION Cease."""

    def __init__(self, cause: str, reason: Reason) -> None:
        self.cause = cause
        self.reason = reason


class Operation(StrEnum):
    """An operator's operations on sessions."""

    REKEY = 'rekey'
    """Replace the keys in use now."""
    REVOKE = 'revoke'
    """Remove the keys at once, and give none."""
    RESTORE = 'restore'
    """Undo a revocation."""
    DRAIN = 'drain'
    """End the sessions with NOTIFICATION Cease, and give no key."""
    UNDRAIN = 'undrain'
    """Undo a drain."""


@dataclass(frozen=True, slots=True)
class Operated:
    """The result of an operation."""

    count: int
    """Number of keys that are being replaced, or of connections that end."""
    text: str
    """A text for the operator."""


@dataclass(frozen=True, slots=True)
class Selection:
    """All sessions with negotiated keys that match every given value."""

    neighbor: str | None = None
    """The neighbor in the words of the configuration."""
    session: str | None = None
    """`ipv4 unicast`"""
    peer_id: str | None = None
    """`fqdn r2.lab`"""

    def matches(self, policy: SessionPolicy) -> bool:
        """Return True if the selection includes this session."""
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
"""The word for every session: a command without it must not select all of them."""
_LENGTHS: Final = {'neighbor': 1, 'session': 2, 'peer-id': 2}
"""Number of words that follow."""


def parse_selection(words: Sequence[str]) -> Selection:
    """Parse `neighbor 10.0.0.2 session ipv4 unicast peer-id fqdn r2.lab` or `all`.

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

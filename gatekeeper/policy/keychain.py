"""Keychains (RFC 8177): manual keys with lifetimes, and the valid keys at a given time.

Pure: no clock, no sockets. `gatekeeper.engine.keychains.connection_keys` uses the answers.

A key is *accepted* in its accept-lifetime and *sent* in its send-lifetime. Of several that may be
sent the one whose send-lifetime began last is preferred (RFC 7210 3: the newest SendLifetimeStart;
RFC 8177 2.2: the most recent send lifetime); of those that began together, the lowest number.
So a key that is added to a chain without lifetimes changes nothing until the old one is removed.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

from gatekeeper.policy import key_selection
from keymaterial import Secret
from tcpao.mkt import Algorithm

MOST_KEYS = 255
"""One id in each direction stays free for the deny key."""
LONGEST_MASTER_KEY = 80
"""Octets: TCP_AO_MAXKEYLEN of Linux."""
DRAFT_MASTER_KEY = 32
"""Octets: the shortest that draft-ietf-tcpm-tcp-ao-algs-07 allows for its suites."""


class KeychainError(ValueError):
    """A keychain is unusable; the message names chain and key."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The time from `start` up to, but not including, `end`: seconds since the epoch (UTC).

    A lifetime that ends when it starts is empty (RFC 8177 3): a key that is accepted and not sent.
    """

    start: float = -inf
    end: float = inf

    def covers(self, wall: float) -> bool:
        """Return True if this time is in the lifetime."""
        return self.start <= wall < self.end

    def lies_in(self, other: Lifetime) -> bool:
        """Return True if the lifetime is entirely within the other."""
        return other.start <= self.start and self.end <= other.end

    def widened(self, seconds: float) -> Lifetime:
        """Return a lifetime longer by `seconds` at either end: RFC 8177's accept-tolerance."""
        return Lifetime(self.start - seconds, self.end + seconds)

    def __str__(self) -> str:
        """Return the lifetime in the words of the configuration."""
        if self == ALWAYS:
            return 'always'
        return f'{utc(self.start)} {utc(self.end)}'


ALWAYS = Lifetime()


def utc(wall: float) -> str:
    """Return `2026-11-23T12:00:00Z`; `infinite` for an end that never comes, or beyond the
    calendar.
    """
    try:
        return datetime.fromtimestamp(wall, UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
    except (OverflowError, ValueError):
        return 'infinite'


@dataclass(frozen=True, slots=True)
class ChainKey:
    """One key of a chain: a manual Master Key Tuple without its socket pair."""

    number: int
    """RFC 8177's key-id, which is never sent."""
    send_id: int
    recv_id: int
    algorithm: Algorithm
    master_key: Secret
    tcp_options: bool = True
    send: Lifetime = ALWAYS
    """SendLifetimeStart and SendLifetimeEnd of RFC 7210."""
    accept: Lifetime = ALWAYS
    """AcceptLifetimeStart and AcceptLifetimeEnd of RFC 7210."""

    def is_same_key(self, other: ChainKey) -> bool:
        """Return True if both are the same key on a socket: only number and lifetimes may
        differ.
        """
        return (
            (self.send_id, self.recv_id) == (other.send_id, other.recv_id)
            and self.algorithm == other.algorithm
            and self.tcp_options == other.tcp_options
            and self.master_key == other.master_key
        )

    def clashes(self, other: ChainKey) -> bool:
        """Return True if one socket can't hold both: an id in common, and not the same key."""
        shares = self.send_id == other.send_id or self.recv_id == other.recv_id
        return shares and not self.is_same_key(other)

    def __str__(self) -> str:
        return f'key {self.number} (SendID {self.send_id}, RecvID {self.recv_id})'


@dataclass(frozen=True, slots=True)
class Keychain:
    """Keys under a name; any number of sessions may use the keychain."""

    name: str
    keys: tuple[ChainKey, ...]

    def accepted(self, wall: float) -> tuple[ChainKey, ...]:
        """Return the keys that received segments may have."""
        return key_selection.to_accept(self.keys, wall)

    def preferred(self, wall: float, without: Container[int] = ()) -> ChainKey | None:
        """Return the key to send with, except those `without` numbers; None if the chain denies."""
        usable = [key for key in self.keys if key.number not in without]
        usable.sort(key=lambda key: key.number)
        return key_selection.to_send(usable, wall)

    def denies(self, wall: float, soon: float) -> str | None:
        """Return why nothing may begin now; None if it may.

        Either no key is preferred now, or none will be within `soon` seconds, so that a new
        connection would be closed at once.
        """
        if self.preferred(wall) is None:
            return self.why_denied(wall)
        if self.preferred(wall + soon) is None:
            # The text of that moment.
            return self.why_denied(wall + soon)
        return None

    def next_change(self, wall: float) -> float | None:
        """Return when a lifetime begins or ends next; None if nothing will ever change."""
        return min(self._changes(wall), default=None)

    def next_turn(self, wall: float) -> tuple[float, ChainKey | None] | None:
        """Return when another key is preferred than now, and which; with None the chain denies from
        then on.

        None if the preferred key stays for ever.
        """
        now = self.preferred(wall)
        turns = ((time, self.preferred(time)) for time in sorted(self._changes(wall)))
        return next(((time, key) for time, key in turns if key is not now), None)

    def _changes(self, wall: float) -> set[float]:
        times = {
            time
            for key in self.keys
            for lifetime in (key.send, key.accept)
            for time in (lifetime.start, lifetime.end)
        }
        return {time for time in times if wall < time < inf}

    def find(self, wanted: ChainKey) -> ChainKey | None:
        """Return the same key in this chain, perhaps with other lifetimes, or None."""
        return next((key for key in self.keys if key.is_same_key(wanted)), None)

    def why_denied(self, wall: float) -> str:
        """Return a text: why no key is preferred now."""
        later = [key for key in self.keys if wall < key.send.start < key.send.end]
        if not later:
            last = max(self.keys, key=lambda key: key.send.end)
            return (
                f'keychain {self.name} has expired: {last} was the last that might be sent under, '
                f'until {utc(last.send.end)}'
            )
        first = min(later, key=lambda key: key.send.start)
        return (
            f'keychain {self.name} has no key that may be sent under before {first} at '
            f'{utc(first.send.start)}'
        )


def check_keychain(chain: Keychain) -> None:
    """Check a keychain. Raises KeychainError if it is unusable."""
    if not chain.keys:
        raise KeychainError(f'keychain {chain.name} has no key')
    if len(chain.keys) > MOST_KEYS:
        raise KeychainError(f'keychain {chain.name} has more than {MOST_KEYS} keys')
    for place, key in enumerate(chain.keys):
        try:
            _check_key(key, chain.keys[:place])
        except KeychainError as error:
            raise KeychainError(f'keychain {chain.name} key {key.number}: {error}') from None


def _check_key(key: ChainKey, earlier: tuple[ChainKey, ...]) -> None:
    for other in earlier:
        for name, one, another in (
            ('send-id', key.send_id, other.send_id),
            ('recv-id', key.recv_id, other.recv_id),
        ):
            if one == another:
                raise KeychainError(f'{name} {one} is that of key {other.number} too')
    if key.send.start > key.send.end:
        raise KeychainError(f'send-lifetime {key.send} ends before it begins')
    if key.accept.start >= key.accept.end:
        raise KeychainError(
            f'accept-lifetime {key.accept} is empty: a key of TCP-AO that is not accepted is no use'
        )
    if not key.send.lies_in(key.accept):
        raise KeychainError(
            f'send-lifetime {key.send} is not within accept-lifetime {key.accept}: what is sent '
            f'under a key is answered under it'
        )
    length = len(key.master_key)
    if length > LONGEST_MASTER_KEY:
        raise KeychainError(
            f'the master key has {length} octets, Linux takes at most {LONGEST_MASTER_KEY}'
        )
    if key.algorithm.linux_name is None and length < DRAFT_MASTER_KEY:
        raise KeychainError(
            f'the master key has {length} octets, {key.algorithm.name} needs at least '
            f'{DRAFT_MASTER_KEY}'
        )

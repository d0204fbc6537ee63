"""The words of `keychain NAME { key N { ... } }`: words in, values out.

Strict like `gatekeeper.configuration.directives`, whose parsers it uses. Pure: no file is read. The
check of a whole chain is in `plugin.configuration.keychain_section`; the meaning of a key's
lifetimes in `gatekeeper.policy.keychain`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf

from gatekeeper.configuration.directives import StatementsBuilder
from gatekeeper.configuration.location import ConfigurationError, Location
from gatekeeper.configuration.statements import SectionStatements
from gatekeeper.configuration.values import (
    Parser,
    WordError,
    Words,
    choice,
    number,
    one,
    path,
)
from gatekeeper.policy.keychain import ALWAYS, Lifetime
from tcpao.mkt import ALGORITHMS, Algorithm

LARGEST_NUMBER = (1 << 64) - 1
"""Largest number of a key: RFC 8177's key-id."""
LONGEST_DURATION = 2_147_483_646
"""Seconds: RFC 8177's duration."""
LONGEST_TOLERANCE = (1 << 32) - 1
"""Seconds: RFC 8177's accept-tolerance."""

_TIME = re.compile(r'\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z', re.ASCII)
_LIFETIME = (
    'always, or two times of UTC like 2026-11-23T12:00:00Z, of which the second may be infinite, '
    'or a time and duration and seconds'
)
_duration = number(1, LONGEST_DURATION, 'seconds')


def _algorithm(words: Words) -> Algorithm:
    expected = f'one of {", ".join(ALGORITHMS)}'
    word = one(words, expected)
    if word not in ALGORITHMS:
        raise WordError(f'{word!r} is unknown', expected)
    return ALGORITHMS[word]


def _time(word: str) -> float:
    if _TIME.fullmatch(word):
        try:
            return datetime.strptime(word, '%Y-%m-%dT%H:%M:%SZ').replace(tzinfo=UTC).timestamp()
        except ValueError as error:
            raise WordError(f'{word!r} is no time: {error}', _LIFETIME) from None
    raise WordError(f'{word!r} is no time of UTC', _LIFETIME)


def lifetime(words: Words) -> Lifetime:
    """Parse RFC 8177's choice of a lifetime: always, or start-date-time and an end.

    The end is none, a time, or a duration in seconds. A lifetime that ends when it starts is empty.
    """
    match list(words):
        case ['always']:
            return ALWAYS
        case [first, 'infinite']:
            return Lifetime(_time(first), inf)
        case [first, 'duration', seconds]:
            start, duration = _time(first), _duration([seconds])
            assert isinstance(duration, int)
            return Lifetime(start, start + duration)
        case [first, second]:
            start, end = _time(first), _time(second)
            if start > end:
                raise WordError('it ends before it begins', _LIFETIME)
            return Lifetime(start, end)
    raise WordError('words too many' if len(words) > 2 else 'something is missing', _LIFETIME)


KEY: dict[str, Parser] = {
    'send-id': number(0, 255, 'a KeyID'),
    'recv-id': number(0, 255, 'a KeyID'),
    'algorithm': _algorithm,
    'key-file': path,
    'tcp-options': choice('included', 'excluded'),
    'send-lifetime': lifetime,
    'accept-lifetime': lifetime,
    'send-accept-lifetime': lifetime,
}
MANDATORY = ('send-id', 'recv-id', 'algorithm', 'key-file')
INDEPENDENT = ('send-lifetime', 'accept-lifetime')
"""Alternatives to send-accept-lifetime: RFC 8177 has either the one or these two."""

CHAIN: dict[str, Parser] = {
    'accept-tolerance': number(0, LONGEST_TOLERANCE, 'seconds'),
}


@dataclass(slots=True)
class ChainBuilder:
    """A collector of the keys of one chain."""

    name: str
    place: Location
    keys: dict[int, StatementsBuilder] = field(default_factory=dict)
    own: StatementsBuilder = field(init=False)
    """Directives for all keys."""

    def __post_init__(self) -> None:
        self.own = StatementsBuilder(self.place, self.label, CHAIN, 'key N { ... }')

    @property
    def label(self) -> str:
        """Return the name of the chain for errors."""
        return f'keychain {self.name}'

    def begin_key(self, words: Words, place: Location) -> StatementsBuilder:
        """Begin `key N {`, given the words between. Raises ConfigurationError."""
        label = f'{self.label} key'
        try:
            value = number(0, LARGEST_NUMBER, 'a number')(words)
        except WordError as error:
            raise ConfigurationError(place, label, error.cause, error.expected) from None
        assert isinstance(value, int)
        if value in self.keys:
            first = self.keys[value].place.line
            raise ConfigurationError(
                place, f'{label} {value}', f'repeated, it stands on line {first} already'
            )
        self.keys[value] = StatementsBuilder(place, f'{label} {value}', KEY, block='')
        return self.keys[value]

    def build(self) -> dict[int, SectionStatements]:
        """Return the statements of each key by its number.

        Raises ConfigurationError if a mandatory directive is missing.
        """
        if not self.keys:
            raise ConfigurationError(
                self.place, self.label, 'there is no key in it', 'key 1 { ... }'
            )
        for key in self.keys.values():
            for name in MANDATORY:
                if name not in key.directives:
                    raise ConfigurationError(
                        key.place, key.name, f'incomplete, {name} is missing', f'{name} ...;'
                    )
            _check_lifetimes(key)
        return {value: key.build() for value, key in self.keys.items()}


def _check_lifetimes(key: StatementsBuilder) -> None:
    both = key.directives.get('send-accept-lifetime')
    extra = next((name for name in INDEPENDENT if name in key.directives), None)
    if both is not None and extra is not None:
        raise ConfigurationError(
            both.place,
            f'{key.name} send-accept-lifetime',
            f'{extra} is there too',
            f'send-accept-lifetime, or {" and ".join(INDEPENDENT)}',
        )

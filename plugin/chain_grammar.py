"""The words of `keychain NAME { key N { ... } }`: words in, values out.

Strict as `plugin.grammar` is, whose ways it has. Pure: no file is read. What a whole chain amounts
to is in `plugin.keychains`; what a key's lifetimes mean, in `gatekeeper.keychain`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf

from gatekeeper.keychain import ALWAYS, Lifetime
from plugin.draft import Draft
from plugin.grammar import DraftBuilder, Parser, WordError, Words, choice, number, one, path
from plugin.places import Place, SectionError
from tcpao.mkt import ALGORITHMS, Algorithm

LARGEST_NUMBER = 4_294_967_295
"""Of a key; RFC 8177's key-id is longer, but nobody counts so far."""

_TIME = re.compile(r'\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z', re.ASCII)
_LIFETIME = (
    'always, or two times of UTC like 2026-11-23T12:00:00Z, of which the second may be infinite'
)


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
    """RFC 8177's choice of a lifetime: always, or start-date-time and an end."""
    if list(words) == ['always']:
        return ALWAYS
    if len(words) != 2:
        cause = 'words too many' if len(words) > 2 else 'something is missing'
        raise WordError(cause, _LIFETIME)
    end = inf if words[1] == 'infinite' else _time(words[1])
    start = _time(words[0])
    if start >= end:
        raise WordError('it ends before it begins', _LIFETIME)
    return Lifetime(start, end)


KEY: dict[str, Parser] = {
    'send-id': number(0, 255, 'a KeyID'),
    'recv-id': number(0, 255, 'a KeyID'),
    'algorithm': _algorithm,
    'key-file': path,
    'tcp-options': choice('included', 'excluded'),
    'send-lifetime': lifetime,
    'accept-lifetime': lifetime,
}
MANDATORY = ('send-id', 'recv-id', 'algorithm', 'key-file')


@dataclass(slots=True)
class ChainBuilder:
    """Collects the keys of one chain as they come."""

    name: str
    place: Place
    keys: dict[int, DraftBuilder] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """For errors."""
        return f'keychain {self.name}'

    def begin_key(self, words: Words, place: Place) -> DraftBuilder:
        """`key N {`: the words between. Raises SectionError."""
        label = f'{self.label} key'
        try:
            value = number(0, LARGEST_NUMBER, 'a number')(words)
        except WordError as error:
            raise SectionError(place, label, error.cause, error.expected) from None
        assert isinstance(value, int)
        if value in self.keys:
            first = self.keys[value].place.line
            raise SectionError(
                place, f'{label} {value}', f'repeated, it stands on line {first} already'
            )
        self.keys[value] = DraftBuilder(place, f'{label} {value}', KEY)
        return self.keys[value]

    def build(self) -> dict[int, Draft]:
        """What was collected, by key number. Raises SectionError for a key that isn't whole."""
        if not self.keys:
            raise SectionError(self.place, self.label, 'there is no key in it', 'key 1 { ... }')
        for key in self.keys.values():
            for name in MANDATORY:
                if name not in key.directives:
                    raise SectionError(
                        key.place, key.name, f'incomplete, {name} is missing', f'{name} ...;'
                    )
        return {value: key.build() for value, key in self.keys.items()}

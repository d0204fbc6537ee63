"""The directives of an `ikev2 { }` section and of its `session` blocks, collected as they come.

Strict: the order is free, repetitions and additional words are errors. Pure: no file is read, no
object of a routing daemon is known. The words are in `directive_table`; rules about several
directives are in `plugin.configuration.neighbor_protection`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final

from gatekeeper.configuration.directive_table import TABLE, Where, words_of
from gatekeeper.configuration.location import ConfigurationError, Location
from gatekeeper.configuration.statements import Family, SectionStatements, Statement
from gatekeeper.configuration.values import Parser, WordError, Words

_CLOSE: Final = 0.75
"""Of difflib's ratios: a letter missing, two exchanged."""


@dataclass(slots=True)
class StatementsBuilder:
    """A collector of the directives of one section."""

    place: Location
    name: str = 'ikev2'
    parsers: Mapping[str, Parser] = field(default_factory=lambda: words_of(Where.SECTION))
    block: str = 'session AFI SAFI { ... }'
    """The block that is allowed too; empty: none."""
    directives: dict[str, Statement] = field(default_factory=dict)
    sessions: dict[Family, StatementsBuilder] = field(default_factory=dict)

    def add(self, words: Words, place: Location) -> None:
        """Add one statement, without its semicolon. Raises ConfigurationError."""
        keyword = words[0] if words else ''
        label = f'{self.name} {keyword}'
        parser = self.parsers.get(keyword)
        if parser is None:
            raise ConfigurationError(place, self.name, *self._unknown(keyword))
        if keyword in self.directives:
            first = self.directives[keyword].place.line
            raise ConfigurationError(place, label, f'repeated, it stands on line {first} already')
        try:
            value = parser(words[1:])
        except WordError as error:
            raise ConfigurationError(place, label, error.cause, error.expected) from None
        self.directives[keyword] = Statement(value, place)

    def _unknown(self, keyword: str) -> tuple[str, str]:
        """Return cause and expectation: few words where a few explain it."""
        if keyword in TABLE and self.parsers.keys() <= TABLE.keys():
            home = f'in a block: {self.block}' if self.block else 'directly inside ikev2 { ... }'
            return f'{keyword!r} is unknown here', f'it {home}'
        close = get_close_matches(keyword.lower(), self.parsers, cutoff=_CLOSE)
        choices = ' or '.join(close) if close else f'one of {", ".join(sorted(self.parsers))}'
        if self.block and not close:
            choices += f', or a block: {self.block}'
        question = f': did you mean {close[0]}?' if close else ''
        return f'{keyword!r} is unknown{question}', choices

    def begin_session(
        self, words: Words, place: Location, known: Sequence[Family]
    ) -> StatementsBuilder:
        """Begin `session AFI SAFI {`, given the words between. Raises ConfigurationError."""
        label = f'{self.name} session'
        expected = 'an AFI and a SAFI, as in a family block: session ipv4 unicast { ... }'
        if len(words) != 2:
            cause = 'words too many' if len(words) > 2 else 'AFI or SAFI is missing'
            raise ConfigurationError(place, label, cause, expected)
        family = (words[0].lower(), words[1].lower())
        if family not in known:
            raise ConfigurationError(place, label, f'{" ".join(words)!r} is no family', expected)
        if family in self.sessions:
            first = self.sessions[family].place.line
            raise ConfigurationError(
                place, f'{label} {" ".join(family)}', f'repeated, it stands on line {first} already'
            )
        session = StatementsBuilder(
            place, f'{label} {" ".join(family)}', words_of(Where.SESSION), block=''
        )
        self.sessions[family] = session
        return session

    def build(self) -> SectionStatements:
        """Return the collected statements."""
        sessions = {family: builder.build() for family, builder in self.sessions.items()}
        return SectionStatements(self.place, dict(self.directives), sessions)

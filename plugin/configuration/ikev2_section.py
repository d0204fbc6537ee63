"""The `ikev2 { }` section in ExaBGP's parser, inside neighbors and templates.

Only the way in and out: `gatekeeper.configuration.directives` checks the words. The result is left
in the scope as a SectionStatements, from which `plugin.configuration.neighbors` takes it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

from exabgp.configuration.configuration import Configuration
from exabgp.configuration.core import Section
from exabgp.configuration.neighbor import ParseNeighbor
from exabgp.configuration.neighbor.family import ParseFamily

from gatekeeper.configuration.directive_table import TABLE
from gatekeeper.configuration.directives import StatementsBuilder
from gatekeeper.configuration.location import ConfigurationError, Location
from gatekeeper.configuration.statements import Family, SectionStatements
from plugin.configuration.line_numbers import place_of
from plugin.patching import add, wrap

SCOPE = 'ikev2'
DRAFT = 'draft'

FAMILIES: dict[Family, tuple[Any, Any]] = {
    (afi, safi): pair for afi, known in ParseFamily.convert.items() for safi, pair in known.items()
}
"""ExaBGP's (AFI, SAFI) of every family that can be configured."""


class PlacedText(str):
    """A word of another directive, with its location: templates copy it into neighbors."""

    place: Location

    def __new__(cls, text: str, place: Location) -> Self:
        made = super().__new__(cls, text)
        made.place = place
        return made

    def __reduce__(self) -> tuple[type[Self], tuple[str, Location]]:
        return type(self), (str(self), self.place)


class _Everything(dict[str, str]):
    """Sections or commands that ExaBGP accepts all, so that our own error is reported."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return 'ikev2-unknown'


def fault(section: Any, error: ConfigurationError) -> bool:
    """Give ExaBGP our error; `plugin.configuration.loading` makes it the whole message."""
    section.error.ikev2 = str(error)
    return bool(section.error.set(str(error)))


def misplaced(
    words: Sequence[str], place: Location, location: str, cause: str
) -> ConfigurationError | None:
    """Return our error in place of ExaBGP's, if one of our words is outside the section."""
    word = words[0] if words else ''
    unknown = 'invalid keyword' in cause or ' is invalid in ' in cause
    if not unknown or word.lower() not in {SCOPE, 'session', *TABLE}:
        return None
    expected = 'it inside ikev2 { ... } or one of its session blocks'
    if word.lower() == SCOPE:
        expected = 'ikev2 { ... } directly inside a neighbor, or a neighbor of a template'
    cause = f'it does not belong here, in {location or "no block"}'
    return ConfigurationError(place, word, cause, expected)


class Ikev2Section(Section):
    """`ikev2 { ... }`."""

    name = 'ikev2'
    syntax = 'ikev2 {\n   local-id fqdn "r1.lab"; peer-id fqdn "r2.lab"; psk-file "r2.psk";\n}'
    known = _Everything()

    def __init__(self, tokeniser: Any, scope: Any, error: Any) -> None:
        super().__init__(tokeniser, scope, error)
        self.builder: StatementsBuilder | None = None

    def clear(self) -> None:
        super().clear()
        self.builder = None

    def pre(self) -> bool:
        place = place_of(self.tokeniser)
        if sys.platform != 'linux':
            cause = f'TCP-AO needs Linux, this is {sys.platform}'
            return fault(
                self, ConfigurationError(place, 'ikev2', cause, 'a neighbor without ikev2')
            )
        extra = self.tokeniser.line[1:-1]
        if extra:
            cause = f'words too many: {" ".join(extra)}'
            return fault(self, ConfigurationError(place, 'ikev2', cause, 'ikev2 { ... }'))
        earlier = self.scope.get(DRAFT)
        if earlier is not None:
            return fault(self, _second(place, 'ikev2', earlier))
        self.builder = StatementsBuilder(place)
        return True

    def parse(self, name: str, command: str) -> bool:
        return _add(self, self.builder)

    def post(self) -> bool:
        if not _closed(self):
            return False
        assert self.builder is not None
        self.scope.set(DRAFT, self.builder.build())
        self.builder = None
        return True


class SessionSection(Section):
    """`session AFI SAFI { ... }` inside the section."""

    name = 'ikev2-session'
    syntax = 'session ipv4 unicast {\n   source-port 40001;\n}'
    known = _Everything()

    def __init__(self, tokeniser: Any, scope: Any, error: Any, outer: Ikev2Section) -> None:
        super().__init__(tokeniser, scope, error)
        self.outer = outer
        self.builder: StatementsBuilder | None = None

    def pre(self) -> bool:
        assert self.outer.builder is not None
        try:
            self.builder = self.outer.builder.begin_session(
                self.tokeniser.line[1:-1], place_of(self.tokeniser), tuple(FAMILIES)
            )
        except ConfigurationError as error:
            return fault(self, error)
        return True

    def parse(self, name: str, command: str) -> bool:
        return _add(self, self.builder)

    def post(self) -> bool:
        return _closed(self)


class UnknownSection(Section):
    """Any other block inside the section."""

    name = 'ikev2-unknown'
    known = _Everything()

    def pre(self) -> bool:
        word = self.tokeniser.line[0]
        cause = f'a block {word!r} is unknown here'
        expected = 'session AFI SAFI { ... } directly inside ikev2, key N { ... } inside keychain'
        return fault(self, ConfigurationError(place_of(self.tokeniser), SCOPE, cause, expected))


def _second(place: Location, word: str, earlier: SectionStatements) -> ConfigurationError:
    cause = f'repeated, it stands on line {earlier.place.line} already'
    if (word == 'keychain') != ('keychain' in earlier.directives):
        cause = f'the neighbor is protected on line {earlier.place.line} already'
    return ConfigurationError(place, word, cause, 'one ikev2 section, or one keychain')


def _closed(section: Any) -> bool:
    """Return True if the block is closed: ExaBGP accepts the end of the file too."""
    if section.tokeniser.end == '}':
        return True
    assert section.builder is not None
    place, name = section.builder.place, section.builder.name
    return fault(section, ConfigurationError(place, name, 'the block does not end', '}'))


def _add(section: Any, builder: StatementsBuilder | None) -> bool:
    assert builder is not None
    try:
        builder.add(section.tokeniser.line[:-1], place_of(section.tokeniser))
    except ConfigurationError as error:
        return fault(section, error)
    return True


def _configuration_init(original: Any, self: Any, *arguments: Any, **named: Any) -> None:
    original(self, *arguments, **named)
    shared = (self.tokeniser, self.scope, self.error)
    section = Ikev2Section(*shared)
    for instance, inside in (
        (section, {'session': SessionSection.name}),
        (SessionSection(*shared, section), {}),
        (UnknownSection(*shared), {}),
    ):
        add_section(self, instance, inside)
    for parent in ('neighbor', 'template-neighbor'):
        self._structure[parent]['sections']['ikev2'] = Ikev2Section.name


def add_section(configuration: Any, instance: Any, inside: Mapping[str, str]) -> None:
    """Add a section with any words, and these sections in it, to ExaBGP's parser.

    We refuse the invalid words ourselves.
    """
    configuration._structure[instance.name] = {
        'class': instance,
        'commands': _Everything(),
        'sections': _Everything(inside),
    }


def _neighbor_parse(original: Any, self: Any, name: str, command: str) -> Any:
    """Parse `keychain NAME;` in a neighbor or a template as an `ikev2` section with only that."""
    if command != 'keychain' or self.known is not ParseNeighbor.known:
        place = place_of(self.tokeniser) if command == 'md5-password' else None
        parsed = original(self, name, command)
        if place is not None and isinstance(self.scope.get(command), str):
            self.scope.set(command, PlacedText(self.scope.get(command), place))
        return parsed
    place = place_of(self.tokeniser)
    earlier = self.scope.get(SCOPE)
    if earlier is not None:
        return fault(self, _second(place, 'keychain', earlier[DRAFT]))
    builder = StatementsBuilder(place, 'neighbor')
    if not _add(self, builder):
        return False
    self.scope.set(SCOPE, {DRAFT: builder.build()})
    return True


def install() -> None:
    """Patch ExaBGP's grammar."""
    wrap(Configuration, '__init__', _configuration_init)
    wrap(Section, 'parse', _neighbor_parse)
    # A known word, in neighbors and templates (they share the table), so that our own error is
    # reported.
    add(ParseNeighbor.known, 'keychain', None)

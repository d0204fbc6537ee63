"""The section `keychain NAME { key N { ... } }` at the top of a configuration, in ExaBGP's parser.

The way in, and the reading of the key files; `gatekeeper.configuration.keychain_directives` checks
the words, `gatekeeper.policy.keychain` the chain. Neighbors above the section may use it too.
"""

from __future__ import annotations

from typing import Any

from exabgp.configuration.configuration import Configuration
from exabgp.configuration.core import Section

from gatekeeper.configuration.directives import StatementsBuilder
from gatekeeper.configuration.keychain_directives import ChainBuilder
from gatekeeper.configuration.keychains import Defined, build
from gatekeeper.configuration.location import ConfigurationError, Location
from gatekeeper.configuration.values import WordError, chain_name
from plugin.configuration import neighbors
from plugin.configuration.ikev2_section import add_section
from plugin.configuration.line_numbers import place_of
from plugin.patching import wrap

# --- ExaBGP's parser ------------------------------------------------------------------------------


class KeychainSection(Section):
    """`keychain NAME { ... }` at the top."""

    name = 'ikev2-keychain'
    syntax = 'keychain core {\n   key 1 { send-id 1; recv-id 1; algorithm hmac-sha-1-96; ... }\n}'

    def __init__(self, tokeniser: Any, scope: Any, error: Any) -> None:
        super().__init__(tokeniser, scope, error)
        self.chains: dict[str, Defined] = {}
        self.builder: ChainBuilder | None = None

    def pre(self) -> bool:
        place, words = place_of(self.tokeniser), self.tokeniser.line[1:-1]
        try:
            name = chain_name(words)
        except WordError as error:
            raise ConfigurationError(place, 'keychain', error.cause, error.expected) from None
        if name in self.chains:
            first = self.chains[name].place.line
            cause = f'repeated, it stands on line {first} already'
            raise ConfigurationError(place, f'keychain {name}', cause)
        self.builder = ChainBuilder(name, place)
        return True

    def parse(self, name: str, command: str) -> bool:
        assert self.builder is not None
        self.builder.own.add(self.tokeniser.line[:-1], place_of(self.tokeniser))
        return True

    def post(self) -> bool:
        builder = self.builder
        assert builder is not None
        _check_closed(self.tokeniser, builder.place, builder.label)
        chain = build(builder, neighbors.files)
        self.chains[builder.name] = Defined(chain, builder.place)
        self.builder = None
        return True


class KeySection(Section):
    """`key N { ... }` inside it."""

    name = 'ikev2-keychain-key'
    syntax = (
        'key 1 {\n   send-id 1; recv-id 1; algorithm hmac-sha-1-96; key-file "k1";\n'
        '   tcp-options included;\n   send-lifetime 2026-11-23T12:00:00Z infinite;\n'
        '   accept-lifetime always;\n}'
    )

    def __init__(self, tokeniser: Any, scope: Any, error: Any, outer: KeychainSection) -> None:
        super().__init__(tokeniser, scope, error)
        self._outer = outer
        self.builder: StatementsBuilder | None = None

    def pre(self) -> bool:
        assert self._outer.builder is not None
        place, words = place_of(self.tokeniser), self.tokeniser.line[1:-1]
        self.builder = self._outer.builder.begin_key(words, place)
        return True

    def parse(self, name: str, command: str) -> bool:
        assert self.builder is not None
        self.builder.add(self.tokeniser.line[:-1], place_of(self.tokeniser))
        return True

    def post(self) -> bool:
        assert self.builder is not None
        _check_closed(self.tokeniser, self.builder.place, self.builder.name)
        return True


def _check_closed(tokeniser: Any, place: Location, name: str) -> None:
    """Check that the block is closed: ExaBGP accepts the end of the file too.

    Raises ConfigurationError.
    """
    if tokeniser.end != '}':
        raise ConfigurationError(place, name, 'the block does not end', '}')


def _configuration_init(original: Any, self: Any, *arguments: Any, **named: Any) -> None:
    original(self, *arguments, **named)
    shared = (self.tokeniser, self.scope, self.error)
    chain = KeychainSection(*shared)
    self.ikev2_chains = chain.chains
    add_section(self, chain, {'key': KeySection.name})
    add_section(self, KeySection(*shared, chain), {})
    self._structure['root']['sections']['keychain'] = KeychainSection.name


def install() -> None:
    """Patch ExaBGP's grammar."""
    wrap(Configuration, '__init__', _configuration_init)

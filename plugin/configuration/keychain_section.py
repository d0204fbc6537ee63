"""`keychain NAME { key N { ... } }` at the top of a configuration, in ExaBGP's parser.

The way in, and the reading of the key files; the words are judged by
`gatekeeper.configuration.keychain_directives`, the chain by `gatekeeper.policy.keychain`. Neighbors
above it may use it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exabgp.configuration.configuration import Configuration
from exabgp.configuration.core import Section

from gatekeeper.configuration.directives import DraftBuilder, WordError, chain_name
from gatekeeper.configuration.key_files import KeyFiles
from gatekeeper.configuration.keychain_directives import ChainBuilder
from gatekeeper.configuration.location import Place, SectionError
from gatekeeper.configuration.statements import Directive, Draft
from gatekeeper.policy.keychain import ALWAYS, ChainKey, Keychain, KeychainError, check_keychain
from keymaterial import KeyFileError, Secret
from plugin.configuration import neighbors
from plugin.configuration.ikev2_section import add_section
from plugin.configuration.line_numbers import place_of
from plugin.patching import wrap

_HEX = b'0x'
_HEX_STRING = re.compile(rb'0x[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2})*')


@dataclass(frozen=True, slots=True)
class Defined:
    """A keychain of the configuration, and where it stands."""

    keychain: Keychain
    place: Place


Chains = Mapping[str, Defined]


def build(builder: ChainBuilder, files: KeyFiles) -> Keychain:
    """Read the key files. Raises SectionError."""
    name, place, keys = builder.name, builder.place, builder.build()
    said = builder.own.directives.get('accept-tolerance')
    tolerance = said.value if said is not None else 0
    assert isinstance(tolerance, int)
    made = (_key(name, number, draft, tolerance, files) for number, draft in keys.items())
    chain = Keychain(name, tuple(made))
    try:
        check_keychain(chain)
    except KeychainError as error:
        raise SectionError(_blamed(chain, place, keys), f'keychain {name}', str(error)) from None
    return chain


def _blamed(chain: Keychain, place: Place, keys: Mapping[int, Draft]) -> Place:
    """Where the first key stands that doesn't go with those before it."""
    for count in range(1, len(chain.keys) + 1):
        try:
            check_keychain(Keychain(chain.name, chain.keys[:count]))
        except KeychainError:
            return keys[chain.keys[count - 1].number].place
    return place


def _key(name: str, number: int, draft: Draft, tolerance: int, files: KeyFiles) -> ChainKey:
    said: dict[str, Any] = {word: entry.value for word, entry in draft.directives.items()}
    both = said.get('send-accept-lifetime', ALWAYS)
    return ChainKey(
        number=number,
        send_id=said['send-id'],
        recv_id=said['recv-id'],
        algorithm=said['algorithm'],
        master_key=_secret(f'keychain {name} key {number}', draft.directives['key-file'], files),
        tcp_options=said.get('tcp-options', 'included') == 'included',
        send=said.get('send-lifetime', both),
        accept=said.get('accept-lifetime', both).widened(tolerance),
    )


def _secret(label: str, directive: Directive, files: KeyFiles) -> Secret:
    """The file's octets, or what they say in hex after 0x (RFC 8177: keystring, or
    hexadecimal-string, with or without colons)."""
    path = Path(str(directive.value))
    if not path.is_absolute():
        # ExaBGP itself has gone to /.
        path = Path(directive.place.file or '/').parent / path
    try:
        content = files.secret(path)
    except KeyFileError as error:
        raise SectionError(
            directive.place, f'{label} key-file', str(error), 'a private file, mode 0600'
        ) from None
    octets = content.reveal()
    if not octets.startswith(_HEX):
        return content
    if not _HEX_STRING.fullmatch(octets):
        cause = f'{path} begins with 0x and holds no hex'
        raise SectionError(directive.place, f'{label} key-file', cause, '0x and hex digits')
    return Secret(bytes.fromhex(octets.removeprefix(_HEX).replace(b':', b'').decode('ascii')))


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
            raise SectionError(place, 'keychain', error.cause, error.expected) from None
        if name in self.chains:
            first = self.chains[name].place.line
            cause = f'repeated, it stands on line {first} already'
            raise SectionError(place, f'keychain {name}', cause)
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
    """`key N { ... }` in it."""

    name = 'ikev2-keychain-key'
    syntax = (
        'key 1 {\n   send-id 1; recv-id 1; algorithm hmac-sha-1-96; key-file "k1";\n'
        '   tcp-options included;\n   send-lifetime 2026-11-23T12:00:00Z infinite;\n'
        '   accept-lifetime always;\n}'
    )

    def __init__(self, tokeniser: Any, scope: Any, error: Any, outer: KeychainSection) -> None:
        super().__init__(tokeniser, scope, error)
        self._outer = outer
        self.builder: DraftBuilder | None = None

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


def _check_closed(tokeniser: Any, place: Place, name: str) -> None:
    """ExaBGP takes the end of the file for the end of every block."""
    if tokeniser.end != '}':
        raise SectionError(place, name, 'the block does not end', '}')


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

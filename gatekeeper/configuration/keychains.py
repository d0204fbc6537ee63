"""Keychains from their statements: the key files are read and the chain is checked.

`gatekeeper.configuration.keychain_directives` has checked the words; `gatekeeper.policy.keychain`
checks whether the keys go together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatekeeper.configuration.key_files import KeyFiles
from gatekeeper.configuration.keychain_directives import ChainBuilder
from gatekeeper.configuration.location import ConfigurationError, Location
from gatekeeper.configuration.statements import SectionStatements, Statement
from gatekeeper.policy.keychain import ALWAYS, ChainKey, Keychain, KeychainError, check_keychain
from keymaterial import KeyFileError, Secret

_HEX = b'0x'


_HEX_STRING = re.compile(rb'0x[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2})*')


@dataclass(frozen=True, slots=True)
class Defined:
    """A keychain of the configuration, and its location."""

    keychain: Keychain
    place: Location


Chains = Mapping[str, Defined]


def build(builder: ChainBuilder, files: KeyFiles) -> Keychain:
    """Make a keychain, reading the key files. Raises ConfigurationError."""
    name, place, keys = builder.name, builder.place, builder.build()
    said = builder.own.directives.get('accept-tolerance')
    tolerance = said.value if said is not None else 0
    assert isinstance(tolerance, int)
    made = (_key(name, number, draft, tolerance, files) for number, draft in keys.items())
    chain = Keychain(name, tuple(made))
    try:
        check_keychain(chain)
    except KeychainError as error:
        raise ConfigurationError(
            _blamed(chain, place, keys), f'keychain {name}', str(error)
        ) from None
    return chain


def _blamed(chain: Keychain, place: Location, keys: Mapping[int, SectionStatements]) -> Location:
    """Return the location of the first key that doesn't go with those before it."""
    for count in range(1, len(chain.keys) + 1):
        try:
            check_keychain(Keychain(chain.name, chain.keys[:count]))
        except KeychainError:
            return keys[chain.keys[count - 1].number].place
    return place


def _key(
    name: str, number: int, draft: SectionStatements, tolerance: int, files: KeyFiles
) -> ChainKey:
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


def _secret(label: str, directive: Statement, files: KeyFiles) -> Secret:
    """Return the file's octets, or those in hex after 0x.

    RFC 8177: keystring, or hexadecimal-string, with or without colons. Raises ConfigurationError.
    """
    path = Path(str(directive.value))
    if not path.is_absolute():
        # The daemon itself has changed its directory to /.
        path = Path(directive.place.file or '/').parent / path
    try:
        content = files.secret(path)
    except KeyFileError as error:
        raise ConfigurationError(
            directive.place, f'{label} key-file', str(error), 'a private file, mode 0600'
        ) from None
    key = master_key(content)
    if key is None:
        cause = f'{path} begins with 0x and holds no hex'
        raise ConfigurationError(directive.place, f'{label} key-file', cause, '0x and hex digits')
    return key


def master_key(content: Secret) -> Secret | None:
    """Return the master key of a key file's content; None if it begins with 0x and is no hex."""
    octets = content.reveal()
    if not octets.startswith(_HEX):
        return content
    if not _HEX_STRING.fullmatch(octets):
        return None
    return Secret(bytes.fromhex(octets.removeprefix(_HEX).replace(b':', b'').decode('ascii')))

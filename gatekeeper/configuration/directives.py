"""The directives of an `ikev2 { }` section and of its `session` blocks: words in, values out.

Strict: the order is free, repetitions and additional words are errors. Pure: no file is read, no
object of a routing daemon is known. Rules about several directives are in
`plugin.configuration.neighbor_protection`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gatekeeper.configuration.location import ConfigurationError, Location
from gatekeeper.configuration.statements import Family, SectionStatements, Statement
from gatekeeper.policy.sessions import SHORTEST_LIFETIME
from ikev2.authentication.identity import Identity, IdentityError
from ikev2.authentication.ppk import LONGEST_PPK_ID
from ikev2.authentication.signatures.keys import Fingerprint
from ikev2.errors import CredentialError
from ikev2.proposals.policies import POLICIES
from tcpao.backend import Preference
from tcpao.mkt import ALGORITHMS

LONGEST_LIFETIME = 366 * 86400
"""Seconds. A key above a year is not rekeyed, it is forgotten."""
SHORTEST_IKE_LIFETIME = 60
LONGEST_LIVENESS = 86400
LONGEST_GRACE = 3600
LONGEST_TIMEOUT = 600
LOWEST_SOURCE_PORT = 1024
"""Ports below need privileges, which a daemon has dropped when it connects."""

_NUMBER = re.compile(r'[0-9]{1,20}', re.ASCII)
_NAME = re.compile(r'[A-Za-z0-9._-]{1,64}', re.ASCII)


class WordError(ValueError):
    """Words that aren't a value of the directive: the cause and the expected form."""

    def __init__(self, cause: str, expected: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.expected = expected


Words = Sequence[str]
Parser = Callable[[Words], object]


def one(words: Words, expected: str) -> str:
    """Return the only word. Raises WordError."""
    if not words or not words[0]:
        raise WordError('nothing follows', expected)
    if len(words) > 1:
        raise WordError(f'words too many: {" ".join(words[1:])}', expected)
    return words[0]


def number(lowest: int, highest: int, what: str, reason: str = '') -> Parser:
    """Return a parser of a decimal number in these bounds."""
    expected = f'{what} from {lowest} to {highest}{reason}'

    def parse(words: Words) -> int:
        word = one(words, expected)
        if not _NUMBER.fullmatch(word):
            raise WordError(f'{word!r} is not a number', expected)
        value = int(word)
        if value < lowest:
            raise WordError(f'{value} is too small', expected)
        if value > highest:
            raise WordError(f'{value} is too large', expected)
        return value

    return parse


def choice(*choices: str) -> Parser:
    """Return a parser of one of these words."""
    expected = ' or '.join(choices)

    def parse(words: Words) -> str:
        word = one(words, expected)
        if word not in choices:
            raise WordError(f'{word!r} is unknown', expected)
        return word

    return parse


def path(words: Words) -> str:
    """Return a file's path, relative or not."""
    word = one(words, "a file's path")
    try:
        usable = b'\0' not in os.fsencode(word)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise WordError(f'{word!r} cannot be a path', "a file's path")
    return word


def chain_name(words: Words) -> str:
    """Return the name of a keychain."""
    expected = 'a name of letters, digits, dots, dashes and underscores'
    word = one(words, expected)
    if not _NAME.fullmatch(word):
        raise WordError(f'{word!r} is no name of a keychain', expected)
    return word


def _identity(words: Words) -> Identity:
    expected = 'ip, fqdn, user-fqdn, key-id or dn, and a value'
    if len(words) < 2:
        raise WordError('type or value is missing', expected)
    value = one(words[1:], expected)
    try:
        return Identity.parse(words[0], value)
    except IdentityError as error:
        raise WordError(str(error), expected) from None
    except ValueError:
        # A lone surrogate (as \uXXXX), or a dn that DER can't hold.
        raise WordError(f'{value!r} is not an identity of type {words[0]}', expected) from None


def _fingerprint(words: Words) -> Fingerprint:
    expected = "sha256: and the 64 hex digits of the SHA-256 of the key's SubjectPublicKeyInfo"
    word = one(words, expected)
    try:
        return Fingerprint.parse(word)
    except CredentialError as error:
        raise WordError(str(error), expected) from None


def _listed(words: Words, expected: str) -> list[str]:
    """Return one word, or several in [ ], none of them twice. Raises WordError."""
    if not words or words[0] != '[':
        return [one(words, expected)]
    if ']' not in words:
        raise WordError('the list does not end', expected)
    end = list(words).index(']')
    if words[end + 1 :]:
        raise WordError(f'words too many: {" ".join(words[end + 1 :])}', expected)
    names = [word for word in words[1:end] if word != ',']
    if not names:
        raise WordError('the list is empty', expected)
    for name in names:
        if names.count(name) > 1:
            raise WordError(f'{name} is repeated', expected)
    return names


def _algorithms(words: Words) -> tuple[str, ...]:
    expected = f'one of {", ".join(ALGORITHMS)}, or several in [ ], most wanted first'
    names = _listed(words, expected)
    for name in names:
        if name not in ALGORITHMS:
            raise WordError(f'{name!r} is unknown', expected)
    return tuple(names)


def _paths(words: Words) -> tuple[str, ...]:
    return tuple(path((name,)) for name in _listed(words, "a file's path, or several in [ ]"))


def _ppk_id(words: Words) -> str:
    expected = f'a name of 1 to {LONGEST_PPK_ID} characters of ASCII, the same at both ends'
    word = one(words, expected)
    if not (word.isascii() and word.isprintable() and len(word) <= LONGEST_PPK_ID):
        raise WordError(f'{word!r} is no name of a PPK', expected)
    return word


def _backend(words: Words) -> str:
    expected = 'kernel, userspace or auto'
    word = one(words, expected)
    if word not in tuple(Preference):
        raise WordError(f'{word!r} is unknown', expected)
    return word


def _port(lowest: int, what: str, reason: str = '') -> Parser:
    return number(lowest, 65535, what, reason)


QUOTED = frozenset(
    {
        'psk-file',
        'private-key',
        'certificate',
        'peer-key',
        'trust-anchor',
        'crl',
        'ppk-file',
        'ppk-id',
    }
)
"""Directives whose values are printed in quotes."""

# Directives of a session block too, which has precedence.
_SESSION_TOO: dict[str, Parser] = {
    'algorithm': _algorithms,
    'tcp-options': choice('included', 'excluded'),
    'lifetime': number(SHORTEST_LIFETIME, LONGEST_LIFETIME, 'seconds'),
    'grace': number(5, LONGEST_GRACE, 'seconds'),
    'timeout': number(1, LONGEST_TIMEOUT, 'seconds'),
    'keychain': chain_name,
}

SECTION: dict[str, Parser] = {
    'local-id': _identity,
    'peer-id': _identity,
    'psk-file': path,
    'private-key': path,
    'peer-key': path,
    'peer-fingerprint': _fingerprint,
    'certificate': path,
    'trust-anchor': _paths,
    'crl': _paths,
    'crl-required': choice('true', 'false'),
    'ppk-file': path,
    'ppk-id': _ppk_id,
    'ppk-required': choice('true', 'false'),
    'ike-policy': choice(*POLICIES),
    'ike-lifetime': number(SHORTEST_IKE_LIFETIME, LONGEST_LIFETIME, 'seconds'),
    'ike-reauthentication': number(SHORTEST_IKE_LIFETIME, LONGEST_LIFETIME, 'seconds'),
    'ike-liveness': number(5, LONGEST_LIVENESS, 'seconds'),
    'ike-port': _port(1, 'a UDP port'),
    'tcp-ao-backend': _backend,
    **_SESSION_TOO,
}

SESSION: dict[str, Parser] = {
    'source-port': _port(
        LOWEST_SOURCE_PORT,
        'a TCP port',
        ' (lower ones need privileges that were dropped)',
    ),
    'peer-port': _port(1, 'a TCP port'),
    **_SESSION_TOO,
}


@dataclass(slots=True)
class StatementsBuilder:
    """A collector of the directives of one section."""

    place: Location
    name: str = 'ikev2'
    parsers: dict[str, Parser] = field(default_factory=lambda: SECTION)
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
            choices = ', '.join(sorted(self.parsers))
            if self.block:
                choices += f', or a block: {self.block}'
            raise ConfigurationError(
                place, self.name, f'{keyword!r} is unknown', f'one of {choices}'
            )
        if keyword in self.directives:
            first = self.directives[keyword].place.line
            raise ConfigurationError(place, label, f'repeated, it stands on line {first} already')
        try:
            value = parser(words[1:])
        except WordError as error:
            raise ConfigurationError(place, label, error.cause, error.expected) from None
        self.directives[keyword] = Statement(value, place)

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
        session = StatementsBuilder(place, f'{label} {" ".join(family)}', SESSION, block='')
        self.sessions[family] = session
        return session

    def build(self) -> SectionStatements:
        """Return the collected statements."""
        sessions = {family: builder.build() for family, builder in self.sessions.items()}
        return SectionStatements(self.place, dict(self.directives), sessions)

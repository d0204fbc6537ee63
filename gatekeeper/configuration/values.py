"""Values of directives: words in, values out. Pure: no file is read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from ikev2.authentication.identity import Identity, IdentityError
from ikev2.authentication.ppk import LONGEST_PPK_ID
from ikev2.authentication.signatures.keys import Fingerprint
from ikev2.errors import CredentialError
from tcpao.backend import Preference
from tcpao.mkt import ALGORITHMS

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


def identity(words: Words) -> Identity:
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


def fingerprint(words: Words) -> Fingerprint:
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


def algorithms(words: Words) -> tuple[str, ...]:
    expected = f'one of {", ".join(ALGORITHMS)}, or several in [ ], most wanted first'
    names = _listed(words, expected)
    for name in names:
        if name not in ALGORITHMS:
            raise WordError(f'{name!r} is unknown', expected)
    return tuple(names)


def paths(words: Words) -> tuple[str, ...]:
    return tuple(path((name,)) for name in _listed(words, "a file's path, or several in [ ]"))


def ppk_id(words: Words) -> str:
    expected = f'a name of 1 to {LONGEST_PPK_ID} characters of ASCII, the same at both ends'
    word = one(words, expected)
    if not (word.isascii() and word.isprintable() and len(word) <= LONGEST_PPK_ID):
        raise WordError(f'{word!r} is no name of a PPK', expected)
    return word


def backend(words: Words) -> str:
    expected = 'kernel, userspace or auto'
    word = one(words, expected)
    if word not in tuple(Preference):
        raise WordError(f'{word!r} is unknown', expected)
    return word


def port(lowest: int, what: str, reason: str = '') -> Parser:
    return number(lowest, 65535, what, reason)

"""A floor for the strength of pre-shared keys, and advice for keys below it.

A key does not show how it was made. The estimate is the most that the key can be worth if it was
made the way it looks: as octets, hexadecimal digits, base64, or words. An attacker who receives one
side's IKE_AUTH after posing as the other can try keys offline (RFC 7296, 2.15), so a password is no
pre-shared key.
"""

from __future__ import annotations

from itertools import pairwise
from math import log2
from string import ascii_lowercase, ascii_uppercase, digits, hexdigits
from typing import Final

from ikev2.errors import CredentialError
from keymaterial import Secret

PSK_FLOOR: Final = 112
"""Bits: the least that NIST SP 800-131A still allows. 40 random hexadecimal digits are above this
floor, and so are 32 except for one key in ten thousand that looks regular."""
PPK_FLOOR: Final = 224
"""Bits: RFC 8784, 6 wants 256; 32 random octets stay above this floor even if they look a bit
regular."""

_BITS_OF_WORDS: Final = 2.0
"""Bits per character: Diceware has 12.9 bits in 5.2 characters, and people choose worse."""
_SHORTEST_RUN: Final = 4
_OTHER_PRINTABLE: Final = 33
_NO_SEPARATORS: Final = str.maketrans('', '', ' -_.,;:')


def check_psk(secret: Secret) -> None:
    """Check that a pre-shared key cannot be guessed. Raises CredentialError if it can."""
    _check('pre-shared key', secret, PSK_FLOOR)


def check_ppk(secret: Secret) -> None:
    """Check that a post-quantum pre-shared key cannot be guessed.

    Raises CredentialError if it can.
    """
    _check('post-quantum pre-shared key', secret, PPK_FLOOR)


def _check(what: str, secret: Secret, floor: int) -> None:
    bits = estimate(secret.reveal())
    if bits < floor:
        raise CredentialError(
            f'the {what} could be guessed: from its looks it is worth {int(bits)} bits at most, '
            f'{floor} are wanted; make one with: gatekeeper keygen psk FILE'
        )


def estimate(octets: bytes) -> float:
    """Return the bits that a key is worth at most."""
    unit = _unit(octets)
    repetitions = log2(len(octets) / len(unit)) if unit else 0.0
    return _surprises(unit) * _bits_each(unit) + repetitions


def _unit(octets: bytes) -> bytes:
    """Return the part that `octets` repeat over and over; else all of them."""
    place = (octets + octets).find(octets, 1)
    return octets[:place] if place > 0 else octets


def _surprises(octets: bytes) -> int:
    """Count characters without those that only continue a run: `aaaa`, `1234`, `dcba`."""
    count = 0
    run, step = 1, 0
    for index, octet in enumerate(octets):
        difference = octet - octets[index - 1] if index else 256
        if difference == step and abs(step) <= 1:
            run += 1
        else:
            run, step = (2 if abs(difference) <= 1 else 1), difference
        count += 1
        if run == _SHORTEST_RUN:
            count -= _SHORTEST_RUN - 1
        elif run > _SHORTEST_RUN:
            count -= 1
    return count


def _bits_each(octets: bytes) -> float:
    if not octets:
        return 0.0
    text = octets.decode('latin-1')
    if not (text.isascii() and text.isprintable()):
        return _of_alphabet(256, octets)
    if set(text) <= set(digits):
        return _of_alphabet(10, octets)
    if set(text) <= set(hexdigits):
        return _of_alphabet(16, octets)
    if _looks_like_words(text):
        return min(_BITS_OF_WORDS, _of_alphabet(26, octets))
    size = sum(
        len(letters)
        for letters in (ascii_lowercase, ascii_uppercase, digits)
        if set(text) & set(letters)
    )
    if any(not c.isalnum() for c in text):
        size += _OTHER_PRINTABLE
    return _of_alphabet(size, octets)


def _looks_like_words(text: str) -> bool:
    """Return True if most characters, without separators, are next to a letter of the same case."""
    pairs = list(pairwise(text.translate(_NO_SEPARATORS)))
    alike = sum((a.islower() and b.islower()) or (a.isupper() and b.isupper()) for a, b in pairs)
    return alike * 5 > len(pairs) * 3


def _of_alphabet(size: int, octets: bytes) -> float:
    """Return bits per character, fewer if far fewer different ones occur than in random text."""
    distinct = len(set(octets))
    expected = size * (1 - (1 - 1 / size) ** len(octets))
    return log2(size if distinct * 2 > expected else distinct)

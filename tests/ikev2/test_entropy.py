"""The floor below which a pre-shared key is refused."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.crypto.entropy import PPK_FLOOR, PSK_FLOOR, check_ppk, check_psk, estimate
from ikev2.errors import CredentialError
from keymaterial import Secret

_RANDOM = random.Random(7)


def octets(count: int) -> bytes:
    return _RANDOM.randbytes(count)


GUESSABLE = [
    b'secret',
    b'Tr0ub4dor&3',
    b'correct horse battery staple',
    b'a secret of both that is long enough',
    b'CorrectHorseBatteryStaple2026',
    b'correct-horse-battery-staple-and-some-more',
    b'passwordpasswordpasswordpasswordpassword',
    b'0123456789abcdef' * 4,
    b'abcdefghijklmnopqrstuvwxyz0123456789',
    b'zyxwvutsrqponmlkjihgfedcba9876543210',
    b'aaaabbbbccccddddeeeeffffgggghhhh',
    b'a' * 200,
    b'ab' * 100,
    bytes(64),
    bytes(range(64)),
    b'31415926535897932384626433832795',
    b'10.0.0.1 10.0.0.2 BGP',
]


@pytest.mark.parametrize('key', GUESSABLE)
def test_check_psk_refuses_guessable_keys_with_advice(key: bytes) -> None:
    with pytest.raises(CredentialError, match='gatekeeper keygen psk') as caught:
        check_psk(Secret(key))
    assert key.decode('latin-1') not in str(caught.value)
    assert f'{PSK_FLOOR} are wanted' in str(caught.value)


@pytest.mark.parametrize(
    'key',
    [
        octets(16),
        octets(32),
        octets(16).hex().encode(),
        octets(32).hex().encode(),
        octets(32).hex().upper().encode(),
        base64.b64encode(octets(16)),
        base64.b64encode(octets(32)),
        b'a good many words that nobody ever wrote in this order walrus teapot gravel seventeen',
    ],
)
def test_check_psk_accepts_generated_keys_and_long_phrases(key: bytes) -> None:
    check_psk(Secret(key))


def test_check_ppk_demands_twice_as_much() -> None:
    # RFC 8784, 6: 256 bits for 128 against a quantum computer.
    check_ppk(Secret(octets(32)))
    check_ppk(Secret(octets(32).hex().encode()))
    for key in (octets(16), octets(16).hex().encode(), base64.b64encode(octets(24))):
        with pytest.raises(CredentialError, match=f'{PPK_FLOOR} are wanted'):
            check_ppk(Secret(key))


@given(st.integers(0, 2**32), st.sampled_from([str, bytes]))
def test_check_accepts_every_random_key_of_256_bits(seed: int, form: type) -> None:
    octets = random.Random(seed).randbytes(32)
    key = octets.hex().encode() if form is str else octets
    check_psk(Secret(key))
    check_ppk(Secret(octets))


@given(st.integers(0, 2**32))
def test_estimate_rarely_lowers_digits_of_256_bits(seed: int) -> None:
    """A few in a million have three runs and are refused as a PPK: `keygen` makes none of them."""
    assert estimate(random.Random(seed).randbytes(32).hex().encode()) >= 200


@given(st.binary(max_size=100))
def test_estimate_never_exceeds_number_of_bits(key: bytes) -> None:
    assert 0 <= estimate(key) <= 8 * len(key)


@given(st.binary(min_size=1, max_size=40), st.integers(2, 8))
def test_estimate_adds_little_for_repetition(key: bytes, times: int) -> None:
    assert estimate(key * times) <= estimate(key) + 3

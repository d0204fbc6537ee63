"""A Secret never discloses itself by accident, and compares in constant time."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymaterial import Secret

OCTETS = b'correct horse battery staple'


@dataclass
class Holder:
    name: str
    secret: Secret


def discloses(text: str) -> bool:
    return OCTETS.decode() in text or OCTETS.hex() in text or repr(list(OCTETS)) in text


@pytest.mark.parametrize(
    'show',
    [
        repr,
        str,
        ascii,
        '{}'.format,
        '{!r:>60}'.format,
        '{:x}'.format,
        lambda secret: f'{secret}',
        lambda secret: '%s %r' % (secret, secret),  # noqa: UP031
        lambda secret: repr([secret]),
        lambda secret: repr({'key': secret}),
        lambda secret: repr(Holder('name', secret)),
        lambda secret: json.dumps(Holder('name', secret).__dict__, default=str),
        lambda secret: str(ValueError(secret)),
    ],
)
def test_secret_is_hidden_when_formatted(show: Callable[[Secret], str]) -> None:
    text = show(Secret(OCTETS))
    assert not discloses(text)
    assert '28 octets' in text, 'its length may be known'


def test_secret_is_hidden_when_logged(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger('test').error('key %s of %r', Secret(OCTETS), Holder('n', Secret(OCTETS)))
    assert not discloses(caplog.text)


def test_secret_is_hidden_when_traceback_shows_locals() -> None:
    secret = Secret(OCTETS)
    with pytest.raises(ZeroDivisionError) as caught:
        _ = len(secret) / 0
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert not discloses(''.join(shown.format()))


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_secret_refuses_when_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match='never serialised'):
        pickle.dumps(Secret(OCTETS), protocol)
    with pytest.raises(TypeError, match='never serialised'):
        pickle.dumps(Holder('name', Secret(OCTETS)), protocol)


@pytest.mark.parametrize('way', [vars, iter, bytes, list])
def test_secret_octets_have_no_other_way_out(way: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError):
        way(Secret(OCTETS))


@pytest.mark.parametrize('other', [7, 'text', None, [1, 2]])
def test_secret_refuses_when_made_of_no_octets(other: Any) -> None:
    with pytest.raises(TypeError, match='made of octets'):
        Secret(other)


def test_secret_equals_only_itself_when_wiped() -> None:
    wiped, again = Secret(OCTETS), Secret(OCTETS)
    wiped.wipe()
    again.wipe()
    assert wiped != Secret(bytes(len(OCTETS)))
    assert Secret(bytes(len(OCTETS))) != wiped
    assert wiped != again
    assert wiped == copy.copy(wiped)


def test_secret_reveal_returns_octets() -> None:
    assert Secret(OCTETS).reveal() == OCTETS
    assert Secret(bytearray(OCTETS)).reveal() == OCTETS


def test_secret_keeps_its_own_copy() -> None:
    octets = bytearray(OCTETS)
    secret = Secret(octets)
    octets[:] = bytes(len(octets))
    assert secret.reveal() == OCTETS


def test_secret_wipe_overwrites_octets_in_place() -> None:
    secret = Secret(OCTETS)
    held = secret._octets
    secret.wipe()
    assert held == bytes(len(OCTETS))
    assert secret.wiped
    secret.wipe()
    with pytest.raises(ValueError, match='wiped') as caught:
        secret.reveal()
    assert not discloses(str(caught.value))


def test_secret_copies_are_wiped_with_it() -> None:
    holder = Holder('name', Secret(OCTETS))
    copies = [copy.copy(holder.secret), copy.deepcopy(holder.secret), copy.deepcopy(holder).secret]
    holder.secret.wipe()
    assert all(one.wiped for one in copies)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_secret_equality_follows_octets(one: bytes, other: bytes) -> None:
    assert (Secret(one) == Secret(other)) == (one == other)
    assert Secret(one) == Secret(one)


def test_secret_comparison_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare_digest(one: bytes, other: bytes) -> bool:
        compared.append((bytes(one), bytes(other)))
        return False

    monkeypatch.setattr('keymaterial.secret.hmac.compare_digest', compare_digest)
    assert Secret(b'a') != Secret(b'a')
    assert compared == [(b'a', b'a')]


def test_secret_differs_from_other_types() -> None:
    assert Secret(OCTETS) != OCTETS
    assert Secret(OCTETS) != None  # noqa: E711


def test_secret_is_not_hashable() -> None:
    with pytest.raises(TypeError):
        hash(Secret(OCTETS))


def test_secret_length_is_that_of_its_octets() -> None:
    assert len(Secret(OCTETS)) == 28

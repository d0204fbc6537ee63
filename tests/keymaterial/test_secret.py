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
def test_nothing_that_formats_discloses_it(show: Callable[[Secret], str]) -> None:
    text = show(Secret(OCTETS))
    assert not discloses(text)
    assert '28 octets' in text, 'its length may be known'


def test_a_log_does_not_disclose_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger('test').error('key %s of %r', Secret(OCTETS), Holder('n', Secret(OCTETS)))
    assert not discloses(caplog.text)


def test_a_traceback_with_locals_does_not_disclose_it() -> None:
    secret = Secret(OCTETS)
    with pytest.raises(ZeroDivisionError) as caught:
        _ = len(secret) / 0
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert not discloses(''.join(shown.format()))


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_never_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match='never serialised'):
        pickle.dumps(Secret(OCTETS), protocol)
    with pytest.raises(TypeError, match='never serialised'):
        pickle.dumps(Holder('name', Secret(OCTETS)), protocol)


@pytest.mark.parametrize('way', [vars, iter, bytes, list])
def test_there_is_no_other_way_to_its_octets(way: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError):
        way(Secret(OCTETS))


@pytest.mark.parametrize('other', [7, 'text', None, [1, 2]])
def test_it_is_made_of_octets_only(other: Any) -> None:
    with pytest.raises(TypeError, match='made of octets'):
        Secret(other)


def test_what_was_wiped_equals_nothing_but_itself() -> None:
    wiped, again = Secret(OCTETS), Secret(OCTETS)
    wiped.wipe()
    again.wipe()
    assert wiped != Secret(bytes(len(OCTETS)))
    assert Secret(bytes(len(OCTETS))) != wiped
    assert wiped != again
    assert wiped == copy.copy(wiped)


def test_reveal_is_the_way_out() -> None:
    assert Secret(OCTETS).reveal() == OCTETS
    assert Secret(bytearray(OCTETS)).reveal() == OCTETS


def test_it_keeps_its_own_copy() -> None:
    octets = bytearray(OCTETS)
    secret = Secret(octets)
    octets[:] = bytes(len(octets))
    assert secret.reveal() == OCTETS


def test_wiping_overwrites_the_octets_in_place() -> None:
    secret = Secret(OCTETS)
    held = secret._octets
    secret.wipe()
    assert held == bytes(len(OCTETS))
    assert secret.wiped
    secret.wipe()
    with pytest.raises(ValueError, match='wiped') as caught:
        secret.reveal()
    assert not discloses(str(caught.value))


def test_copies_are_wiped_with_it() -> None:
    holder = Holder('name', Secret(OCTETS))
    copies = [copy.copy(holder.secret), copy.deepcopy(holder.secret), copy.deepcopy(holder).secret]
    holder.secret.wipe()
    assert all(one.wiped for one in copies)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_equality_is_that_of_the_octets(one: bytes, other: bytes) -> None:
    assert (Secret(one) == Secret(other)) == (one == other)
    assert Secret(one) == Secret(one)


def test_comparison_is_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare_digest(one: bytes, other: bytes) -> bool:
        compared.append((bytes(one), bytes(other)))
        return False

    monkeypatch.setattr('keymaterial.secret.hmac.compare_digest', compare_digest)
    assert Secret(b'a') != Secret(b'a')
    assert compared == [(b'a', b'a')]


def test_it_equals_nothing_but_secrets() -> None:
    assert Secret(OCTETS) != OCTETS
    assert Secret(OCTETS) != None  # noqa: E711


def test_it_is_not_hashable() -> None:
    with pytest.raises(TypeError):
        hash(Secret(OCTETS))


def test_its_length_is_that_of_the_octets() -> None:
    assert len(Secret(OCTETS)) == 28

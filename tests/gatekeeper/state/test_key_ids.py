"""KeyIDs: two spaces, never 0, never twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.state.key_ids import KeyIds, NoKeyIdError
from tests.gatekeeper.world import pair_of

PAIR, OTHER = pair_of('ipv4 unicast'), pair_of('ipv6 unicast')


@given(start=st.integers(0, 255))
def test_send_ids_from_1_to_255_are_given_out_once_then_none(start: int) -> None:
    keyids = KeyIds(lambda size: bytes([start]) * size)
    assert sorted(keyids.take_send_id() for _ in range(255)) == list(range(1, 256))
    with pytest.raises(NoKeyIdError):
        keyids.take_send_id()


def test_start_is_random() -> None:
    first = KeyIds(lambda size: bytes([9]) * size).take_send_id()
    second = KeyIds(lambda size: bytes([200]) * size).take_send_id()
    assert first != second


def test_unwanted_id_is_not_given_out() -> None:
    keyids = KeyIds(lambda size: bytes(size))
    assert keyids.take_send_id(unwanted={1, 2}) == 3


def test_recv_id_is_never_0() -> None:
    assert not KeyIds(lambda size: bytes(size)).take_recv_id(0)


def test_recv_id_is_taken_once_until_it_is_released() -> None:
    keyids = KeyIds(lambda size: bytes(size))
    assert keyids.take_recv_id(7)
    assert not keyids.take_recv_id(7)
    keyids.release(1, 7)
    assert keyids.take_recv_id(7)


def test_send_ids_and_recv_ids_are_two_spaces() -> None:
    keyids = KeyIds(lambda size: bytes(size))
    assert keyids.take_recv_id(1)
    assert keyids.take_send_id() == 1


def test_id_rests_only_for_the_pair_that_had_it() -> None:
    keyids = KeyIds(lambda size: bytes(size))
    keyids.rest(PAIR, 1, 2, until=60.0)
    keyids.rest(PAIR, 3, 4, until=70.0)
    assert [set(ids) for ids in keyids.resting(PAIR, 59.0)] == [{1, 3}, {2, 4}]
    assert [set(ids) for ids in keyids.resting(OTHER, 59.0)] == [set(), set()]
    assert [set(ids) for ids in keyids.resting(PAIR, 60.0)] == [{3}, {4}]
    assert [set(ids) for ids in keyids.resting(PAIR, 70.0)] == [set(), set()]

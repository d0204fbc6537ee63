"""The cursor under all decoders."""

from __future__ import annotations

from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.errors import MalformedMessage
from ikev2.wire.reader import Reader


def test_reader_reads_from_front_to_back() -> None:
    reader = Reader(bytes.fromhex('01 0203 0405 06'), 'test')
    assert reader.uint8() == 1
    assert reader.unpack(Struct('>H')) == (0x0203,)
    assert reader.take(2) == b'\x04\x05'
    assert reader.remaining == 1
    assert reader.rest() == b'\x06'
    reader.expect_end()


@given(st.binary(max_size=10), st.integers(-20, 20))
def test_reader_refuses_to_read_beyond_end(data: bytes, length: int) -> None:
    reader = Reader(data, 'test')
    if 0 <= length <= len(data):
        assert reader.take(length) == data[:length]
        return
    with pytest.raises(MalformedMessage, match='test'):
        reader.take(length)
    assert reader.remaining == len(data)


def test_reader_refuses_partial_fields() -> None:
    reader = Reader(b'abc', 'test')
    with pytest.raises(MalformedMessage, match='4 octets wanted, 3 are there'):
        reader.unpack(Struct('>I'))


def test_reader_refuses_octets_left_over() -> None:
    with pytest.raises(MalformedMessage, match='1 octets too many'):
        Reader(b'x', 'test').expect_end()

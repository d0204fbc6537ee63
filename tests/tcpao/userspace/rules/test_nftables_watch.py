"""Which of nftables' events say that something was removed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpao.userspace.rules.nftables_watch import has_removal

OURS = frozenset({b'ours'})


def event(kind: int, table: bytes | None = b'ours') -> bytes:
    attributes = b''
    if table is not None:
        handle = struct.pack('=HH', 8, 4) + bytes(4)
        attributes = handle + struct.pack('=HH', 5 + len(table), 1) + table + b'\0'
    body = bytes(4) + attributes + bytes(-len(attributes) % 4)
    return struct.pack('=IHHII', 20 + len(attributes), 10 << 8 | kind, 0, 0, 0) + body


def test_removals_are_told_from_other_events() -> None:
    additions = b''.join(map(event, (0, 3, 6, 15)))
    assert not has_removal(additions, OURS)
    for kind in (2, 5, 8):
        assert has_removal(additions + event(kind), OURS)


@pytest.mark.parametrize('kind', [2, 5, 8])
def test_removals_from_other_tables_are_passed_over(kind: int) -> None:
    theirs = event(kind, b'theirs')
    assert not has_removal(theirs, OURS)
    assert has_removal(theirs + event(kind), OURS)


def test_our_own_removal_is_passed_over() -> None:
    ours = struct.pack('=IHHII', 20, 10 << 8 | 8, 0, 0, 4711) + bytes(4)
    assert has_removal(ours, OURS)
    assert not has_removal(ours, OURS, own=4711)
    assert has_removal(ours + event(8), OURS, own=4711)


def test_removal_without_a_table_may_be_ours() -> None:
    assert has_removal(event(2, None), OURS)


def test_events_of_other_subsystems_are_passed_over() -> None:
    assert not has_removal(struct.pack('=IHHII', 16, 3 << 8 | 2, 0, 0, 0), OURS)


@given(st.binary(max_size=100))
def test_any_octets_are_read(octets: bytes) -> None:
    has_removal(octets, OURS)

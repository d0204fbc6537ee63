"""Which of nftables' events say that something was removed."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tcpao.userspace.watch import has_removal


def event(kind: int) -> bytes:
    return struct.pack('=IHHII', 20, 10 << 8 | kind, 0, 0, 0) + bytes(4)


def test_removals_are_told_from_other_events() -> None:
    additions = b''.join(map(event, (0, 3, 6, 15)))
    assert not has_removal(additions)
    for kind in (2, 5, 8):
        assert has_removal(additions + event(kind))


def test_events_of_other_subsystems_are_none() -> None:
    assert not has_removal(struct.pack('=IHHII', 16, 3 << 8 | 2, 0, 0, 0))


@given(st.binary(max_size=100))
def test_anything_is_read(octets: bytes) -> None:
    has_removal(octets)

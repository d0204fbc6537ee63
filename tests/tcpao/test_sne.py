"""The SNE around the wrap of the sequence space (RFC 9187; erratum 5672 of RFC 5925)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tcpao.sne import SneFollower, sne_of

SPACE = 1 << 32
HALF = 1 << 31


def kernel(next_sne: int, next_sequence: int, sequence: int) -> int:
    """Return the SNE that Linux computes, from its description: adjust by one if the comparison
    wraps."""
    before = (sequence - next_sequence) % SPACE >= HALF
    if before and sequence > next_sequence:
        return (next_sne - 1) % SPACE
    if not before and sequence < next_sequence:
        return (next_sne + 1) % SPACE
    return next_sne


def test_sne_begins_at_zero() -> None:
    follower = SneFollower(4_000_000_000)
    assert follower.sne_of(4_000_000_000) == 0
    assert follower.sne == 0


def test_sne_rises_when_the_sequence_wraps() -> None:
    follower = SneFollower(SPACE - 10)
    follower.advance(SPACE - 10, 1)
    assert follower.sne_of(SPACE - 1) == 0
    assert follower.sne_of(0) == 1
    follower.advance(SPACE - 9, 20)
    assert follower.sne == 1


def test_sne_is_right_when_segments_are_reordered_at_the_wrap() -> None:
    follower = SneFollower(SPACE - 3000)
    follower.advance(1000, 500)
    assert follower.sne_of(SPACE - 1460) == 0, 'late, from before the wrap'
    assert follower.sne_of(1500) == 1
    follower.advance(SPACE - 1460, 1460)
    assert follower.sne_of(1500) == 1, 'a retransmission moves nothing back'


def test_sne_stays_when_a_forged_segment_is_bad() -> None:
    follower = SneFollower(100)
    follower.sne_of(HALF)
    assert follower.sne_of(200) == 0


def test_sne_rises_with_each_of_many_wraps() -> None:
    follower = SneFollower(7)
    step = 1 << 30
    for n in range(40):
        sequence = (7 + n * step) % SPACE
        assert follower.sne_of(sequence) == (7 + n * step) // SPACE
        follower.advance(sequence, step)
    assert follower.sne == (7 + 40 * step) // SPACE == 10


def test_sne_is_the_one_before_when_a_probe_precedes_octet_one() -> None:
    # ISN 0: the octet before it has SEG.SEQ 2**32 - 1.
    assert sne_of(0, SPACE - 1) == SPACE - 1


@given(st.integers(0, SPACE - 1), st.integers(0, SPACE - 1), st.integers(0, SPACE - 1))
def test_sne_agrees_with_the_kernels_rule(sne: int, expected: int, sequence: int) -> None:
    assert sne_of(sne * SPACE + expected, sequence) == kernel(sne, expected, sequence)


@given(st.integers(0, 1 << 40), st.integers(-HALF, HALF - 1))
def test_sne_is_right_within_2_gib(expected: int, distance: int) -> None:
    true = expected + distance
    assert sne_of(expected, true % SPACE) == (true // SPACE) % SPACE

"""Room for TCP-AO's option, and the MSS that keeps it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpao.userspace.wire.options import (
    LARGEST_MSS,
    LONGEST_AO_OPTION,
    MalformedError,
    find_ao,
    make_room,
    mss_of,
    with_lower_mss,
    without_ao,
)
from tests.tcpao.userspace.packets import (
    MSS_1460,
    SACK_PERMITTED,
    SYN_OPTIONS,
    TIMESTAMPS,
    WINDOW_SCALE,
)

AO_16 = bytes((29, 16, 1, 2)) + b'm' * 12
AO_20 = bytes((29, 20, 1, 2)) + b'm' * 16


def sack(blocks: int) -> bytes:
    return bytes((5, 2 + 8 * blocks)) + b''.join(
        struct.pack('!II', number * 10, number * 10 + 5) for number in range(blocks)
    )


def kinds(options: bytes) -> list[int]:
    found, at = [], 0
    while at < len(options):
        found.append(options[at])
        at += 1 if options[at] == 1 else options[at + 1]
    return found


# --- finding --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('options', 'at'),
    [
        (b'', -1),
        (SYN_OPTIONS, -1),
        (AO_16, 0),
        (b'\x01\x01' + TIMESTAMPS + AO_16, 12),
        (b'\x00' + AO_16, -1),
    ],
)
def test_option_is_found_where_it_is(options: bytes, at: int) -> None:
    assert find_ao(options) == at


def test_option_is_not_found_inside_another_option() -> None:
    assert find_ao(bytes((8, 10)) + AO_16[:8]) == -1


@pytest.mark.parametrize(
    'options',
    [
        AO_16 + AO_16,
        AO_16 + bytes((19, 18)) + bytes(16),
        bytes((19, 18)) + bytes(16) + AO_16,
        bytes((29, 3, 1)),
        bytes((29, 2)),
        bytes((29, 17)) + bytes(14),
        bytes((8,)),
        bytes((8, 0)) + bytes(8),
        bytes((8, 1)),
    ],
)
def test_broken_options_are_refused(options: bytes) -> None:
    with pytest.raises(MalformedError):
        find_ao(options)


@given(st.binary(max_size=40))
def test_any_options_are_parsed_or_refused(options: bytes) -> None:
    try:
        at = find_ao(options)
    except MalformedError:
        return
    assert at == -1 or options[at] == 29


@pytest.mark.parametrize('before', [b'', b'\x01\x01' + TIMESTAMPS, b'\x01', b'\x01\x01\x01'])
def test_rest_is_a_multiple_of_four_when_the_option_is_out(before: bytes) -> None:
    options = before + AO_16 + b'\x01' * (-len(before) % 4)
    left = without_ao(options, len(before))
    assert len(left) % 4 == 0
    assert left.startswith(before)
    assert find_ao(left) == -1


# --- room -----------------------------------------------------------------------------------


@pytest.mark.parametrize('taken', [16, 20])
def test_full_syn_of_linux_has_room_as_it_is(taken: int) -> None:
    assert make_room(SYN_OPTIONS, taken, syn=True) == SYN_OPTIONS


@pytest.mark.parametrize('taken', [16, 20])
def test_most_recent_of_three_sack_blocks_stays(taken: int) -> None:
    full = b'\x01\x01' + TIMESTAMPS + b'\x01\x01' + sack(3)
    assert len(full) == 40
    cut = make_room(full, taken, syn=False)
    assert cut is not None
    assert len(cut) + taken <= 40
    assert len(cut) % 4 == 0
    assert cut.startswith(TIMESTAMPS + sack(1)), 'RFC 2018: the first block is the news'


@pytest.mark.parametrize(
    ('blocks', 'taken', 'left'), [(4, 16, 2), (4, 20, 2), (3, 16, 2), (2, 20, 2), (1, 20, 1)]
)
def test_more_sack_blocks_stay_when_there_are_no_timestamps(
    blocks: int, taken: int, left: int
) -> None:
    cut = make_room(b'\x01\x01' + sack(blocks), taken, syn=False)
    assert cut is not None
    assert sack(left) in cut
    assert sack(left + 1) not in cut


def test_padding_goes_before_sack_blocks() -> None:
    options = b'\x01\x01' + TIMESTAMPS + b'\x01\x01' + sack(1)
    assert make_room(options, 20, syn=False) == TIMESTAMPS + sack(1)


def test_syn_loses_options_that_need_no_answer() -> None:
    fast_open = bytes((34, 10)) + b'cookie!!'
    multipath = bytes((30, 12)) + bytes(10)
    cut = make_room(SYN_OPTIONS + fast_open + b'\x01\x01', 16, syn=True)
    assert cut is not None
    assert cut == MSS_1460 + SACK_PERMITTED + TIMESTAMPS + WINDOW_SCALE[1:] + b'\x01'
    assert 30 not in kinds(make_room(SYN_OPTIONS + multipath, 20, syn=True) or b'')


def test_options_are_refused_when_they_cannot_fit() -> None:
    unknown = bytes((77, 38)) + bytes(36)
    assert make_room(unknown + b'\x01\x01', 16, syn=False) is None


@given(
    st.binary(max_size=10).map(lambda words: words * 4), st.sampled_from([16, 20]), st.booleans()
)
def test_any_options_fit_when_room_was_made(options: bytes, taken: int, syn: bool) -> None:
    try:
        cut = make_room(options, taken, syn)
    except MalformedError:
        return
    assert cut is None or (len(cut) + taken <= 40 and len(cut) % 4 == 0)


# --- MSS ------------------------------------------------------------------------------------


def test_mss_leaves_room_for_the_longest_option() -> None:
    seen = with_lower_mss(SYN_OPTIONS, 4, None)
    assert mss_of(seen) == 1460 - LONGEST_AO_OPTION
    assert seen[4:] == SYN_OPTIONS[4:], 'nothing else changes'


def test_mss_fits_our_own_link_when_it_is_narrower() -> None:
    assert mss_of(with_lower_mss(SYN_OPTIONS, 4, 1240)) == 1240 - LONGEST_AO_OPTION


@pytest.mark.parametrize(('version', 'mss'), [(4, 536), (6, 1220)])
def test_mss_option_is_added_when_there_is_none(version: int, mss: int) -> None:
    seen = with_lower_mss(SACK_PERMITTED + b'\x01\x01', version, None)
    assert mss_of(seen) == mss - LONGEST_AO_OPTION
    assert SACK_PERMITTED in seen
    assert len(seen) % 4 == 0


def test_segment_never_outgrows_a_netlink_attribute() -> None:
    largest = bytes((2, 4, 0xFF, 0xFF))
    assert mss_of(with_lower_mss(largest, 4, 65495)) == LARGEST_MSS[4] - LONGEST_AO_OPTION
    assert 40 + 40 + LARGEST_MSS[4] <= 65531


def test_segment_fits_every_path_when_it_is_ipv6() -> None:
    jumbo = bytes((2, 4)) + (8940).to_bytes(2, 'big')
    mss = mss_of(with_lower_mss(jumbo, 6, 8940))
    assert mss is not None
    assert 40 + 20 + LONGEST_AO_OPTION + mss == 1280


def test_tiny_mss_is_not_lowered_to_an_attack() -> None:
    assert mss_of(with_lower_mss(bytes((2, 4, 0, 60)), 4, None)) == 48


@given(st.binary(max_size=36), st.sampled_from([4, 6]), st.none() | st.integers(0, 70000))
def test_any_syn_options_are_lowered_or_refused(
    options: bytes, version: int, ceiling: int | None
) -> None:
    try:
        seen = with_lower_mss(options, version, ceiling)
    except MalformedError:
        return
    assert len(seen) <= 40
    assert len(seen) % 4 == 0
    mss = mss_of(seen)
    assert mss is not None
    assert 48 <= mss <= LARGEST_MSS[version] - LONGEST_AO_OPTION


# --- AccECN ---------------------------------------------------------------------------------

COUNTERS = b'abcdefghi'


def accecn(counters: int, kind: int = 172) -> bytes:
    return bytes((kind, 2 + 3 * counters)) + COUNTERS[: 3 * counters]


@pytest.mark.parametrize('kind', [172, 174])
def test_accecn_loses_counters_when_the_mac_is_long(kind: int) -> None:
    options = TIMESTAMPS + accecn(3, kind) + bytes((1, 1, 1))
    assert make_room(options, len(AO_16), syn=False) == TIMESTAMPS + accecn(3, kind) + b'\x01' * 3
    shorter = make_room(options, len(AO_20), syn=False)
    assert shorter == TIMESTAMPS + accecn(2, kind) + b'\x01' * 2


def test_accecn_goes_before_sack_blocks_when_room_is_short() -> None:
    options = TIMESTAMPS + accecn(3) + b'\x01' + sack(1)
    assert make_room(options, len(AO_20), syn=False) == TIMESTAMPS + sack(1)


def test_sack_blocks_go_too_when_accecn_was_not_enough() -> None:
    options = TIMESTAMPS + accecn(1) + b'\x01' + sack(2)
    assert make_room(options, len(AO_20), syn=False) == TIMESTAMPS + sack(1)


def test_no_room_is_made_when_an_option_may_not_change() -> None:
    mptcp = bytes((30, 20)) + bytes(18)
    assert make_room(TIMESTAMPS + mptcp + b'\x01\x01', len(AO_16), syn=False) is None

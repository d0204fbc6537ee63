"""Finding the TCP segment in a packet, and putting a packet together with other options."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpao.userspace.wire.packet import flow_of, full_checksum, locate, with_options
from tests.tcpao.userspace.packets import (
    ACK,
    DATA_OPTIONS,
    SYN_OPTIONS,
    a_pair,
    has_good_checksums,
    packet,
    segment_of,
)

VERSIONS = pytest.mark.parametrize('version', [4, 6])
OPTIONS = st.integers(0, 10).flatmap(
    lambda words: st.binary(min_size=words * 4, max_size=words * 4)
)


def with_ip_options(octets: bytes, options: bytes = b'\x01\x01\x01\x00') -> bytes:
    """An IPv4 packet with options of IP."""
    head = bytearray(octets[:20] + options)
    head[0] = 0x40 | len(head) // 4
    head[2:4] = struct.pack('!H', len(octets) + len(options))
    return bytes(head) + octets[20:]


@VERSIONS
def test_header_and_payload_are_found(version: int) -> None:
    octets = packet(a_pair(version), 1, 2, ACK, DATA_OPTIONS, b'payload')
    place = locate(octets)
    assert place is not None
    start, data = place
    assert octets[data:] == b'payload'
    assert octets[start : start + 2] == (40001).to_bytes(2, 'big')


def test_ip_options_are_passed_over() -> None:
    octets = with_ip_options(packet(a_pair(), 1, 2, ACK, DATA_OPTIONS, b'payload'))
    assert locate(octets) == (24, 24 + 20 + 12)


@VERSIONS
def test_flow_names_both_ends_as_on_the_wire(version: int) -> None:
    pair = a_pair(version)
    expected = pair.local.packed + pair.remote.packed + struct.pack('!HH', pair.local_port, 179)
    assert flow_of(packet(pair, 1), 20 if version == 4 else 40) == expected


def test_flow_is_found_when_there_are_ip_options() -> None:
    plain = packet(a_pair(), 1)
    assert flow_of(with_ip_options(plain), 24) == flow_of(plain, 20)


def test_ten_words_of_ipv4_header_are_not_taken_for_ipv6() -> None:
    octets = with_ip_options(packet(a_pair(), 1), b'\x01' * 20)
    assert locate(octets) == (40, 60)
    assert flow_of(octets, 40) == flow_of(packet(a_pair(), 1), 20)


@pytest.mark.parametrize(
    ('at', 'value', 'what'),
    [
        (0, 0x55, 'another version'),
        (0, 0x44, 'a header shorter than it can be'),
        (6, 0x20, 'more fragments'),
        (7, 0x01, 'a later fragment'),
        (9, 17, 'another protocol'),
        (3, 0xFF, 'a wrong length'),
        (32, 0x40, 'a data offset in the header'),
        (32, 0xF0, 'a data offset behind the end'),
    ],
)
def test_ipv4_is_refused_when_it_is_not_one_whole_segment(at: int, value: int, what: str) -> None:
    octets = bytearray(packet(a_pair(), 1))
    assert locate(bytes(octets)) is not None
    octets[at] = value
    assert locate(bytes(octets)) is None, what


@pytest.mark.parametrize('extension', [0, 43, 44, 50, 51, 60, 135])
def test_ipv6_extension_headers_are_refused(extension: int) -> None:
    octets = packet(a_pair(6), 1)
    behind = bytes((6, 0)) + bytes(6) + octets[40:]
    head = bytearray(octets[:40])
    head[6] = extension
    head[4:6] = struct.pack('!H', len(behind))
    assert locate(bytes(head) + behind) is None


@VERSIONS
@pytest.mark.parametrize('change', [-1, 1])
def test_packet_is_refused_when_its_length_is_wrong(version: int, change: int) -> None:
    octets = packet(a_pair(version), 1, 2, ACK, b'', b'payload')
    assert locate(octets[:-1] if change < 0 else octets + b'\0') is None


@given(st.binary(max_size=200))
def test_any_octets_are_parsed_or_refused(octets: bytes) -> None:
    place = locate(octets)
    if place is not None:
        start, data = place
        assert 20 <= start < data <= len(octets)


@given(st.sampled_from([4, 6]), OPTIONS, OPTIONS, st.binary(max_size=100), st.booleans())
def test_checksum_is_right_when_options_are_replaced(
    version: int, old: bytes, new: bytes, payload: bytes, partial: bool
) -> None:
    octets = packet(a_pair(version), 7, 9, ACK, old, payload, partial=partial)
    place = locate(octets)
    assert place is not None
    changed = with_options(octets, *place, new, partial)
    assert has_good_checksums(changed)
    segment = segment_of(changed)
    assert segment.header[20:] == new
    assert segment.payload == payload
    assert segment.header[:12] == segment_of(octets).header[:12]


@VERSIONS
def test_wrong_checksum_stays_wrong(version: int) -> None:
    octets = bytearray(packet(a_pair(version), 7, 9, ACK, SYN_OPTIONS, b'payload'))
    octets[-1] ^= 1
    place = locate(bytes(octets))
    assert place is not None
    assert not has_good_checksums(with_options(bytes(octets), *place, DATA_OPTIONS))


@given(st.sampled_from([4, 6]), st.binary(max_size=99))
def test_full_checksum_is_that_of_rfc_1071(version: int, payload: bytes) -> None:
    octets = packet(a_pair(version), 7, 9, ACK, b'', payload)
    start = 20 if version == 4 else 40
    computed = full_checksum(octets, start)
    changed = octets[: start + 16] + struct.pack('!H', computed) + octets[start + 18 :]
    assert has_good_checksums(changed)

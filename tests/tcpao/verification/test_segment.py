"""Taking segments apart: hostile input is normal."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpao.verification.segment import Flag, MalformedSegmentError, Segment, parse_ip

AO = b'\x1d\x10\x01\x02' + bytes(range(12))


def tcp(options: bytes = b'', payload: bytes = b'', flags: int = 0x10, offset: int = 0) -> bytes:
    options += bytes(-len(options) % 4)
    words = offset or 5 + len(options) // 4
    return (
        struct.pack('!HHIIBBHHH', 40001, 179, 1000, 2000, words << 4, flags, 512, 0, 0)
        + options
        + payload
    )


def ipv4(
    segment: bytes, *, protocol: int = 6, fragment: int = 0, total: int | None = None
) -> bytes:
    length = 20 + len(segment) if total is None else total
    header = struct.pack('!BBHHHBBH', 0x45, 0, length, 0, fragment, 64, protocol, 0)
    return header + b'\x0a\0\0\x01' + b'\x0a\0\0\x02' + segment


def ipv6(segment: bytes, *, next_header: int = 6, length: int | None = None) -> bytes:
    length = len(segment) if length is None else length
    return struct.pack('!IHBB', 6 << 28, length, next_header, 64) + bytes(32) + segment


def parsed(packet: bytes) -> Segment:
    segment = parse_ip(packet)
    assert segment is not None
    return segment


@pytest.mark.parametrize('wrap', [ipv4, ipv6])
def test_segment_has_its_fields(wrap: Callable[[bytes], bytes]) -> None:
    segment = parsed(wrap(tcp(b'\x01\x01' + AO, b'payload', flags=0x12)))
    assert (segment.source_port, segment.destination_port) == (40001, 179)
    assert (segment.sequence, segment.acknowledgment) == (1000, 2000)
    assert segment.flags == Flag.SYN | Flag.ACK
    assert segment.is_syn_ack
    assert not segment.is_opening
    assert segment.payload == b'payload'
    assert segment.length == 8
    option = segment.ao_option()
    assert option is not None
    assert (option.key_id, option.rnext_key_id, option.mac) == (1, 2, AO[4:])
    assert segment.header[option.offset : option.end] == AO


def test_ethernet_padding_is_not_payload() -> None:
    packet = ipv4(tcp()) + bytes(6)
    assert parsed(packet).payload == b''


def test_ipv6_extension_headers_are_passed_over() -> None:
    hop_by_hop = b'\x3c\x00' + bytes(6)
    destination = b'\x06\x01' + bytes(14)
    packet = ipv6(hop_by_hop + destination + tcp(payload=b'x'), next_header=0)
    assert parsed(packet).payload == b'x'


def test_segment_has_no_option_when_there_is_none() -> None:
    assert parsed(ipv4(tcp(b'\x02\x04\x05\xb4'))).ao_option() is None


def test_option_after_the_end_of_options_does_not_count() -> None:
    assert parsed(ipv4(tcp(b'\x00' + AO))).ao_option() is None


@pytest.mark.parametrize(
    'packet',
    [
        pytest.param(ipv4(b'', protocol=17), id='IPv4 UDP'),
        pytest.param(ipv6(b'', next_header=58), id='ICMPv6'),
        pytest.param(ipv6(b'\x11\0' + bytes(6), next_header=44), id='IPv6 fragment of UDP'),
    ],
)
def test_packet_is_passed_over_when_it_is_not_tcp(packet: bytes) -> None:
    assert parse_ip(packet) is None


@pytest.mark.parametrize(
    ('packet', 'reason'),
    [
        (b'', 'neither'),
        (b'\x50', 'neither'),
        (b'\x45' + bytes(10), 'IPv4 header cut short'),
        (b'\x60' + bytes(10), 'IPv6 header cut short'),
        (ipv4(tcp(), fragment=0x2000), 'IPv4 fragments'),
        (ipv4(tcp(), fragment=5), 'IPv4 fragments'),
        (ipv4(tcp(), total=41), 'IPv4 packet cut short'),
        (ipv4(tcp(), total=19), 'IPv4 packet cut short'),
        (ipv6(tcp(), length=21), 'IPv6 packet cut short'),
        (ipv6(b'\x06\0' + bytes(6) + tcp(), next_header=44), 'IPv6 fragments'),
        (
            ipv6(b'\x3c\0' + bytes(6) + b'\x06\0' + bytes(6) + tcp(), next_header=44),
            'IPv6 fragments',
        ),
        (ipv6(b'\x06', next_header=0), 'extension header cut short'),
        (ipv6(b'\x00\x00' * 100, next_header=0), 'too many'),
        (ipv4(tcp()[:19]), 'TCP header cut short'),
        (ipv4(tcp(offset=4)), 'data offset'),
        (ipv4(tcp(offset=6)), 'data offset'),
    ],
)
def test_malformed_packet_is_refused(packet: bytes, reason: str) -> None:
    with pytest.raises(MalformedSegmentError, match=reason):
        parse_ip(packet)


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (b'\x01\x01\x01\x1d', 'breaks off'),
        (b'\x02\x01\0\0', 'breaks off'),
        (b'\x02\x05\0\0', 'breaks off'),
        (b'\x1d\x03\0\0', 'TCP-AO of 3'),
        (AO + AO, 'twice'),
        (AO + b'\x13\x12' + bytes(16) + b'\1\1', 'MD5'),
    ],
)
def test_malformed_options_are_refused(options: bytes, reason: str) -> None:
    segment = parsed(ipv4(tcp(options)))
    with pytest.raises(MalformedSegmentError, match=reason):
        segment.ao_option()


def take_apart(octets: bytes) -> None:
    """Raises what isn't a MalformedSegmentError."""
    with suppress(MalformedSegmentError):
        segment = parse_ip(octets)
        if segment is not None:
            segment.ao_option()


@given(st.binary(max_size=120))
def test_any_packet_is_parsed_or_refused(octets: bytes) -> None:
    take_apart(octets)


@given(st.binary(max_size=40), st.binary(max_size=8), st.integers(0, 15))
def test_any_options_are_parsed_or_refused(options: bytes, rest: bytes, words: int) -> None:
    take_apart(ipv4(tcp(options, rest, offset=words)))

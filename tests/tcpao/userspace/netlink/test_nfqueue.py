"""The netlink messages of a queue: layouts of the kernel's headers, and anything else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpao.userspace.netlink.nfqueue import (
    Attribute,
    ConfigAttribute,
    acknowledgment,
    configuration,
    parse,
    verdict,
)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack('=HH', 4 + len(value), kind) + value + bytes(-len(value) % 4)


def packet_message(*attributes: bytes, kind: int = 0x0300) -> bytes:
    body = struct.pack('!BBH', 2, 0, 20000) + b''.join(attributes)
    return struct.pack('=IHHII', 16 + len(body), kind, 0, 0, 0) + body


HEADER = attribute(Attribute.PACKET_HEADER, struct.pack('!IHB', 77, 0x0800, 3))


def test_packet_is_taken_out_of_its_message() -> None:
    octets = packet_message(
        HEADER, attribute(6, bytes(4)), attribute(Attribute.PAYLOAD, b'E packet')
    )
    (queued,) = parse(octets)
    assert (queued.identity, queued.hook, queued.packet, queued.partial) == (
        77,
        3,
        b'E packet',
        False,
    )


def test_parser_accepts_the_last_attribute_without_padding() -> None:
    octets = packet_message(HEADER) + struct.pack('=HH', 4 + 5, Attribute.PAYLOAD) + b'octet'
    octets = struct.pack('=I', len(octets)) + octets[4:]
    assert parse(octets)[0].packet == b'octet'


def test_parser_reads_several_messages_in_one_read() -> None:
    octets = packet_message(HEADER, attribute(Attribute.PAYLOAD, b'one'))
    assert [queued.packet for queued in parse(octets + octets)] == [b'one', b'one']


@pytest.mark.parametrize(('info', 'partial'), [(0, False), (1, True), (3, True), (4, False)])
def test_offloaded_checksum_is_told(info: int, partial: bool) -> None:
    flags = attribute(Attribute.SKB_INFO, struct.pack('!I', info))
    assert parse(packet_message(HEADER, flags))[0].partial is partial


def test_other_messages_are_passed_over() -> None:
    octets = packet_message(HEADER, attribute(Attribute.PAYLOAD, b'one'))
    assert len(parse(packet_message(HEADER, kind=2) + octets)) == 1
    assert parse(packet_message(attribute(Attribute.PAYLOAD, b'without a header'))) == []


@given(st.binary(max_size=200))
def test_any_octets_are_parsed_or_passed_over(octets: bytes) -> None:
    parse(octets)
    acknowledgment(octets)


@given(st.binary(max_size=200))
def test_any_attributes_are_parsed_or_passed_over(octets: bytes) -> None:
    parse(packet_message(octets))


def test_verdict_is_encoded_without_a_packet() -> None:
    for packet, decision in ((None, 0), (b'as it came', 1)):
        octets = verdict(20000, 77, packet, changed=False)
        assert octets == struct.pack('=IHHII', 32, 0x0301, 1, 0, 0) + struct.pack(
            '!BBH', 0, 0, 20000
        ) + struct.pack('=HH', 12, Attribute.VERDICT_HEADER) + struct.pack('!II', decision, 77)


@given(st.binary(min_size=1, max_size=200))
def test_verdict_is_encoded_with_another_packet(packet: bytes) -> None:
    octets = verdict(20000, 77, packet, changed=True)
    assert len(octets) % 4 == 0, 'the next one begins on a boundary'
    assert struct.unpack_from('=I', octets)[0] == len(octets)
    length, kind = struct.unpack_from('=HH', octets, 32)
    assert kind == Attribute.PAYLOAD
    assert octets[36 : 32 + length] == packet
    assert struct.unpack_from('!II', octets, 24) == (1, 77)


def test_largest_packet_has_a_verdict() -> None:
    verdict(20000, 77, bytes(65531), changed=True)
    with pytest.raises(struct.error):
        verdict(20000, 77, bytes(65532), changed=True)


def test_configuration_asks_for_its_acknowledgment() -> None:
    octets = configuration(7, 3, (ConfigAttribute.PARAMETERS, b'\0\0\xff\xff\x02'))
    length, kind, flags, sequence, _ = struct.unpack_from('=IHHII', octets)
    assert (length, kind, flags, sequence) == (len(octets), 0x0302, 5, 3)
    assert octets[20:] == struct.pack('=HH', 9, 2) + b'\0\0\xff\xff\x02' + bytes(3)


def test_acknowledgments_are_told_from_errors() -> None:
    def answer(number: int) -> bytes:
        return struct.pack('=IHHII', 36, 2, 0, 9, 0) + struct.pack('=i', number) + bytes(16)

    assert acknowledgment(answer(0)) == (9, 0)
    assert acknowledgment(answer(-16)) == (9, 16)
    assert acknowledgment(packet_message(HEADER)) is None

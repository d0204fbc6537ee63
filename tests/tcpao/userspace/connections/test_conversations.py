"""RFC 9235's and the draft's packets as conversations through two cores: SYN, SYN-ACK, data both
ways. What is sent must be the published packet, octet by octet; what is received must pass.

RFC 9235's IPv4 packets carry wrong TCP checksums (errata), so those are compared as they ought to
be.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network

import pytest

from keymaterial import Secret
from tcpao.mkt import SocketPair
from tcpao.userspace.connections.keyring import StoredKey
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.wire.options import LARGEST_MSS, find_ao, mss_of
from tcpao.userspace.wire.packet import full_checksum, locate, with_full_checksum, with_options
from tests.tcpao.userspace.packets import (
    TRUSTING,
    connection_name,
    has_good_checksums,
    listener_name,
    no_mtu,
    segment_of,
)
from tests.tcpao.verification.test_vectors import DRAFT_ALGS, RFC_9235, Vector, octets, suite


def conversations() -> list[tuple[str, list[Vector]]]:
    found: dict[str, list[Vector]] = {}
    for source, vectors in (('rfc9235', RFC_9235), ('draft07', DRAFT_ALGS)):
        for vector in vectors:
            name = f'{source}-{vector["section"].rpartition(".")[0]}'
            found.setdefault(name, []).append(vector)
    return list(found.items())


@pytest.fixture(params=[pytest.param(four, id=name) for name, four in conversations()])
def conversation(request: pytest.FixtureRequest) -> list[Vector]:
    four: list[Vector] = request.param
    return four


def published(vector: Vector) -> bytes:
    """The packet with the right checksum."""
    packet = octets(vector, 'packet_hex')
    place = locate(packet)
    assert place is not None
    return with_full_checksum(packet, place[0])


def unsigned(packet: bytes) -> bytes:
    """Return the segment as TCP would have made it."""
    place = locate(packet)
    assert place is not None
    start, data = place
    options = packet[start + 20 : data]
    at = find_ao(options)
    assert at + options[at + 1] == len(options), 'the vectors have it last, as we do'
    return with_options(packet, start, data, options[:at])


def cores(vectors: list[Vector]) -> tuple[PacketPath, PacketPath]:
    """The client's and the server's, each with the key."""
    syn = vectors[0]
    segment = segment_of(octets(syn, 'packet_hex'))
    option = segment.ao_option()
    assert option is not None
    pair = SocketPair(
        ip_address(octets(syn, 'src_addr')) if 'src_addr' in syn else segment.source,
        segment.source_port,
        segment.destination,
        segment.destination_port,
    )

    def key(pair: SocketPair, send_id: int, recv_id: int) -> StoredKey:
        return StoredKey(
            peer=ip_network(pair.remote),
            pair=None,
            send_id=send_id,
            recv_id=recv_id,
            algorithm=suite(syn),
            tcp_options=syn['options_covered'],
            master_key=Secret(octets(syn, 'master_key_hex')),
        )

    client, server = PacketPath(no_mtu, TRUSTING), PacketPath(no_mtu, TRUSTING)
    ids = option.key_id, option.rnext_key_id
    client.add(connection_name(pair, 1), key(pair, *ids), select=True, fresh=True)
    back = pair.reversed()
    server.add(listener_name(back.local, 2), key(back, *ids[::-1]), select=False, fresh=False)
    return client, server


def test_each_conversation_has_four_packets(conversation: list[Vector]) -> None:
    assert len(conversation) == 4


def test_sent_packet_is_the_published_one(conversation: list[Vector]) -> None:
    client, server = cores(conversation)
    for number, vector in enumerate(conversation):
        sender, receiver = (client, server) if number % 2 == 0 else (server, client)
        sent = sender.outgoing(unsigned(published(vector)))
        assert sent == published(vector)
        assert receiver.incoming(sent) is not None


def test_received_packet_reaches_tcp_without_the_option(conversation: list[Vector]) -> None:
    client, server = cores(conversation)
    for number, vector in enumerate(conversation):
        sender, receiver = (client, server) if number % 2 == 0 else (server, client)
        passed = receiver.incoming(published(vector))
        assert passed is not None
        assert has_good_checksums(passed)
        seen, plain = segment_of(passed), segment_of(unsigned(published(vector)))
        assert seen.ao_option() is None
        assert seen.payload == plain.payload
        if number < 2:
            announced = mss_of(plain.header[20:]) or 0
            largest = LARGEST_MSS[published(vector)[0] >> 4]
            assert mss_of(seen.header[20:]) == min(announced, largest) - 20
        else:
            assert passed == unsigned(published(vector))
        sender.outgoing(unsigned(published(vector)))


def test_published_checksum_stays_as_wrong_as_it_was(conversation: list[Vector]) -> None:
    vector = conversation[0]
    packet = octets(vector, 'packet_hex')
    place = locate(packet)
    assert place is not None
    was_right = (
        struct.pack('!H', full_checksum(packet, place[0])) == packet[place[0] + 16 : place[0] + 18]
    )
    passed = cores(conversation)[1].incoming(packet)
    assert passed is not None, 'the MAC does not cover the checksum'
    assert has_good_checksums(passed) is was_right


@pytest.mark.parametrize('at', [4, 12, 13, 14, -1])
def test_packet_is_refused_when_an_octet_is_changed(conversation: list[Vector], at: int) -> None:
    _, server = cores(conversation)
    packet = bytearray(published(conversation[0]))
    start = 20 if packet[0] >> 4 == 4 else 40
    packet[start + at if at >= 0 else at] ^= 0x01
    assert server.incoming(bytes(packet)) is None


def test_packet_is_refused_when_a_covered_option_is_changed(conversation: list[Vector]) -> None:
    _, server = cores(conversation)
    packet = bytearray(published(conversation[0]))
    # The MSS.
    packet[(20 if packet[0] >> 4 == 4 else 40) + 23] ^= 0x01
    passed = server.incoming(bytes(packet)) is not None
    assert passed is not conversation[0]['options_covered']

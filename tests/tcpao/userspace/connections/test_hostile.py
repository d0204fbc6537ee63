"""Whatever arrives or is sent: the core doesn't raise, and nothing unsigned reaches TCP."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tcpao.userspace.packets import (
    ACK,
    DATA_OPTIONS,
    PSH,
    SPACE,
    a_pair,
    connected,
    ends,
    packet,
    talk,
)

BINARY = st.binary(max_size=160)
FLAGS = st.integers(0, 255)
NUMBER = st.integers(0, SPACE - 1)
OPTIONS = st.binary(max_size=10).map(lambda octets: octets * 4)


@given(BINARY)
def test_table_survives_any_octets_in_and_out(octets: bytes) -> None:
    client, server = connected()
    for core in (client.core, server.core):
        core.incoming(octets)
        core.outgoing(octets)
    talk(client, server)


@settings(max_examples=300)
@given(st.sampled_from([4, 6]), NUMBER, NUMBER, FLAGS, OPTIONS, st.binary(max_size=20))
def test_unsigned_packet_reaches_no_connection(
    version: int, sequence: int, acknowledgment: int, flags: int, options: bytes, payload: bytes
) -> None:
    client, server = connected(version)
    forged = packet(client.pair, sequence, acknowledgment, flags, options, payload)
    assert server.core.incoming(forged) is None
    talk(client, server)
    talk(server, client)


@settings(max_examples=300)
@given(st.sampled_from([4, 6]), NUMBER, NUMBER, FLAGS, OPTIONS, st.binary(max_size=20))
def test_unsigned_packet_reaches_no_listener(
    version: int, sequence: int, acknowledgment: int, flags: int, options: bytes, payload: bytes
) -> None:
    client, server = ends(version)
    forged = packet(client.pair, sequence, acknowledgment, flags, options, payload)
    assert server.core.incoming(forged) is None
    assert list(server.core.connections()) == []


@given(st.sampled_from([4, 6]), st.data())
def test_changed_bit_is_refused_or_was_not_covered(version: int, data: st.DataObject) -> None:
    client, server = connected(version)
    sent = client.make(PSH | ACK, DATA_OPTIONS, b'route')
    assert sent is not None
    at = data.draw(st.integers(0, len(sent) * 8 - 1))
    changed = bytearray(sent)
    changed[at // 8] ^= 0x80 >> at % 8
    passed = server.core.incoming(bytes(changed))
    start = 20 if version == 4 else 40
    if passed is None:
        return
    # Another port is another connection, which isn't protected.
    outside = at // 8 < start + 4 or at // 8 in (start + 16, start + 17)
    assert outside, 'of TCP only the checksum is not covered'


@given(st.sampled_from([4, 6]), NUMBER, NUMBER, FLAGS, OPTIONS, st.binary(max_size=20))
def test_packet_is_signed_when_it_leaves_a_connection(
    version: int, sequence: int, acknowledgment: int, flags: int, options: bytes, payload: bytes
) -> None:
    client, _ = connected(version)
    made = packet(client.pair, sequence, acknowledgment, flags, options, payload)
    sent = client.core.outgoing(made)
    assert sent is None or (sent != made and bytes((29, 16, 1, 2)) in sent)


@given(st.integers(0, 65535), BINARY)
def test_other_traffic_is_passed_as_it_came(port: int, payload: bytes) -> None:
    client, server = connected()
    if port in (0, 40001):
        port = 40002
    pair = a_pair(port=port)
    made = packet(pair, 1, 2, ACK, DATA_OPTIONS, payload)
    assert client.core.outgoing(made) == made
    assert server.core.incoming(made) == made

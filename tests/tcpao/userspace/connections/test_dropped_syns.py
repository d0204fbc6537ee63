"""Reports of connections that are kept out: SYNs and their answers, once a minute each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tcpao.refusal import DroppedSyn, Reason
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.protocol.refusals import (
    AGAIN_AFTER,
    CONFIRMED_AFTER,
    MOST,
    Refusals,
    decode,
    encode,
    read,
)
from tests.tcpao.userspace.packets import (
    ACK,
    SYN,
    SYN_OPTIONS,
    TRUSTING,
    End,
    a_pair,
    connection_name,
    ends,
    no_mtu,
    packet,
    stored,
)

MD5 = b'\x13\x12' + bytes(16) + b'\x01\x01'


class Wire:
    """A core's drops, as the process tells them, and the daemon reads them."""

    def __init__(self) -> None:
        self._reading, writing = os.pipe2(os.O_NONBLOCK)
        self.writing = writing
        self.refusals = Refusals(writing)
        self.now = 100.0

    def arrive(self, core: PacketPath, octets: bytes | None, *times: float) -> None:
        """A host without an answer sends it again, after 1 s and 3 s if the test says nothing."""
        assert octets is not None
        for seconds in times or (0.0, 1.0, 3.0):
            assert core.incoming(octets) is None
            self.refusals.dropped(octets, core.tally, self.now + seconds)

    def read(self) -> list[DroppedSyn]:
        return read(self._reading)

    def close(self) -> None:
        os.close(self._reading)
        os.close(self.writing)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def unsigned(client: End, server: End) -> bytes:
    return packet(client.pair, 7, flags=SYN, options=SYN_OPTIONS)


def with_md5(client: End, server: End) -> bytes:
    return packet(client.pair, 7, flags=SYN, options=MD5)


def signed_as(ids: tuple[int, int], secret: bytes) -> Callable[[End, End], bytes]:
    def make(client: End, server: End) -> bytes:
        core = PacketPath(no_mtu, TRUSTING)
        key = stored(client.pair, ids, secret=secret)
        core.add(connection_name(client.pair, 9), key, select=True, fresh=True)
        signed = End(core, client.pair, 7).make(SYN, SYN_OPTIONS)
        assert signed is not None
        return signed

    return make


@pytest.mark.parametrize('version', [4, 6])
@pytest.mark.parametrize(
    ('make', 'reason', 'key_id'),
    [
        (unsigned, Reason.UNSIGNED, None),
        (with_md5, Reason.UNSIGNED, None),
        (signed_as((9, 9), b'k' * 32), Reason.UNKNOWN_KEY, 9),
        (signed_as((1, 2), b'another one'), Reason.BAD_MAC, 1),
    ],
    ids=['unsigned', 'TCP MD5', 'unknown KeyID', 'another key'],
)
def test_dropped_syn_is_told_with_the_reason(
    wire: Wire, make: Callable[[End, End], bytes], reason: Reason, key_id: int | None, version: int
) -> None:
    client, server = ends(version)
    wire.arrive(server.core, make(client, server))
    assert wire.read() == [DroppedSyn(reason, server.pair, key_id, is_answer=False)]


def test_answer_without_tcp_ao_is_told_to_the_active_end(wire: Wire) -> None:
    """A peer that knows nothing of TCP-AO ignores the option."""
    client, _ = ends()
    assert client.make(SYN, SYN_OPTIONS)
    answer = packet(client.pair.reversed(), 7, client.isn + 1, SYN | ACK, SYN_OPTIONS)
    wire.arrive(client.core, answer)
    assert wire.read() == [DroppedSyn(Reason.UNSIGNED, client.pair, None, is_answer=True)]


def test_same_drop_is_told_once_a_minute(wire: Wire) -> None:
    client, server = ends()
    for seconds in range(int(2 * AGAIN_AFTER)):
        wire.arrive(server.core, unsigned(client, server), float(seconds))
    assert len(wire.read()) == 2


def test_early_syn_is_not_told(wire: Wire) -> None:
    """While one of the two daemons starts."""
    client, server = ends()
    wire.arrive(server.core, unsigned(client, server), 0.0, CONFIRMED_AFTER - 0.1)
    wire.arrive(server.core, unsigned(client, server), AGAIN_AFTER + 1.0, AGAIN_AFTER + 2.0)
    assert wire.read() == []
    wire.arrive(server.core, unsigned(client, server), AGAIN_AFTER + 4.0)
    assert len(wire.read()) == 1


def test_segments_of_connections_are_not_told(wire: Wire) -> None:
    client, server = ends()
    wire.arrive(server.core, packet(client.pair, 7, 8, ACK, payload=b'route'))
    assert wire.read() == []


def test_drop_is_not_told_when_it_has_another_reason(wire: Wire) -> None:
    client, server = ends()
    wire.arrive(server.core, unsigned(client, server)[:-3])
    assert wire.read() == []


def test_memory_is_bounded_when_addresses_flood(wire: Wire) -> None:
    client, server = ends()
    octets = unsigned(client, server)
    pair = client.pair
    for number in range(2 * MOST):
        other = octets[:12] + (0x0A000000 + number).to_bytes(4, 'big') + octets[16:]
        for seconds in (0.0, 3.0):
            server.core.tally.unsigned += 1
            wire.refusals.dropped(other, server.core.tally, wire.now + seconds)
    told = wire.read()
    assert len(told) == MOST
    assert all(one.pair.local == pair.remote for one in told)


def test_processing_goes_on_when_the_pipe_is_full() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    while True:
        try:
            os.write(writing, bytes(4096))
        except BlockingIOError:
            break
    client, server = ends()
    server.core.incoming(unsigned(client, server))
    Refusals(writing).dropped(unsigned(client, server), server.core.tally, 0.0)
    os.close(reading)
    os.close(writing)


def test_drop_is_not_told_when_there_is_no_pipe() -> None:
    client, server = ends()
    server.core.incoming(unsigned(client, server))
    Refusals(None).dropped(unsigned(client, server), server.core.tally, 0.0)


def test_line_comes_back_as_it_was(wire: Wire) -> None:
    for version in (4, 6):
        refusal = DroppedSyn(Reason.BAD_MAC, a_pair(version), 255, is_answer=True)
        assert decode(encode(refusal)) == refusal
    assert wire.read() == []

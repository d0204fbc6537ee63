"""scapy's TCP-AO, an independent implementation, on packets that hypothesis makes up."""

from __future__ import annotations

import pytest
import scapy.contrib.tcpao as oracle
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from tests.tcpao.userspace.packets import (
    ACK,
    SPACE,
    SYN,
    SYN_OPTIONS,
    TIMESTAMPS,
    ends,
    segment_of,
)

ORACLES = {'hmac-sha-1-96': 'HMAC-SHA-1-96', 'aes-128-cmac-96': 'AES-128-CMAC-96'}


@pytest.mark.parametrize('algorithm', sorted(ORACLES))
@pytest.mark.parametrize('version', [4, 6])
@given(
    isns=st.tuples(st.integers(0, SPACE - 1), st.integers(0, SPACE - 1)),
    payloads=st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    tcp_options=st.booleans(),
    options=st.sampled_from(
        [b'', b'\x01\x01' + TIMESTAMPS, b'\x01\x01' + TIMESTAMPS + b'\x01' * 28]
    ),
)
def test_conversation_agrees_with_scapy(
    version: int,
    algorithm: str,
    isns: tuple[int, int],
    payloads: list[bytes],
    tcp_options: bool,
    options: bytes,
) -> None:
    client, server = ends(version, isns=isns, algorithm=algorithm, tcp_options=tcp_options)
    wire = [(client.make(SYN, SYN_OPTIONS), isns[0], 0)]
    server.take(wire[0][0])
    wire.append((server.make(SYN | ACK, SYN_OPTIONS), isns[1], isns[0]))
    client.take(wire[1][0])
    for payload in payloads:
        wire.append((client.make(ACK, options, payload), isns[0], isns[1]))
        server.take(wire[-1][0])
        wire.append((server.make(ACK, options, payload), isns[1], isns[0]))
        client.take(wire[-1][0])
    oracle_algorithm = oracle.get_alg(ORACLES[algorithm])
    for octets, source_isn, destination_isn in wire:
        assert octets is not None
        segment = segment_of(octets)
        option = segment.ao_option()
        assert option is not None
        parsed = IP(octets) if version == 4 else IPv6(octets)
        key = oracle.calc_tcpao_traffic_key(
            parsed, oracle_algorithm, b'k' * 32, source_isn, destination_isn
        )
        sne = int(segment.sequence < source_isn)
        mac = oracle.calc_tcpao_mac(
            parsed, oracle_algorithm, key, include_options=tcp_options, sne=sne
        )
        assert option.mac == mac
    assert len(client.seen) + len(server.seen) == len(wire), 'and each was accepted'

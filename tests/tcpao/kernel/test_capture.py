"""Segments of the kernel, verified with our own code and with scapy's.

Captured on loopback in a namespace of its own, by a packet socket: handshake, data both ways, a
rotation, the wrap of the sequence space, the signed RST of an abort.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dpkt
import pytest
import scapy.contrib.tcpao as oracle
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from tcpao.installer import Abort, Install, Remove, SetRNext, Where
from tcpao.mkt import ALGORITHMS, Mkt
from tcpao.verification.known_keys import parse_known_keys
from tcpao.verification.report import Report, verify_capture
from tcpao.verification.segment import Flag
from tcpao.verification.verify import Outcome
from tests.tcpao.benches import KernelBench
from tests.tcpao.test_installer_conformance import (
    do,
    listening,
    mkts,
    opened,
    pair_of,
    state,
    talk,
)

ETH_P_ALL = 3
PACKET_OUTGOING = 4
TCP_REPAIR = 19
TCP_REPAIR_QUEUE = 20
TCP_QUEUE_SEQ = 21
TCP_SEND_QUEUE = 2
SPACE = 1 << 32

SCAPY = {'hmac-sha-1-96': 'HMAC-SHA-1-96', 'aes-128-cmac-96': 'AES-128-CMAC-96'}


@contextmanager
def captured(path: Path) -> Iterator[None]:
    """Everything on loopback while it lasts, as a pcap file."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
        wire.bind(('lo', ETH_P_ALL))
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        yield
        wire.setblocking(False)
        with path.open('wb') as file:
            writer = dpkt.pcap.Writer(file)
            while True:
                try:
                    frame, address = wire.recvfrom(1 << 17)
                except BlockingIOError:
                    break
                # Loopback shows each frame twice: leaving and arriving.
                if address[2] == PACKET_OUTGOING:
                    writer.writepkt(frame, ts=time.time())


def start_at(sock: socket.socket, isn: int) -> None:
    """Choose the ISN of a closed socket."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, isn - SPACE)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, -1)


def verified(path: Path, *keys: Mkt) -> Report:
    entries = [
        {'algorithm': key.algorithm.name, 'master_key': key.master_key.reveal().hex()}
        for key in keys
    ]
    return verify_capture(path, parse_known_keys(json.dumps(entries).encode()))


def scapy_agrees(report: Report) -> None:
    for verdict in report.verdicts():
        assert verdict.outcome is Outcome.GOOD
        assert verdict.key is not None
        assert verdict.option is not None
        suite = oracle.get_alg(SCAPY[verdict.key.algorithm.name])
        version = verdict.segment.source.version
        packet = IP(verdict.octets) if version == 4 else IPv6(verdict.octets)
        traffic_key = oracle.calc_tcpao_traffic_key(
            packet,
            suite,
            verdict.key.master_key.reveal(),
            verdict.source_isn,
            verdict.destination_isn,
        )
        assert verdict.option.mac == oracle.calc_tcpao_mac(
            packet, suite, traffic_key, include_options=verdict.tcp_options, sne=verdict.sne
        )


@pytest.fixture(params=[4, 6], ids=['ipv4', 'ipv6'])
def kernel(request: pytest.FixtureRequest, kernel_namespace: None) -> Iterator[KernelBench]:
    bench = KernelBench(request.param)
    yield bench
    bench.close()


@pytest.mark.kernel
@pytest.mark.parametrize('tcp_options', [True, False])
@pytest.mark.parametrize(
    'algorithm', [name for name, suite in ALGORITHMS.items() if suite.linux_name]
)
def test_segment_verifies_when_the_kernel_signed_it(
    kernel: KernelBench, tmp_path: Path, algorithm: str, tcp_options: bool
) -> None:
    client, server = mkts(pair_of(kernel), (1, 2), b'k' * 40, algorithm, tcp_options)
    path = tmp_path / 'wire.pcap'
    with captured(path):
        near, far = opened(kernel, listening(kernel), client, server)
        talk(near, far)
        do(kernel.server, Abort(server.pair, 'the end'))
        assert near.was_reset()
    report = verified(path, client)
    assert (report.bad, report.unsigned, report.unverifiable) == (0, 0, 0), report.to_text()
    assert report.good >= 7
    assert any(Flag.RST in verdict.segment.flags for verdict in report.verdicts())
    (connection,) = report.to_json()['connections']
    assert connection['client'].endswith(':40001')
    assert [(k['send_id'], k['recv_id'], k['tcp_options']) for k in connection['keys']] == [
        (1, 2, tcp_options)
    ]
    if algorithm in SCAPY:
        scapy_agrees(report)


@pytest.mark.kernel
def test_rotation_verifies_when_the_sequence_wraps(kernel: KernelBench, tmp_path: Path) -> None:
    pair = pair_of(kernel)
    client, server = mkts(pair)
    new_client, new_server = mkts(pair, (5, 6), b'successor', 'aes-128-cmac-96')
    path = tmp_path / 'wire.pcap'
    with captured(path):
        listener = listening(kernel)
        do(kernel.server, Install(server, Where.LISTENER))
        near = kernel.bind(pair)
        start_at(near.handle, SPACE - 2000)
        kernel.client.add_connection(pair, near.handle)
        do(kernel.client, Install(client, Where.CONNECTION))
        assert near.connect()
        far = listener.accept()
        kernel.server.add_connection(server.pair, far.handle)
        do(kernel.server, Install(new_server, Where.CONNECTION), SetRNext(new_server))
        do(kernel.client, Install(new_client, Where.CONNECTION), SetRNext(new_client))
        for _ in range(4):
            talk(near, far, b'x' * 700)
        assert state(kernel.client, pair).current == 5
        do(kernel.client, Remove(client, Where.CONNECTION))
        talk(near, far, b'y' * 700)
    report = verified(path, client, new_client)
    assert (report.bad, report.unsigned, report.unverifiable) == (0, 0, 0), report.to_text()
    (connection,) = report.to_json()['connections']
    assert connection['sne_wraps'] == {'client': 1, 'server': 0}
    changes = {(change['from'], change['to']) for change in connection['key_changes']}
    assert changes == {(1, 5), (2, 6)}
    scapy_agrees(report)


@pytest.mark.kernel
def test_dropped_syn_is_seen_as_unsigned_in_the_capture(
    kernel: KernelBench, tmp_path: Path
) -> None:
    client, server = mkts(pair_of(kernel))
    path = tmp_path / 'wire.pcap'
    with captured(path):
        near, far = opened(kernel, listening(kernel), client, server)
        impostor = kernel.bind(pair_of(kernel, 40002))
        assert not impostor.connect()
        talk(near, far)
    report = verified(path, client)
    assert (report.bad, report.unverifiable) == (0, 0)
    assert report.unsigned >= 1
    assert report.passed()
    assert not report.passed(require_all=True)

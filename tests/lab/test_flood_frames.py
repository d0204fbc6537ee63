"""Faults of a forged segment: its MAC, or that there is none; nothing else."""

from __future__ import annotations

from ipaddress import ip_address
from random import Random

import dpkt
import pytest

from lab.flood.frames import Kind, forge

US, THEM = ip_address('10.0.0.1'), ip_address('10.0.0.2')
AO = 29
IDS = bytes((7, 9))
SIGNED = bytes((AO, 16)) + IDS + bytes(12)


def seen(options: bytes = SIGNED) -> bytes:
    """A frame of the connection that is flooded."""
    segment = dpkt.tcp.TCP(sport=40001, dport=179, seq=2**32 - 5, ack=1, flags=dpkt.tcp.TH_ACK)
    segment.opts = options
    segment.off = 5 + len(options) // 4
    packet = dpkt.ip.IP(src=US.packed, dst=THEM.packed, p=dpkt.ip.IP_PROTO_TCP, data=segment)
    return bytes(dpkt.ethernet.Ethernet(src=b'\2' * 6, dst=b'\4' * 6, data=packet))


def forged(kind: Kind) -> dpkt.tcp.TCP:
    """The segment of one frame, whose checksums are right."""
    (frame,) = forge(seen(), kind, 1, Random(1))
    packet = dpkt.ethernet.Ethernet(frame).data
    sums = packet.sum, packet.data.sum
    packet.sum = packet.data.sum = 0
    again = dpkt.ip.IP(bytes(packet))
    assert (again.sum, again.data.sum) == sums
    assert (packet.src, packet.dst) == (US.packed, THEM.packed)
    return again.data


def option(segment: dpkt.tcp.TCP) -> bytes | None:
    return next((value for kind, value in dpkt.tcp.parse_opts(segment.opts) if kind == AO), None)


@pytest.mark.parametrize('kind', Kind)
def test_option_is_there_when_the_kind_is_signed(kind: Kind) -> None:
    found = option(forged(kind))
    if kind in (Kind.UNSIGNED, Kind.UNSIGNED_SYN):
        assert found is None
    else:
        assert found is not None
        assert found[:2] == IDS


@pytest.mark.parametrize('kind', [Kind.SIGNED, Kind.UNSIGNED])
def test_ports_are_the_connections_when_it_is_live(kind: Kind) -> None:
    segment = forged(kind)
    assert (segment.sport, segment.dport) == (40001, 179)


@pytest.mark.parametrize('kind', [Kind.STRAY, Kind.SIGNED_SYN, Kind.UNSIGNED_SYN])
def test_service_port_is_hit_when_it_is_not_live(kind: Kind) -> None:
    assert forged(kind).dport == 179


@pytest.mark.parametrize('frame', [seen(b''), b'\0' * 60])
def test_frames_without_tcp_ao_are_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r'no segment|without TCP-AO'):
        forge(frame, Kind.SIGNED, 1, Random(0))

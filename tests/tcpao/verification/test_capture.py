"""Reading captures: every format and link type that we say we read, and damaged files."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import dpkt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tcpao.verification.capture import CaptureError, CutOffError, LinkType, read_packets
from tests.tcpao.wire import Talk, write_pcap

V4 = Talk().open().packets[0]
MAC = bytes(12)


def block(kind: int, body: bytes, order: str = '<') -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(f'{order}I', len(body) + 12)
    return struct.pack(f'{order}I', kind) + length + body + length


def section(order: str = '<') -> bytes:
    return block(0x0A0D0D0A, struct.pack(f'{order}IHHq', 0x1A2B3C4D, 1, 0, -1), order)


def interface(link: LinkType, order: str = '<', options: bytes = b'') -> bytes:
    return block(1, struct.pack(f'{order}HHI', link, 0, 0) + options, order)


def packet(octets: bytes, order: str = '<', number: int = 0, time: int = 5_000_000) -> bytes:
    head = struct.pack(f'{order}IIIII', number, time >> 32, time & 0xFFFFFFFF, *[len(octets)] * 2)
    return block(6, head + octets + bytes(-len(octets) % 4), order)


def written(tmp_path: Path, octets: bytes) -> Path:
    path = tmp_path / 'capture'
    path.write_bytes(octets)
    return path


@pytest.mark.parametrize(
    ('link', 'frame'),
    [
        (LinkType.ETHERNET, MAC + b'\x08\x00' + V4),
        (LinkType.ETHERNET, MAC + b'\x88\xa8\0\x01\x81\x00\0\x02\x08\x00' + V4),
        (LinkType.LINUX_SLL, bytes(14) + b'\x08\x00' + V4),
        (LinkType.LINUX_SLL2, b'\x08\x00' + bytes(18) + V4),
        (LinkType.RAW, V4),
        (LinkType.RAW_BSD, V4),
        (LinkType.RAW_OPENBSD, V4),
        (LinkType.IPV4, V4),
    ],
)
def test_every_link_type_is_read(tmp_path: Path, link: LinkType, frame: bytes) -> None:
    ((number, time, octets),) = read_packets(write_pcap(tmp_path / 'c', [frame], link))
    assert (number, time, octets) == (1, 1000.0, V4)


@pytest.mark.parametrize(
    ('link', 'frame'),
    [
        (LinkType.ETHERNET, MAC + b'\x08\x06' + bytes(28)),
        (LinkType.ETHERNET, b'short'),
        (LinkType.ETHERNET, MAC + b'\x81\x00\0\x01' * 400),
        (LinkType.LINUX_SLL, b''),
        (LinkType.LINUX_SLL2, b'\x08\x06' + bytes(30)),
        (LinkType.RAW, b''),
    ],
)
def test_frames_other_than_ip_are_passed_over(tmp_path: Path, link: LinkType, frame: bytes) -> None:
    path = write_pcap(tmp_path / 'c', [frame, MAC + b'\x08\x00' + V4], link)
    assert [p.number for p in read_packets(path) if p.octets == V4] in ([], [2])
    assert all(p.number == 2 for p in read_packets(path))


@pytest.mark.parametrize('order', '<>')
def test_pcap_is_read_in_both_byte_orders_and_resolutions(tmp_path: Path, order: str) -> None:
    for magic, fraction in ((0xA1B2C3D4, 500_000), (0xA1B23C4D, 500_000_000)):
        head = struct.pack(f'{order}IHHiIII', magic, 2, 4, 0, 0, 65535, LinkType.RAW)
        record = struct.pack(f'{order}IIII', 7, fraction, len(V4), len(V4)) + V4
        ((_, time, octets),) = read_packets(written(tmp_path, head + record))
        assert (time, octets) == (7.5, V4)


@pytest.mark.parametrize('order', '<>')
def test_pcapng_is_read_in_both_byte_orders(tmp_path: Path, order: str) -> None:
    path = written(tmp_path, section(order) + interface(LinkType.RAW, order) + packet(V4, order))
    ((number, time, octets),) = read_packets(path)
    assert (number, octets) == (1, V4)
    assert time == pytest.approx(5.0)


def test_pcapng_written_by_dpkt_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'c'
    with path.open('wb') as file:
        dpkt.pcapng.Writer(file).writepkt(MAC + b'\x08\x00' + V4, ts=1000.25)
    ((_, time, octets),) = read_packets(path)
    assert octets == V4
    assert time == pytest.approx(1000.25)


def test_pcapng_interfaces_have_their_own_link_type_and_clock(tmp_path: Path) -> None:
    nanoseconds = struct.pack('<HHB3x', 9, 1, 9) + struct.pack('<HHq', 14, 8, 100) + bytes(4)
    path = written(
        tmp_path,
        section()
        + interface(LinkType.RAW)
        + interface(LinkType.ETHERNET, options=nanoseconds)
        + packet(MAC + b'\x08\x00' + V4, number=1, time=2_500_000_000)
        + block(5, bytes(12))
        + packet(V4, number=0)
        + section()
        + interface(LinkType.LINUX_SLL)
        + packet(bytes(14) + b'\x08\x00' + V4),
    )
    packets = list(read_packets(path))
    assert [p.octets for p in packets] == [V4] * 3
    assert [p.time for p in packets] == pytest.approx([102.5, 5.0, 5.0])


def test_empty_capture_has_no_packets(tmp_path: Path) -> None:
    assert list(read_packets(write_pcap(tmp_path / 'c', []))) == []


PCAP = struct.pack('<IHHiIII', 0xA1B2C3D4, 2, 4, 0, 0, 65535, LinkType.RAW)
RECORD = struct.pack('<IIII', 7, 0, len(V4), len(V4)) + V4


@pytest.mark.parametrize(
    ('octets', 'reason'),
    [
        (b'', 'neither'),
        (b'#!/bin/sh', 'neither'),
        (PCAP[:20], 'breaks off'),
        (PCAP + RECORD[:10], 'breaks off'),
        (PCAP + RECORD[:16], 'breaks off'),
        (PCAP + RECORD + RECORD[:-1], 'breaks off'),
        (PCAP + struct.pack('<IIII', 7, 0, 1 << 31, 1 << 31), 'packet of 2147483648'),
        (PCAP[:-4] + struct.pack('<I', 105), 'link type 105 is not one of'),
        (section() + interface(LinkType.RAW) + packet(V4)[:-1], 'breaks off'),
        (section() + interface(LinkType.RAW) + packet(V4, number=1), 'unknown interface'),
        (section() + packet(V4), 'unknown interface'),
        (section() + b'\x06\0\0\0\x08\0\0\0', 'block of 8'),
        (section() + b'\x06\0\0\0\xff\xff\xff\xfc', 'block of'),
        (section() + block(3, bytes(8)), 'save it anew'),
        (section()[:9], 'breaks off|damaged|block of'),
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, octets: bytes, reason: str) -> None:
    with pytest.raises(CaptureError, match=reason):
        list(read_packets(written(tmp_path, octets)))


NG = section() + interface(LinkType.RAW)


@pytest.mark.parametrize(
    ('head', 'record'), [(PCAP, RECORD), (NG, packet(V4))], ids=['pcap', 'pcapng']
)
def test_cut_last_packet_is_told_after_the_whole_ones(
    tmp_path: Path, head: bytes, record: bytes
) -> None:
    for kept in range(1, len(record)):
        packets = read_packets(written(tmp_path, head + record * 2 + record[:kept]))
        assert [next(packets).number, next(packets).number] == [1, 2]
        with pytest.raises(CutOffError, match='breaks off in its last packet'):
            next(packets)


@pytest.mark.parametrize(
    'octets',
    [
        PCAP[:20],
        # Lengths that no tcpdump writes: damaged, and who knows what followed.
        PCAP + RECORD + struct.pack('<IIII', 7, 0, 1 << 20, 1 << 20) + RECORD * 3,
        NG + packet(V4) + b'\x06\0\0\0\0\0\x10\0' + packet(V4) * 3,
        section()[:11],
    ],
    ids=['no header', 'a length of 1 MiB', 'a block of 1 MiB', 'no section'],
)
def test_other_ends_are_no_cut_packets(tmp_path: Path, octets: bytes) -> None:
    with pytest.raises(CaptureError) as raised:
        list(read_packets(written(tmp_path, octets)))
    assert not isinstance(raised.value, CutOffError)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match='No such file'):
        list(read_packets(tmp_path / 'nothing'))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.sampled_from([PCAP, section(), section() + interface(LinkType.RAW), section('>')]),
    st.binary(max_size=80),
)
def test_any_file_is_read_or_refused(tmp_path: Path, head: bytes, rest: bytes) -> None:
    with suppress(CaptureError):
        list(read_packets(written(tmp_path, head + rest)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(kind=st.sampled_from([1, 9, 14]), value=st.binary(max_size=9), cut=st.integers(0, 4))
@example(kind=9, value=b'', cut=0)
@example(kind=14, value=b'\xff' * 8, cut=0)
def test_any_pcapng_options_are_read_or_refused(
    tmp_path: Path, kind: int, value: bytes, cut: int
) -> None:
    """Resolution and offset of time stamps, of any length."""
    option = struct.pack('<HH', kind, len(value)) + value + bytes(-len(value) % 4)
    option = option[: len(option) - cut]
    octets = section() + interface(LinkType.RAW, options=option) + packet(V4)
    with suppress(CaptureError):
        assert [p.octets for p in read_packets(written(tmp_path, octets))] == [V4]

"""IP packets out of a capture file: pcap and pcapng, from Ethernet, Linux cooked and raw links.

dpkt decodes the files; the loop over pcapng's blocks is here, since dpkt's own takes every packet
to be of the first interface. A file that breaks off is an error, never a short capture: the missing
part might have been bad. Where only its last packet is cut, as by a tcpdump that was killed, the
error says so, after all whole packets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import dpkt


class CaptureError(Exception):
    """The file is not a readable capture; the message says why."""


class CutOffError(CaptureError):
    """The last packet of the file is cut; all packets before it are whole, and were returned."""


class LinkType(IntEnum):
    """Link types of https://www.tcpdump.org/linktypes.html."""

    ETHERNET = 1
    RAW_BSD = 12
    RAW_OPENBSD = 14
    RAW = 101
    LINUX_SLL = 113
    IPV4 = 228
    IPV6 = 229
    LINUX_SLL2 = 276


_ETHERTYPE_IPV4 = 0x0800
_ETHERTYPE_IPV6 = 0x86DD
_ETHERTYPE_VLAN = {0x8100, 0x88A8}

_PCAPNG_MAGIC = b'\x0a\x0d\x0d\x0a'
_PCAP_MAGICS = {b'\xa1\xb2\xc3\xd4', b'\xd4\xc3\xb2\xa1', b'\xa1\xb2\x3c\x4d', b'\x4d\x3c\xb2\xa1'}

# Larger than any packet or block of comments: a greater length is an error.
_LARGEST_BLOCK = 16 * 1024 * 1024
# Octets of a packet that may be the cut one: tcpdump's MAXIMUM_SNAPLEN, with its block.
_LARGEST_PACKET = 256 * 1024 + 4096


class Packet(NamedTuple):
    """An IPv4 or IPv6 packet of a capture."""

    number: int
    """Number of its frame in the file, from 1, as in other tools."""
    time: float
    """Seconds since the epoch."""
    octets: bytes


def read_packets(path: str | Path) -> Iterator[Packet]:
    """Yield each IPv4 or IPv6 packet; others are skipped.

    Raises CaptureError for a file that can't be read and for other link types; CutOffError, after
    the last whole packet, for a file that breaks off.
    """
    try:
        with open(path, 'rb') as file:
            magic = file.read(4)
            file.seek(0)
            if magic == _PCAPNG_MAGIC:
                frames = _pcapng_frames(file)
            elif magic in _PCAP_MAGICS:
                frames = _pcap_frames(file)
            else:
                raise CaptureError(f'{path} is neither pcap nor pcapng')
            for number, (time, link_type, frame) in enumerate(frames, 1):
                octets = _LINKS[link_type](frame)
                if octets is not None:
                    yield Packet(number, time, octets)
    except OSError as error:
        raise CaptureError(f'cannot read {path}: {error.strerror}') from None
    except (dpkt.Error, struct.error, ValueError) as error:
        raise CaptureError(f'{path} is damaged: {error}') from None


def _known_link(number: int) -> LinkType:
    try:
        return LinkType(number)
    except ValueError:
        known = ', '.join(f'{link.name} ({link.value})' for link in LinkType)
        raise CaptureError(f'link type {number} is not one of {known}') from None


class _WholeRecords:
    """A pcap file for dpkt's reader, which would return a partial record otherwise."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._reads = 0

    def read(self, size: int) -> bytes:
        # The file's header, then header and body of record after record.
        self._reads += 1
        if size > _LARGEST_BLOCK:
            raise CaptureError(f'{self._file.name} has a packet of {size} octets')
        octets = self._file.read(size)
        may_end = self._reads > 1 and self._reads % 2 == 0
        if len(octets) < size and (octets or not may_end):
            raise _cut_off(self._file, size, self._reads > 1)
        return octets


def _cut_off(file: BinaryIO, wanted: int, has_packets: bool) -> CaptureError:
    """Return the error for the end of the file in the middle of `wanted` octets."""
    if has_packets and wanted <= _LARGEST_PACKET:
        return CutOffError(f'{file.name} breaks off in its last packet')
    # Not the end of a capture, but a wrong length, or no capture yet.
    return CaptureError(f'{file.name} breaks off')


def _pcap_frames(file: BinaryIO) -> Iterator[tuple[float, LinkType, bytes]]:
    reader = dpkt.pcap.Reader(_WholeRecords(file))
    # The upper bits describe a frame check sequence.
    link_type = _known_link(reader.datalink() & 0xFFFF)
    for time, frame in reader:
        yield float(time), link_type, frame


def _pcapng_frames(file: BinaryIO) -> Iterator[tuple[float, LinkType, bytes]]:
    order = '<'
    interfaces: list[tuple[LinkType, float, int]] = []
    while head := file.read(8):
        if len(head) < 8:
            raise _cut_off(file, len(head), bool(interfaces))
        if head[:4] == _PCAPNG_MAGIC:
            byte_order = file.read(4)
            file.seek(-4, 1)
            order = '<' if byte_order == b'\x4d\x3c\x2b\x1a' else '>'
            interfaces = []
        kind, length = struct.unpack(f'{order}II', head)
        if length < 12 or length % 4 or length > _LARGEST_BLOCK:
            raise CaptureError(f'{file.name} has a block of {length} octets')
        block = head + file.read(length - 8)
        if len(block) < length:
            raise _cut_off(file, length, bool(interfaces))
        suffix = 'LE' if order == '<' else ''
        if kind == dpkt.pcapng.PCAPNG_BT_IDB:
            interfaces.append(_interface(_block('InterfaceDescriptionBlock', suffix, block), order))
        elif kind == dpkt.pcapng.PCAPNG_BT_EPB:
            packet = _block('EnhancedPacketBlock', suffix, block)
            if packet.iface_id >= len(interfaces):
                raise CaptureError(f'{file.name} has a packet of an unknown interface')
            link_type, unit, offset = interfaces[packet.iface_id]
            time = offset + ((packet.ts_high << 32) | packet.ts_low) * unit
            yield time, link_type, bytes(packet.pkt_data)
        elif kind in (dpkt.pcapng.PCAPNG_BT_PB, dpkt.pcapng.PCAPNG_BT_SPB):
            raise CaptureError(f'{file.name} has packets in blocks of type {kind}: save it anew')


def _block(name: str, suffix: str, octets: bytes) -> Any:
    return getattr(dpkt.pcapng, name + suffix)(octets)


def _interface(block: Any, order: str) -> tuple[LinkType, float, int]:
    """Return link type, seconds per unit of time, seconds to add."""
    unit, offset = 1e-6, 0
    for option in block.opts:
        if option.code == dpkt.pcapng.PCAPNG_OPT_IF_TSRESOL:
            (exponent,) = struct.unpack('B', option.data)
            unit = 2.0 ** -(exponent & 0x7F) if exponent & 0x80 else 10.0**-exponent
        elif option.code == dpkt.pcapng.PCAPNG_OPT_IF_TSOFFSET:
            (offset,) = struct.unpack(f'{order}q', option.data)
    return _known_link(block.linktype), unit, offset


# --- links ----------------------------------------------------------------------------------


def _ethernet(frame: bytes) -> bytes | None:
    offset = 12
    while int.from_bytes(frame[offset : offset + 2], 'big') in _ETHERTYPE_VLAN:
        offset += 4
    return _of_ethertype(frame[offset : offset + 2], frame[offset + 2 :])


def _linux_sll(frame: bytes) -> bytes | None:
    return _of_ethertype(frame[14:16], frame[16:])


def _linux_sll2(frame: bytes) -> bytes | None:
    return _of_ethertype(frame[0:2], frame[20:])


def _raw(frame: bytes) -> bytes | None:
    return frame if frame and frame[0] >> 4 in (4, 6) else None


def _of_ethertype(ethertype: bytes, packet: bytes) -> bytes | None:
    number = int.from_bytes(ethertype, 'big')
    return packet if number in (_ETHERTYPE_IPV4, _ETHERTYPE_IPV6) else None


_LINKS: dict[LinkType, Callable[[bytes], bytes | None]] = {
    LinkType.ETHERNET: _ethernet,
    LinkType.LINUX_SLL: _linux_sll,
    LinkType.LINUX_SLL2: _linux_sll2,
    LinkType.RAW: _raw,
    LinkType.RAW_BSD: _raw,
    LinkType.RAW_OPENBSD: _raw,
    LinkType.IPV4: _raw,
    LinkType.IPV6: _raw,
}

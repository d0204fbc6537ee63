"""A decoded TCP segment: addresses, ports, flags, options, TCP-AO's option.

Reads, never builds. Input may come from an attacker: anything but an unfragmented TCP segment in
IPv4 or IPv6 raises MalformedSegmentError and nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address

from tcpao.mkt import IPAddress


class MalformedSegmentError(Exception):
    """The octets aren't a whole TCP segment, or its options break off."""


class Flag(IntFlag):
    """TCP control bits (RFC 9293 3.1)."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10


# Plain numbers for the tests of every segment: an IntFlag costs more than the rest.
_FIN, _SYN, _RST, _SYN_ACK = 0x01, 0x02, 0x04, 0x12


class OptionKind(IntEnum):
    """TCP option kinds that are decoded (IANA, TCP Parameters)."""

    END = 0
    NOP = 1
    TCP_MD5 = 19
    """RFC 2385."""
    TCP_AO = 29
    """RFC 5925 2.2."""


_END, _NOP, _TCP_MD5, _TCP_AO = (int(kind) for kind in OptionKind)


class _Protocol(IntEnum):
    """IP protocol numbers, and IPv6 extension headers (RFC 8200 4.1)."""

    HOP_BY_HOP = 0
    TCP = 6
    ROUTING = 43
    FRAGMENT = 44
    DESTINATION_OPTIONS = 60


_EXTENSIONS = {_Protocol.HOP_BY_HOP, _Protocol.ROUTING, _Protocol.DESTINATION_OPTIONS}
_MAY_HOLD_TCP = {_Protocol.TCP, *_EXTENSIONS}
"""What a fragmented packet may have next if a TCP segment is in it."""

_IPV4_HEADER = 20
_IPV6_HEADER = 40
_TCP_HEADER = 20
_IPV4_FRAGMENT = 0x3FFF
"""More-fragments flag and offset."""

# No BGP packet has more IPv6 extension headers than this.
_LARGEST_EXTENSION_CHAIN = 8


@dataclass(frozen=True, slots=True)
class AoOption:
    """TCP-AO's option: kind 29, length, KeyID, RNextKeyID, MAC."""

    key_id: int
    rnext_key_id: int
    mac: bytes
    offset: int
    """Position of the option in the TCP header."""

    @property
    def mac_offset(self) -> int:
        """Return the position of the MAC in the TCP header."""
        return self.offset + 4

    @property
    def end(self) -> int:
        """Return the end of the option in the TCP header."""
        return self.mac_offset + len(self.mac)


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment; ports and numbers in host byte order."""

    source: IPAddress
    destination: IPAddress
    header: bytes
    """The TCP header with its options, unchanged from the wire."""
    payload: bytes

    @property
    def source_port(self) -> int:
        return int.from_bytes(self.header[0:2], 'big')

    @property
    def destination_port(self) -> int:
        return int.from_bytes(self.header[2:4], 'big')

    @property
    def sequence(self) -> int:
        """Return SEG.SEQ."""
        return int.from_bytes(self.header[4:8], 'big')

    @property
    def acknowledgment(self) -> int:
        """Return SEG.ACK."""
        return int.from_bytes(self.header[8:12], 'big')

    @property
    def flags(self) -> Flag:
        return Flag(self.header[13] & 0x1F)

    @property
    def length(self) -> int:
        """Return SEG.LEN: octets of sequence space, SYN and FIN included."""
        flags = self.header[13]
        return len(self.payload) + (flags & _SYN != 0) + (flags & _FIN != 0)

    @property
    def is_opening(self) -> bool:
        """Return True for a SYN without ACK."""
        return self.header[13] & _SYN_ACK == _SYN

    @property
    def is_syn_ack(self) -> bool:
        return self.header[13] & _SYN_ACK == _SYN_ACK

    @property
    def has_fin(self) -> bool:
        return self.header[13] & _FIN != 0

    @property
    def has_rst(self) -> bool:
        return self.header[13] & _RST != 0

    def ao_option(self) -> AoOption | None:
        """Return TCP-AO's option, None if there is none.

        Raises MalformedSegmentError if the options break off, if TCP-AO comes twice (RFC 5925 2.2:
        never more than once) or together with TCP MD5, or if it is shorter than 4 octets.
        """
        found: AoOption | None = None
        md5 = False
        header, offset = self.header, _TCP_HEADER
        while offset < len(header):
            kind = header[offset]
            if kind == _END:
                break
            if kind == _NOP:
                offset += 1
                continue
            length = header[offset + 1] if offset + 1 < len(header) else 0
            if length < 2 or offset + length > len(header):
                raise MalformedSegmentError(f'TCP option {kind} breaks off')
            if kind == _TCP_AO:
                if found is not None:
                    raise MalformedSegmentError('TCP-AO comes twice')
                if length < 4:
                    raise MalformedSegmentError(f'TCP-AO of {length} octets')
                found = AoOption(
                    key_id=header[offset + 2],
                    rnext_key_id=header[offset + 3],
                    mac=header[offset + 4 : offset + length],
                    offset=offset,
                )
            elif kind == _TCP_MD5:
                md5 = True
            offset += length
        if md5 and found is not None:
            raise MalformedSegmentError('TCP-AO and TCP MD5 in one segment')
        return found


def parse_ip(packet: bytes) -> Segment | None:
    """Return the TCP segment of an IPv4 or IPv6 packet; None if the packet is whole but not TCP.

    A fragment counts as not TCP unless its header says TCP, or an extension header that TCP may
    follow: such a fragment raises MalformedSegmentError, as does a packet that was cut short.
    Octets after the packet's end (Ethernet padding) are ignored.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        return _parse_ipv4(packet)
    if version == 6:
        return _parse_ipv6(packet)
    raise MalformedSegmentError('neither IPv4 nor IPv6')


def _parse_ipv4(packet: bytes) -> Segment | None:
    if len(packet) < _IPV4_HEADER:
        raise MalformedSegmentError('an IPv4 header cut short')
    header_length = (packet[0] & 0x0F) * 4
    total, fragment = struct.unpack_from('!H2xH', packet, 2)
    if packet[9] != _Protocol.TCP:
        return None
    if fragment & _IPV4_FRAGMENT:
        raise MalformedSegmentError('a TCP segment in IPv4 fragments')
    # A capture on a host that offloads segmentation can have 0 here: then the whole packet counts.
    end = total or len(packet)
    if header_length < _IPV4_HEADER or not header_length <= end <= len(packet):
        raise MalformedSegmentError('an IPv4 packet cut short')
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    return _parse_tcp(source, destination, packet[header_length:end])


def _parse_ipv6(packet: bytes) -> Segment | None:
    if len(packet) < _IPV6_HEADER:
        raise MalformedSegmentError('an IPv6 header cut short')
    length, protocol = struct.unpack_from('!HB', packet, 4)
    end = _IPV6_HEADER + length if length else len(packet)
    if end > len(packet):
        raise MalformedSegmentError('an IPv6 packet cut short')
    offset = _IPV6_HEADER
    for _ in range(_LARGEST_EXTENSION_CHAIN):
        if protocol == _Protocol.TCP:
            source, destination = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
            return _parse_tcp(source, destination, packet[offset:end])
        if protocol == _Protocol.FRAGMENT:
            if offset < end and packet[offset] in _MAY_HOLD_TCP:
                raise MalformedSegmentError('a TCP segment in IPv6 fragments')
            return None
        if protocol not in _EXTENSIONS:
            return None
        if offset + 2 > end:
            raise MalformedSegmentError('an IPv6 extension header cut short')
        protocol, offset = packet[offset], offset + (packet[offset + 1] + 1) * 8
    raise MalformedSegmentError('too many IPv6 extension headers')


def _parse_tcp(source: IPAddress, destination: IPAddress, octets: bytes) -> Segment:
    if len(octets) < _TCP_HEADER:
        raise MalformedSegmentError('a TCP header cut short')
    header_length = (octets[12] >> 4) * 4
    if not _TCP_HEADER <= header_length <= len(octets):
        raise MalformedSegmentError('a TCP header whose data offset is wrong')
    return Segment(source, destination, octets[:header_length], octets[header_length:])

"""An IP packet that holds a TCP segment: the position of its parts, and changes to it.

One pass and no objects, since this is done for every segment. Anything but a whole, unfragmented
TCP segment directly behind an IP header is not decoded: the caller drops it.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

PROTOCOL: Final = {4: 9, 6: 6}
"""Position of the protocol number in an IPv4 or IPv6 header."""
TCP: Final = 6
ICMP: Final = {4: 1, 6: 58}

IPV6_HEADER: Final = 40
TCP_HEADER: Final = 20
LONGEST_TCP_HEADER: Final = 60

SEQUENCE: Final = 4
OFFSET: Final = 12
FLAGS: Final = 13
CHECKSUM: Final = 16
"""Offsets in the TCP header (RFC 9293 3.1)."""

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10
"""Plain numbers: an IntFlag costs more than the rest of the parsing."""

_SHORT: Final = Struct('!H')
_ADDRESSES: Final = {4: slice(12, 20), 6: slice(8, 40)}


def locate(packet: bytes) -> tuple[int, int] | None:
    """Return the positions of the TCP header and the payload.

    None unless the packet is exactly one whole TCP segment: no fragment, no IPv6 extension header,
    no octet missing or too many.
    """
    size = len(packet)
    if size < 40:
        return None
    version = packet[0] >> 4
    if version == 4:
        start = (packet[0] & 0x0F) * 4
        if (
            packet[9] != TCP
            or (packet[2] << 8 | packet[3]) != size
            # More-fragments flag and offset; don't-fragment may be set.
            or packet[6] & 0x3F
            or packet[7]
            or start < 20
            or size < start + TCP_HEADER
        ):
            return None
    elif version == 6:
        start = IPV6_HEADER
        if (
            packet[6] != TCP
            or (packet[4] << 8 | packet[5]) + start != size
            or size < start + TCP_HEADER
        ):
            return None
    else:
        return None
    data = start + (packet[start + OFFSET] >> 4) * 4
    if data < start + TCP_HEADER or data > size:
        return None
    return start, data


def flow_of(packet: bytes, start: int) -> bytes:
    """Return source, destination, source port, destination port as on the wire: 12 or 36 octets."""
    if start == 20:
        return packet[12:24]
    if packet[0] >> 4 == 6:
        return packet[8:44]
    return packet[12:20] + packet[start : start + 4]


def pseudo_header_prefix(source: bytes, destination: bytes) -> bytes:
    """Return the constant part of the pseudo-header; `pseudo_length` is the rest."""
    addresses = source + destination
    return addresses + b'\0\x06' if len(source) == 4 else addresses


# RFC 9293 3.1: zero, protocol (both above), length. RFC 8200 8.1: length, zeros, protocol.
_IPV6_LENGTH: Final = Struct('!I4s')


def pseudo_length(ipv6: bool, length: int) -> bytes:
    """Return the end of the pseudo-header: `length` is that of the whole segment, in octets."""
    return _IPV6_LENGTH.pack(length, b'\0\0\0\x06') if ipv6 else _SHORT.pack(length)


def resized_headers(packet: bytes, start: int, grown: int) -> bytearray:
    """Return IP header and first 20 octets of the TCP header for a segment whose options grew.

    `grown` octets (a multiple of 4, perhaps negative) are added to the lengths, the data offset and
    the IPv4 header's checksum. The TCP checksum is zero, for the MAC.
    """
    head = bytearray(packet[: start + TCP_HEADER])
    head[start + OFFSET] += grown << 2
    head[start + CHECKSUM] = head[start + CHECKSUM + 1] = 0
    if packet[0] >> 4 == 4:
        _SHORT.pack_into(head, 2, len(packet) + grown)
        # RFC 1624: one word of the header has changed.
        old = packet[10] << 8 | packet[11]
        _SHORT.pack_into(head, 10, -((old ^ 0xFFFF) + grown) % 0xFFFF)
    else:
        _SHORT.pack_into(head, 4, len(packet) - IPV6_HEADER + grown)
    return head


def checksum_after(packet: bytes, start: int, old: bytes, new: bytes) -> int:
    """Return the TCP checksum after the options `old` have become `new` (RFC 1624).

    Only the changes are summed: options, data offset, and the pseudo-header's length. A wrong
    checksum stays wrong, so TCP drops the same segments as before.
    """
    was = packet[start + CHECKSUM] << 8 | packet[start + CHECKSUM + 1]
    grown = len(new) - len(old)
    delta = int.from_bytes(new, 'big') - int.from_bytes(old, 'big') + grown + (grown << 10)
    return -((was ^ 0xFFFF) + delta) % 0xFFFF


def full_checksum(packet: bytes | bytearray, start: int) -> int:
    """Return the TCP checksum of a packet, ignoring its own checksum field."""
    version = packet[0] >> 4
    addresses = bytes(packet[_ADDRESSES[version]])
    segment = packet[start:]
    was = segment[CHECKSUM] << 8 | segment[CHECKSUM + 1]
    padding = b'\0' if len(segment) % 2 else b''
    total = int.from_bytes(addresses + segment + padding, 'big') + TCP + len(segment) - was
    return -total % 0xFFFF


def with_options(
    packet: bytes, start: int, data: int, options: bytes, partial: bool = False
) -> bytes:
    """Return the packet with other TCP options; `partial` if the hardware completes its
    checksum.
    """
    old = packet[start + TCP_HEADER : data]
    head = resized_headers(packet, start, len(options) - len(old))
    _SHORT.pack_into(head, start + CHECKSUM, checksum_after(packet, start, old, options))
    changed = b''.join((head, options, packet[data:]))
    return with_full_checksum(changed, start) if partial else changed


def with_full_checksum(packet: bytes, start: int) -> bytes:
    """Return the packet with its TCP checksum computed anew, never 0 (see `seal`)."""
    at = start + CHECKSUM
    checksum = full_checksum(packet, start) or 0xFFFF
    return b''.join((packet[:at], _SHORT.pack(checksum), packet[at + 2 :]))

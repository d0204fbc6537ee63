"""ICMP errors about protected connections (RFC 5925 7.8).

Hard errors about connections in synchronized states are ignored. So is IPv6's "packet too big",
which the RFC does not mention: any host can send one. Linux would limit our packets to the path MTU
in that error, TCP-AO option included, while TCP fills that MTU without the option. A
path that is narrower than our own link needs no such error: see `client.key_socket` for IPv4,
`options` for IPv6.
"""

from __future__ import annotations

from typing import Final

from tcpao.userspace.wire.packet import ICMP, IPV6_HEADER, PROTOCOL, TCP

_HEADER: Final = 8

EXTENSIONS: Final = {0: (8, 8), 43: (8, 8), 44: (0, 8), 51: (4, 8), 60: (8, 8)}
"""Extension headers (RFC 8200 4, RFC 4302 2.2): octets for each unit of the length field, and fixed
octets: hop-by-hop, routing, fragment, authentication, destination options."""

_V4_UNREACHABLE: Final = 3
_V4_HARD: Final = frozenset({2, 3, 4})
"""Protocol unreachable, port unreachable, fragmentation needed."""
_V6_UNREACHABLE: Final = 1
_V6_HARD: Final = frozenset({1, 4})
"""Administratively prohibited, port unreachable."""
_V6_TOO_BIG: Final = 2


def is_icmp(packet: bytes) -> bool:
    """Return True if the packet is ICMP of its own family."""
    version = packet[0] >> 4 if packet else 0
    at = PROTOCOL.get(version)
    return at is not None and len(packet) > at and packet[at] == ICMP[version]


def quoted_flow(packet: bytes) -> bytes | None:
    """Return the flow of the TCP segment in an error, as `packet.flow_of`; None without one."""
    message = _message_at(packet)
    quoted = message + _HEADER
    if len(packet) < quoted + 20:
        return None
    version = packet[quoted] >> 4
    if version != packet[0] >> 4:
        return None
    if version == 4:
        start = quoted + (packet[quoted] & 0x0F) * 4
        addresses, protocol = slice(quoted + 12, quoted + 20), quoted + 9
    else:
        start, protocol = _behind_extensions(packet, quoted)
        addresses = slice(quoted + 8, quoted + 40)
    if len(packet) < start + 4 or packet[protocol] != TCP:
        return None
    return packet[addresses] + packet[start : start + 4]


def _behind_extensions(packet: bytes, quoted: int) -> tuple[int, int]:
    """Return the start of a quoted IPv6 packet's upper layer, and the offset of its protocol
    number.

    We send no extension headers: a quote with some is forged, or was changed on the way.
    """
    start, kind = quoted + IPV6_HEADER, quoted + 6
    while packet[kind] in EXTENSIONS and len(packet) >= start + 8:
        unit, more = EXTENSIONS[packet[kind]]
        kind, start = start, start + (packet[start + 1] * unit + more if unit else more)
    return start, kind


def is_ignored(packet: bytes) -> bool:
    """Return True for errors that a synchronized connection ignores."""
    message = _message_at(packet)
    kind, code = packet[message], packet[message + 1]
    if packet[0] >> 4 == 4:
        return kind == _V4_UNREACHABLE and code in _V4_HARD
    return kind == _V6_TOO_BIG or (kind == _V6_UNREACHABLE and code in _V6_HARD)


def _message_at(packet: bytes) -> int:
    return (packet[0] & 0x0F) * 4 if packet[0] >> 4 == 4 else IPV6_HEADER

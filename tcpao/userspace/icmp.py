"""ICMP errors about protected connections (RFC 5925 7.8).

Hard errors about connections in synchronized states are ignored. An IPv6 "packet too big" is told
to TCP with an MTU that leaves room for the TCP-AO option, for TCP doesn't know of it.
"""

from __future__ import annotations

from typing import Final

from tcpao.userspace.options import LONGEST_AO_OPTION
from tcpao.userspace.packet import ICMP, IPV6_HEADER, PROTOCOL, TCP

_HEADER: Final = 8

_V4_UNREACHABLE: Final = 3
_V4_HARD: Final = frozenset({2, 3, 4})
"""Protocol unreachable, port unreachable, fragmentation needed."""
_V6_UNREACHABLE: Final = 1
_V6_HARD: Final = frozenset({1, 4})
"""Administratively prohibited, port unreachable."""
_V6_TOO_BIG: Final = 2


def is_icmp(packet: bytes) -> bool:
    """True if it is ICMP of its own family."""
    version = packet[0] >> 4 if packet else 0
    at = PROTOCOL.get(version)
    return at is not None and len(packet) > at and packet[at] == ICMP[version]


def quoted_flow(packet: bytes) -> bytes | None:
    """The flow of the TCP segment that an error quotes, as `packet.flow_of`; None if it doesn't."""
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
        start = quoted + IPV6_HEADER
        addresses, protocol = slice(quoted + 8, quoted + 40), quoted + 6
    if len(packet) < start + 4 or packet[protocol] != TCP:
        return None
    return packet[addresses] + packet[start : start + 4]


def is_hard_error(packet: bytes) -> bool:
    """True for those that a synchronized connection ignores."""
    message = _message_at(packet)
    kind, code = packet[message], packet[message + 1]
    if packet[0] >> 4 == 4:
        return kind == _V4_UNREACHABLE and code in _V4_HARD
    return kind == _V6_UNREACHABLE and code in _V6_HARD


def with_room(packet: bytes) -> bytes:
    """A "packet too big" with an MTU that leaves room for the option; others as they are."""
    if packet[0] >> 4 != 6 or packet[_message_at(packet)] != _V6_TOO_BIG:
        return packet
    message = IPV6_HEADER
    mtu = int.from_bytes(packet[message + 4 : message + 8], 'big')
    lower = max(mtu - LONGEST_AO_OPTION, 0)
    was = int.from_bytes(packet[message + 2 : message + 4], 'big')
    # RFC 1624; both 32-bit numbers are sums of their words modulo 0xFFFF.
    checksum = -((was ^ 0xFFFF) + lower - mtu) % 0xFFFF
    return b''.join(
        (
            packet[: message + 2],
            checksum.to_bytes(2, 'big'),
            lower.to_bytes(4, 'big'),
            packet[message + 8 :],
        )
    )


def _message_at(packet: bytes) -> int:
    return (packet[0] & 0x0F) * 4 if packet[0] >> 4 == 4 else IPV6_HEADER

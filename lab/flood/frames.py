"""Forged segments as whole Ethernet frames, made from one that was seen on the link. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import Final

import dpkt

_AO: Final = 29
_MAC_OCTETS: Final = 12
_KEEPALIVE: Final = b'\xff' * 16 + b'\x00\x13\x04'
"""RFC 4271 4.4."""
_AHEAD: Final = 8192
"""Octets behind the next expected one, at most, where a forged segment begins: in any window."""


class Kind(StrEnum):
    """The kind of forged segments, always from the peer's address."""

    UNSIGNED = 'segments of the live connection without TCP-AO'
    SIGNED = 'segments of the live connection with a random MAC'
    STRAY = 'segments of connections that there are not, with a random MAC'
    UNSIGNED_SYN = 'SYNs without TCP-AO'
    SIGNED_SYN = 'SYNs with a random MAC'


def forge(seen: bytes, kind: Kind, count: int, random: Random) -> list[bytes]:
    """Return so many frames of a kind, each with another MAC.

    `seen` is a frame of the live connection, Ethernet and IPv4, with TCP-AO: a forged segment has
    its addresses, KeyIDs and place in the stream, so that nothing but the MAC is wrong. Raises
    ValueError if it is none.
    """
    frame = dpkt.ethernet.Ethernet(seen)
    if not isinstance(frame.data, dpkt.ip.IP) or not isinstance(frame.data.data, dpkt.tcp.TCP):
        raise ValueError('no segment of TCP over IPv4')
    options = dpkt.tcp.parse_opts(frame.data.data.opts)
    ids = next((bytes(value[:2]) for option, value in options if option == _AO), None)
    if ids is None:
        raise ValueError('a segment without TCP-AO')
    change = _CHANGES[kind]
    made = []
    for _ in range(count):
        segment = dpkt.tcp.TCP(bytes(frame.data.data))
        signed = bytes((_AO, 4 + _MAC_OCTETS)) + ids + random.randbytes(_MAC_OCTETS)
        change(segment, signed, random)
        made.append(_complete(frame, segment))
    return made


def _unsigned(segment: dpkt.tcp.TCP, _signed: bytes, random: Random) -> None:
    segment.opts, segment.data = b'', _KEEPALIVE
    segment.flags = dpkt.tcp.TH_ACK | dpkt.tcp.TH_PUSH
    segment.seq = (segment.seq + random.randrange(_AHEAD)) % 2**32


def _signed(segment: dpkt.tcp.TCP, signed: bytes, random: Random) -> None:
    _unsigned(segment, signed, random)
    segment.opts = signed


def _stray(segment: dpkt.tcp.TCP, signed: bytes, random: Random) -> None:
    _signed(segment, signed, random)
    _ephemeral(segment, random)


def _unsigned_syn(segment: dpkt.tcp.TCP, _signed: bytes, random: Random) -> None:
    segment.opts, segment.data = b'\x02\x04\x05\xb4', b''
    segment.flags, segment.ack = dpkt.tcp.TH_SYN, 0
    segment.seq = random.randrange(2**32)
    _ephemeral(segment, random)


def _signed_syn(segment: dpkt.tcp.TCP, signed: bytes, random: Random) -> None:
    _unsigned_syn(segment, signed, random)
    segment.opts += signed


_CHANGES: Final[dict[Kind, Callable[[dpkt.tcp.TCP, bytes, Random], None]]] = {
    Kind.UNSIGNED: _unsigned,
    Kind.SIGNED: _signed,
    Kind.STRAY: _stray,
    Kind.UNSIGNED_SYN: _unsigned_syn,
    Kind.SIGNED_SYN: _signed_syn,
}


def _ephemeral(segment: dpkt.tcp.TCP, random: Random) -> None:
    """Move the segment to a random port of a client, towards the service."""
    segment.dport = min(segment.dport, segment.sport)
    segment.sport = random.randrange(1024, 65536)


def _complete(frame: dpkt.ethernet.Ethernet, segment: dpkt.tcp.TCP) -> bytes:
    """Return the frame with correct lengths and checksums, so that it is not dropped for those."""
    segment.off = (dpkt.tcp.TCP.__hdr_len__ + len(segment.opts)) // 4
    # dpkt computes what is 0.
    segment.sum = 0
    packet = dpkt.ip.IP(src=frame.data.src, dst=frame.data.dst, p=frame.data.p, data=segment)
    return bytes(frame)[: dpkt.ethernet.Ethernet.__hdr_len__] + bytes(packet)

"""One segment signed, or found good: where the option goes and what the MAC covers (RFC 5925 5.1).

Which key and which MAC function is decided by `connection` and `handshake`.
"""

from __future__ import annotations

from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from tcpao.userspace.wire.options import TCP_AO, find_ao, make_room, without_ao
from tcpao.userspace.wire.packet import (
    CHECKSUM,
    FLAGS,
    SEQUENCE,
    SYN,
    TCP_HEADER,
    checksum_after,
    pseudo_length,
    resized_headers,
    with_full_checksum,
    with_options,
)
from tcpao.userspace.wire.signing import Mac

# A netlink attribute's length is 16 bits wide, its own header included.
LONGEST_PACKET: Final = 0xFFFF - 4


@dataclass(slots=True)
class Tally:
    """Segments and messages that this process has judged, as /proc/net/netstat has them."""

    good: int = 0
    bad: int = 0
    not_found: int = 0
    """Under an unknown KeyID."""
    unsigned: int = 0
    """Without TCP-AO where there had to be one."""
    icmps: int = 0
    """ICMP errors ignored (RFC 5925 7.8)."""
    malformed: int = 0
    """Fragments, extension headers, broken lengths and options."""
    unsendable: int = 0
    """Segments of ours that nothing could be signed with, or that had no room left."""


@dataclass(frozen=True, slots=True)
class Received:
    """A segment that has a TCP-AO option, taken apart. Not verified."""

    packet: bytes
    start: int
    """Where the TCP header begins."""
    data: int
    """Where the payload begins."""
    options: bytes
    at: int
    """Where TCP-AO's option begins in the options."""

    @property
    def key_id(self) -> int:
        return self.options[self.at + 2]

    @property
    def rnext_key_id(self) -> int:
        return self.options[self.at + 3]

    def is_good(self, mac: Mac, *, tcp_options: bool) -> bool:
        """True if the MAC verifies; compared in constant time."""
        packet, start, options, at = self.packet, self.start, self.options, self.at
        end = at + options[at + 1]
        claimed = options[at + 4 : end]
        checksum = start + CHECKSUM
        if tcp_options:
            before, after = options[: at + 4], options[end:]
        else:
            before, after = options[at : at + 4], b''
        computed = mac(
            b''.join(
                (
                    pseudo_length(packet[0] >> 4 == 6, len(packet) - start),
                    packet[start:checksum],
                    b'\0\0',
                    packet[checksum + 2 : start + TCP_HEADER],
                    before,
                    bytes(len(claimed)),
                    after,
                    packet[self.data :],
                )
            )
        )
        return compare_digest(claimed, computed)

    def stripped(self, *, partial: bool) -> bytes:
        """The packet as TCP should see it."""
        options = without_ao(self.options, self.at)
        return with_options(self.packet, self.start, self.data, options, partial)


def received(packet: bytes, start: int, data: int) -> Received | None:
    """None if the segment has no TCP-AO option. Raises MalformedError."""
    options = packet[start + TCP_HEADER : data]
    at = find_ao(options)
    return None if at < 0 else Received(packet, start, data, options, at)


def seal(
    packet: bytes,
    start: int,
    data: int,
    mac: Mac,
    head_of_option: bytes,
    *,
    tcp_options: bool,
    partial: bool,
) -> bytes | None:
    """The packet, signed. None if no room can be made for the option.

    `head_of_option` is its first four octets (`option_head`). Raises MalformedError.
    """
    old = packet[start + TCP_HEADER : data]
    length = head_of_option[1]
    options = make_room(old, length, bool(packet[start + FLAGS] & SYN))
    if options is None:
        return None
    grown = len(options) + length - len(old)
    size = len(packet) + grown
    if size > LONGEST_PACKET:
        return None
    head = resized_headers(packet, start, grown)
    payload = packet[data:]
    signature = mac(
        b''.join(
            (
                pseudo_length(packet[0] >> 4 == 6, size - start),
                head[start:],
                options if tcp_options else b'',
                head_of_option,
                bytes(length - 4),
                payload,
            )
        )
    )
    new = b''.join((options, head_of_option, signature))
    # Linux's own TCP-AO takes a segment whose checksum is 0 for one of its own on its way out
    # and finds its MAC wrong (tcp_ao_hash_pseudoheader). 0xFFFF is as right (RFC 1624 3).
    checksum = checksum_after(packet, start, old, new) or 0xFFFF
    at = start + CHECKSUM
    head[at] = checksum >> 8
    head[at + 1] = checksum & 0xFF
    signed = b''.join((head, new, payload))
    return with_full_checksum(signed, start) if partial else signed


def option_head(length: int, key_id: int, rnext_key_id: int) -> bytes:
    """Kind, length, KeyID, RNextKeyID (RFC 5925 2.2)."""
    return bytes((TCP_AO, length, key_id, rnext_key_id))


def sequence_of(packet: bytes, start: int) -> int:
    """SEG.SEQ."""
    return int.from_bytes(packet[start + SEQUENCE : start + SEQUENCE + 4], 'big')


def acknowledgment_of(packet: bytes, start: int) -> int:
    """SEG.ACK."""
    return int.from_bytes(packet[start + 8 : start + 12], 'big')

"""Signing and verification of one segment: the option's position and the MAC's input (RFC 5925
5.1).

`connection` and `handshake` decide which key and which MAC function to use.
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
    """Counts of segments and messages that this process has judged, named as in
    /proc/net/netstat.
    """

    good: int = 0
    bad: int = 0
    not_found: int = 0
    """Segments with an unknown KeyID."""
    unsigned: int = 0
    """Segments without TCP-AO where it is required."""
    icmps: int = 0
    """ICMP errors ignored (RFC 5925 7.8)."""
    malformed: int = 0
    """Fragments, extension headers, broken lengths and options."""
    limited: int = 0
    """Segments that the rules dropped unjudged: of no open connection, and too many a second."""
    unsendable: int = 0
    """Segments of ours without a key to sign with, or without room for the option."""


@dataclass(frozen=True, slots=True)
class Received:
    """A decoded segment with a TCP-AO option. Not verified."""

    packet: bytes
    start: int
    """Position of the TCP header."""
    data: int
    """Position of the payload."""
    options: bytes
    at: int
    """Position of TCP-AO's option in the options."""

    @property
    def key_id(self) -> int:
        return self.options[self.at + 2]

    @property
    def rnext_key_id(self) -> int:
        return self.options[self.at + 3]

    def is_good(self, mac: Mac, *, tcp_options: bool) -> bool:
        """Return True if the MAC verifies; compared in constant time."""
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
        """Return the packet without TCP-AO, for TCP."""
        options = without_ao(self.options, self.at)
        return with_options(self.packet, self.start, self.data, options, partial)


def received(packet: bytes, start: int, data: int) -> Received | None:
    """Return the decoded segment; None without a TCP-AO option. Raises MalformedError."""
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
    """Return the signed packet; None if there is no room for the option.

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
    # Linux's own TCP-AO takes an outgoing segment with checksum 0 for one of its own and finds its
    # MAC wrong (tcp_ao_hash_pseudoheader). 0xFFFF is equivalent (RFC 1624 3).
    checksum = checksum_after(packet, start, old, new) or 0xFFFF
    at = start + CHECKSUM
    head[at] = checksum >> 8
    head[at + 1] = checksum & 0xFF
    signed = b''.join((head, new, payload))
    return with_full_checksum(signed, start) if partial else signed


def option_head(length: int, key_id: int, rnext_key_id: int) -> bytes:
    """Return kind, length, KeyID, RNextKeyID (RFC 5925 2.2)."""
    return bytes((TCP_AO, length, key_id, rnext_key_id))


def sequence_of(packet: bytes, start: int) -> int:
    """Return SEG.SEQ."""
    return int.from_bytes(packet[start + SEQUENCE : start + SEQUENCE + 4], 'big')


def acknowledgment_of(packet: bytes, start: int) -> int:
    """Return SEG.ACK."""
    return int.from_bytes(packet[start + 8 : start + 12], 'big')

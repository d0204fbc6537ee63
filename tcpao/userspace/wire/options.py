"""TCP options: finding TCP-AO's, removing it, and making room for it.

TCP doesn't know that its segments grow, so its header may be full. Room is made from padding
first, then from counters of AccECN, which every later segment repeats. SACK blocks, which are
advice, come next, and in a SYN options that need no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

END: Final = 0
NOP: Final = 1
MSS: Final = 2
WINDOW_SCALE: Final = 3
SACK_PERMITTED: Final = 4
SACK: Final = 5
TIMESTAMPS: Final = 8
TCP_MD5: Final = 19
TCP_AO: Final = 29
ACCECN: Final = frozenset({172, 174})
"""Option kinds (IANA, TCP Parameters); plain numbers for speed, since every segment is searched."""

# Octets: four for kind, length and ids (RFC 5925 2.2), and the longest MAC of our algorithms.
AO_OVERHEAD: Final = 4
LONGEST_AO_OPTION: Final = 20

LONGEST_OPTIONS: Final = 40
_SACK_BLOCK: Final = 8
# RFC 9768 3.2.3: three counters of three octets each, of which the last ones may be left out.
_ACCECN_COUNTER: Final = 3

# RFC 9293 3.7.1: the MSS of a SYN without an MSS option.
DEFAULT_MSS: Final = {4: 536, 6: 1220}
# For IPv4: with all headers and a TCP-AO option, the most that one netlink attribute can carry
# (65531 octets). For IPv6: the size that fits every path (RFC 8200 5), since Linux limits a packet
# that we have changed to the path MTU of its destination, which ICMP about any other socket
# changes, and no router fragments it.
LARGEST_MSS: Final = {4: 65000, 6: 1220}
# Linux treats a smaller MSS as an attack.
SMALLEST_MSS: Final = 48

_KEPT_IN_SYN: Final = frozenset({MSS, WINDOW_SCALE, SACK_PERMITTED, TIMESTAMPS})


class MalformedError(Exception):
    """The segment has invalid options, or a port 0.

    Options that break off, TCP-AO twice (RFC 5925 2.2), too short or together with TCP MD5.
    """


def find_ao(options: bytes) -> int:
    """Return the position of TCP-AO's option, -1 if there is none. Raises MalformedError."""
    found = -1
    md5 = False
    at, end = 0, len(options)
    while at < end:
        kind = options[at]
        if kind == NOP:
            at += 1
            continue
        if kind == END:
            break
        if at + 1 >= end:
            raise MalformedError
        length = options[at + 1]
        if length < 2 or at + length > end:
            raise MalformedError
        if kind == TCP_AO:
            if found >= 0 or length < AO_OVERHEAD:
                raise MalformedError
            found = at
        elif kind == TCP_MD5:
            md5 = True
        at += length
    if md5 and found >= 0:
        # As in Linux (tcp_parse_auth_options): a segment is protected by one of the two.
        raise MalformedError
    return found


def without_ao(options: bytes, at: int) -> bytes:
    """Return the options without the TCP-AO option at `at`, padded to a multiple of 4 octets."""
    left = options[:at] + options[at + options[at + 1] :]
    return left if not len(left) % 4 else _padded(left)


def make_room(options: bytes, taken: int, syn: bool) -> bytes | None:
    """Return the options, reduced to leave room for `taken` octets (a multiple of 4).

    None if impossible. Raises MalformedError.
    """
    room = LONGEST_OPTIONS - taken
    if len(options) <= room:
        return options
    parts = [part for part in _parts(options) if part[0] != NOP]
    too_long = sum(map(len, parts)) - room
    if too_long > 0:
        parts = list(_with_fewer_counters(parts, too_long))
        too_long = sum(map(len, parts)) - room
    if too_long > 0:
        parts = list(_with_fewer_blocks(parts, too_long))
    if syn and sum(map(len, parts)) > room:
        parts = [part for part in parts if part[0] in _KEPT_IN_SYN]
    fitting = b''.join(parts)
    return _padded(fitting) if len(fitting) <= room else None


def mss_of(options: bytes) -> int | None:
    """Return the MSS that a SYN announces, None if it has none. Raises MalformedError."""
    for part in _parts(options):
        if part[0] == MSS and len(part) == 4:
            return int.from_bytes(part[2:], 'big')
    return None


def with_lower_mss(options: bytes, version: int, ceiling: int | None) -> bytes:
    """Return a SYN's options with an MSS that leaves room for TCP-AO in our TCP's segments.

    `ceiling` is the MSS that fits our own link: the peer's may be larger, and TCP, which respects
    both, knows of the option in neither. The longest option is subtracted, since a successor of the
    MKT may have a longer MAC. Raises MalformedError.
    """
    announced = mss_of(options)
    limit = min(
        LARGEST_MSS[version],
        DEFAULT_MSS[version] if announced is None else announced,
        LARGEST_MSS[version] if ceiling is None else ceiling,
    )
    lower = max(limit - LONGEST_AO_OPTION, SMALLEST_MSS).to_bytes(2, 'big')
    if announced is None:
        return _padded(bytes((MSS, 4)) + lower + options)
    parts = list(_parts(options))
    return _padded(
        b''.join(part[:2] + lower if part[0] == MSS and len(part) == 4 else part for part in parts)
    )


def _parts(options: bytes) -> Iterator[bytes]:
    """Yield each option, up to the end-of-options mark."""
    at = 0
    while at < len(options) and options[at] != END:
        length = 1
        if options[at] != NOP:
            length = options[at + 1] if at + 1 < len(options) else 0
            if length < 2 or at + length > len(options):
                raise MalformedError
        yield options[at : at + length]
        at += length


def _with_fewer_counters(parts: list[bytes], too_long: int) -> Iterator[bytes]:
    """Remove AccECN's counters from the end; an option without counters is removed."""
    for part in parts:
        if part[0] in ACCECN and too_long > 0:
            counters = (len(part) - 2) // _ACCECN_COUNTER
            kept = counters - -(-too_long // _ACCECN_COUNTER)
            length = 2 + kept * _ACCECN_COUNTER if kept > 0 else 0
            too_long -= len(part) - length
            if length:
                yield bytes((part[0], length)) + part[2:length]
        else:
            yield part


def _with_fewer_blocks(parts: list[bytes], too_long: int) -> Iterator[bytes]:
    """Remove SACK blocks from the end: the first one is the most recent (RFC 2018 4)."""
    for part in parts:
        if part[0] == SACK and too_long > 0:
            blocks = (len(part) - 2) // _SACK_BLOCK
            kept = blocks - -(-too_long // _SACK_BLOCK)
            if kept > 0:
                length = 2 + kept * _SACK_BLOCK
                yield bytes((SACK, length)) + part[2:length]
        else:
            yield part


def _padded(options: bytes) -> bytes:
    return options + bytes((NOP,)) * (-len(options) % 4)

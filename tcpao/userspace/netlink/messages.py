"""Decoding of netlink messages and their attributes (include/uapi/linux/netlink.h).

For rare messages. `nfqueue` decodes packets itself, in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

HEADER: Final = Struct('=IHHII')
"""Length, type, flags, sequence number, port id; native byte order."""
ERROR: Final = 2
DONE: Final = 3

_ATTRIBUTE: Final = Struct('=HH')


class Message(NamedTuple):
    """One message, without its header."""

    kind: int
    flags: int
    port: int
    """Port id of the netlink socket that the message is about, or from."""
    body: bytes


def messages(octets: bytes) -> Iterator[Message]:
    """Yield the messages of one read, up to a malformed one, which the kernel never sends."""
    at = 0
    while at + HEADER.size <= len(octets):
        length, kind, flags, _, port = HEADER.unpack_from(octets, at)
        if length < HEADER.size:
            return
        yield Message(kind, flags, port, octets[at + HEADER.size : at + length])
        at += (length + 3) & ~3


def attribute(octets: bytes, wanted: int) -> bytes | None:
    """Return the value of the first attribute of this kind; None if there is none."""
    at = 0
    while at + _ATTRIBUTE.size <= len(octets):
        length, kind = _ATTRIBUTE.unpack_from(octets, at)
        if length < _ATTRIBUTE.size:
            return None
        if kind == wanted:
            return octets[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return None

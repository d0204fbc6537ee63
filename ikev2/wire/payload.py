"""The base of all payloads, and the generic payload header (RFC 7296, 3.2).

The payloads themselves are in payloads.py, payloads_sa.py and payloads_ts.py; chains of payloads in
message.py. RESERVED bits and octets are sent as zero and ignored on receipt. So decoding and
encoding again gives the same octets only for messages of a conforming sender.
"""

from __future__ import annotations

from struct import Struct
from typing import ClassVar, Protocol, Self

GENERIC_HEADER = Struct('>BBH')
"""Next payload, critical bit, payload length (RFC 7296, 3.2)."""
GENERIC_HEADER_LENGTH = GENERIC_HEADER.size
LARGEST_BODY = 0xFFFF - GENERIC_HEADER_LENGTH
CRITICAL = 0x80


class Payload(Protocol):
    """A payload without its generic header. Instances are immutable."""

    @property
    def payload_type(self) -> int:
        """Return the payload type number; fixed for a class, a field of `UnknownPayload`."""

    def encode(self, next_payload: int) -> bytes:
        """Return the payload with its generic header; `next_payload` is the type of the next
        payload.

        Raises ValueError if the payload is longer than its length field can say.
        """


class KnownPayload:
    """A payload whose type number belongs to the class, with a decoder. Abstract.

    The critical bit is never set: RFC 7296, 3.2 wants it zero for every payload defined there, and
    we send no others.
    """

    __slots__ = ()

    payload_type: ClassVar[int]

    def encode_body(self) -> bytes:
        """Return the octets after the generic payload header."""
        raise NotImplementedError

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        """Decode the octets after the generic payload header. Raises MalformedMessage."""
        raise NotImplementedError

    def encode(self, next_payload: int) -> bytes:
        body = self.encode_body()
        return generic_header(next_payload, len(body)) + body


def generic_header(next_payload: int, body_length: int, *, critical: bool = False) -> bytes:
    """Return the four octets before a payload's body."""
    if body_length > LARGEST_BODY:
        raise ValueError(f'a payload of {body_length} octets does not fit its length field')
    flags = CRITICAL if critical else 0
    return GENERIC_HEADER.pack(next_payload, flags, GENERIC_HEADER_LENGTH + body_length)

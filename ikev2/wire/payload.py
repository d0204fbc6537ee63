"""What all payloads have in common, and the generic payload header (RFC 7296, 3.2).

The payloads themselves are in payloads.py, payloads_sa.py and payloads_ts.py; chains of them in
message.py. RESERVED bits and octets are sent as zero and ignored on receipt, so decoding and
encoding again gives the same octets only for what a conforming sender makes.
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
        """Payload type number; fixed for a class, a field of `UnknownPayload`."""

    def encode(self, next_payload: int) -> bytes:
        """The payload with its generic header; `next_payload` is the type of the one after it.

        Raises ValueError if it gets longer than its length field can say.
        """


class KnownPayload:
    """A payload whose type number belongs to the class, with a decoder. Abstract.

    The critical bit is never set: RFC 7296, 3.2 wants it zero for every payload defined there,
    and we send no others.
    """

    __slots__ = ()

    payload_type: ClassVar[int]

    def encode_body(self) -> bytes:
        """The octets after the generic payload header."""
        raise NotImplementedError

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        """From the octets after the generic payload header. Raises MalformedMessage."""
        raise NotImplementedError

    def encode(self, next_payload: int) -> bytes:
        """The payload with its generic header; see `Payload.encode`."""
        body = self.encode_body()
        return generic_header(next_payload, len(body)) + body


def generic_header(next_payload: int, body_length: int, *, critical: bool = False) -> bytes:
    """The four octets before a payload's body."""
    if body_length > LARGEST_BODY:
        raise ValueError(f'a payload of {body_length} octets does not fit its length field')
    flags = CRITICAL if critical else 0
    return GENERIC_HEADER.pack(next_payload, flags, GENERIC_HEADER_LENGTH + body_length)

"""The SA payload and its substructures (RFC 7296, 3.3): the codec only.

What may be offered and which offer is chosen is in proposals.py and rp_proposals.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

from ikev2.constants import AttributeType, PayloadType
from ikev2.errors import MalformedMessage
from ikev2.payload import KnownPayload
from ikev2.reader import Reader

_LAST = 0
_MORE_PROPOSALS = 2
_MORE_TRANSFORMS = 3
_TV_FORMAT = 0x8000

# Both are numbered, or counted, in one octet (RFC 7296, 3.3.1): no honest list is longer.
LARGEST_LIST = 255

_Substructure = TypeVar('_Substructure')


@dataclass(frozen=True, slots=True)
class Attribute:
    """A transform attribute (RFC 7296, 3.3.5): `value` an int in TV form, octets in TLV form."""

    attribute_type: int
    value: int | bytes

    def encode(self) -> bytes:
        """TV form: four octets. TLV form: type, length, value."""
        if isinstance(self.value, int):
            return (self.attribute_type | _TV_FORMAT).to_bytes(2, 'big') + self.value.to_bytes(
                2, 'big'
            )
        return (
            self.attribute_type.to_bytes(2, 'big') + len(self.value).to_bytes(2, 'big') + self.value
        )

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one attribute. Raises MalformedMessage."""
        word = reader.uint16()
        if word & _TV_FORMAT:
            return cls(word & ~_TV_FORMAT, reader.uint16())
        return cls(word, reader.take(reader.uint16()))


@dataclass(frozen=True, slots=True)
class Transform:
    """A transform substructure (RFC 7296, 3.3.2)."""

    transform_type: int
    transform_id: int
    attributes: tuple[Attribute, ...] = ()

    @classmethod
    def make(cls, transform_type: int, transform_id: int, key_bits: int | None = None) -> Self:
        """A transform, with a Key Length attribute if `key_bits` is given."""
        if key_bits is None:
            return cls(transform_type, transform_id)
        return cls(transform_type, transform_id, (Attribute(AttributeType.KEY_LENGTH, key_bits),))

    def encode(self, *, last: bool) -> bytes:
        """The substructure's octets."""
        body = (
            bytes([self.transform_type, 0])
            + self.transform_id.to_bytes(2, 'big')
            + b''.join(attribute.encode() for attribute in self.attributes)
        )
        return _substructure_header(_LAST if last else _MORE_TRANSFORMS, body) + body

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """From the octets after the substructure's length. Raises MalformedMessage."""
        reader = Reader(body, 'transform')
        transform_type = reader.uint8()
        reader.take(1)
        transform_id = reader.uint16()
        attributes = []
        while reader.remaining:
            attributes.append(Attribute.read(reader))
        types = [attribute.attribute_type for attribute in attributes]
        if len(set(types)) != len(types):
            raise MalformedMessage('transform with two attributes of one type')
        return cls(transform_type, transform_id, tuple(attributes))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal substructure (RFC 7296, 3.3.1). `spi` is the sender's; may be empty."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]

    def of_type(self, transform_type: int) -> tuple[Transform, ...]:
        """The transforms of one type, in the sender's order."""
        return tuple(t for t in self.transforms if t.transform_type == transform_type)

    def encode(self, *, last: bool) -> bytes:
        """The substructure's octets."""
        final = len(self.transforms) - 1
        body = (
            bytes([self.number, self.protocol, len(self.spi), len(self.transforms)])
            + self.spi
            + b''.join(t.encode(last=i == final) for i, t in enumerate(self.transforms))
        )
        return _substructure_header(_LAST if last else _MORE_PROPOSALS, body) + body

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """From the octets after the substructure's length. Raises MalformedMessage."""
        reader = Reader(body, 'proposal')
        number = reader.uint8()
        protocol = reader.uint8()
        spi_size = reader.uint8()
        count = reader.uint8()
        spi = reader.take(spi_size)
        transforms = _read_substructures(reader, _MORE_TRANSFORMS, Transform.decode)
        if len(transforms) != count:
            raise MalformedMessage(f'{len(transforms)} transforms where {count} are announced')
        return cls(number, protocol, spi, transforms)


@dataclass(frozen=True, slots=True)
class SaPayload(KnownPayload):
    """SA (RFC 7296, 3.3): one or more proposals, the most preferred first."""

    payload_type: ClassVar[int] = PayloadType.SA

    proposals: tuple[Proposal, ...]

    def encode_body(self) -> bytes:
        final = len(self.proposals) - 1
        return b''.join(p.encode(last=i == final) for i, p in enumerate(self.proposals))

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        proposals = _read_substructures(
            Reader(body, 'SA payload'), _MORE_PROPOSALS, Proposal.decode
        )
        if not proposals:
            raise MalformedMessage('SA payload without a proposal')
        return cls(proposals)


def _substructure_header(more: int, body: bytes) -> bytes:
    return bytes([more, 0]) + (4 + len(body)).to_bytes(2, 'big')


def _read_substructures(
    reader: Reader, more: int, decode: Callable[[bytes], _Substructure]
) -> tuple[_Substructure, ...]:
    """Read a list to the reader's end; the "last" mark must be on the last one and only there."""
    found: list[_Substructure] = []
    while reader.remaining:
        if len(found) == LARGEST_LIST:
            raise MalformedMessage(f'more than {LARGEST_LIST} proposals or transforms')
        mark = reader.uint8()
        reader.take(1)
        length = reader.uint16()
        found.append(decode(reader.take(length - 4)))
        if mark != (more if reader.remaining else _LAST):
            raise MalformedMessage('substructure with a wrong "last" mark')
    return tuple(found)

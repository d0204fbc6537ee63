"""The SA payload and its substructures (RFC 7296, 3.3): the codec only.

ikev2.proposals decides what may be offered and which offer is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, NamedTuple, Self, TypeVar

from ikev2.constants import AttributeType, PayloadType
from ikev2.errors import MalformedMessage
from ikev2.wire.payload import KnownPayload
from ikev2.wire.reader import Reader

_LAST = 0
_MORE_PROPOSALS = 2
_MORE_TRANSFORMS = 3
_TV_FORMAT = 0x8000

_SUBSTRUCTURE = Struct('>BxH')
_PROPOSAL = Struct('>BBBB')
_TRANSFORM = Struct('>BxH')
_ATTRIBUTE = Struct('>HH')

# Proposals and transforms are numbered, or counted, in one octet (RFC 7296, 3.3.1): no honest list
# is longer.
LARGEST_LIST = 255

_Substructure = TypeVar('_Substructure')


class Attribute(NamedTuple):
    """A transform attribute (RFC 7296, 3.3.5): `value` is an int in TV form, octets in TLV form."""

    attribute_type: int
    value: int | bytes

    def encode(self) -> bytes:
        """Return the attribute's octets. TV form: four octets. TLV form: type, length, value."""
        if isinstance(self.value, int):
            return _ATTRIBUTE.pack(self.attribute_type | _TV_FORMAT, self.value)
        return _ATTRIBUTE.pack(self.attribute_type, len(self.value)) + self.value

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one attribute. Raises MalformedMessage."""
        word, value = reader.unpack(_ATTRIBUTE)
        if word & _TV_FORMAT:
            return cls(word & ~_TV_FORMAT, value)
        return cls(word, reader.take(value))


class Transform(NamedTuple):
    """A transform substructure (RFC 7296, 3.3.2)."""

    transform_type: int
    transform_id: int
    attributes: tuple[Attribute, ...] = ()

    @classmethod
    def make(cls, transform_type: int, transform_id: int, key_bits: int | None = None) -> Self:
        """Return a transform, with a Key Length attribute if `key_bits` is given."""
        if key_bits is None:
            return cls(transform_type, transform_id)
        return cls(transform_type, transform_id, (Attribute(AttributeType.KEY_LENGTH, key_bits),))

    def encode(self, *, last: bool) -> bytes:
        """Return the substructure's octets."""
        body = _TRANSFORM.pack(self.transform_type, self.transform_id)
        for attribute in self.attributes:
            body += attribute.encode()
        return _substructure_header(_LAST if last else _MORE_TRANSFORMS, body) + body

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Decode the octets after the substructure's length. Raises MalformedMessage."""
        if len(body) == _TRANSFORM.size:
            return cls(*_TRANSFORM.unpack(body))
        reader = Reader(body, 'transform')
        transform_type, transform_id = reader.unpack(_TRANSFORM)
        attributes = []
        while reader.remaining:
            attributes.append(Attribute.read(reader))
        types = [attribute.attribute_type for attribute in attributes]
        if len(set(types)) != len(types):
            raise MalformedMessage('transform with two attributes of one type')
        return cls(transform_type, transform_id, tuple(attributes))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal substructure (RFC 7296, 3.3.1). `spi` is the sender's and may be empty."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]

    def of_type(self, transform_type: int) -> tuple[Transform, ...]:
        """Return the transforms of one type, in the sender's order."""
        return tuple(t for t in self.transforms if t.transform_type == transform_type)

    def encode(self, *, last: bool) -> bytes:
        """Return the substructure's octets."""
        final = len(self.transforms) - 1
        body = (
            _PROPOSAL.pack(self.number, self.protocol, len(self.spi), len(self.transforms))
            + self.spi
            + b''.join(t.encode(last=i == final) for i, t in enumerate(self.transforms))
        )
        return _substructure_header(_LAST if last else _MORE_PROPOSALS, body) + body

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Decode the octets after the substructure's length. Raises MalformedMessage."""
        reader = Reader(body, 'proposal')
        number, protocol, spi_size, count = reader.unpack(_PROPOSAL)
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
    return _SUBSTRUCTURE.pack(more, _SUBSTRUCTURE.size + len(body))


def _read_substructures(
    reader: Reader, more: int, decode: Callable[[bytes], _Substructure]
) -> tuple[_Substructure, ...]:
    """Read a list to the reader's end; exactly the last substructure must have the "last" mark."""
    found: list[_Substructure] = []
    left = reader.remaining
    while left:
        if len(found) == LARGEST_LIST:
            raise MalformedMessage(f'more than {LARGEST_LIST} proposals or transforms')
        mark, length = reader.unpack(_SUBSTRUCTURE)
        found.append(decode(reader.take(length - _SUBSTRUCTURE.size)))
        left = reader.remaining
        if mark != (more if left else _LAST):
            raise MalformedMessage('substructure with a wrong "last" mark')
    return tuple(found)

"""The payloads of RFC 7296, 3.4 to 3.12, one frozen dataclass each.

SA is in payloads_sa.py, TSi and TSr in payloads_ts.py; SK and SKF are here only as the sealed
octets on the wire (sa/protection.py opens them). CP, EAP and unknown types are `UnknownPayload`.
Nothing here knows an exchange or a policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Self

from ikev2.constants import PayloadType
from ikev2.errors import MalformedMessage
from ikev2.wire.payload import KnownPayload, generic_header
from ikev2.wire.reader import Reader

SMALLEST_NONCE = 16  # RFC 7296, 3.9
LARGEST_NONCE = 256

_KE = Struct('>H2x')
_ID = Struct('>B3s')
_AUTH = Struct('>B3x')
_NOTIFY = Struct('>BBH')
_DELETE = Struct('>BBH')
_SKF = Struct('>HH')


@dataclass(frozen=True, slots=True)
class KeyExchangePayload(KnownPayload):
    """KE (RFC 7296, 3.4): a public value of one key exchange method."""

    payload_type: ClassVar[int] = PayloadType.KE

    group: int
    """Transform Type 4 id."""
    data: bytes
    """The public value as the method's RFC encodes it."""

    def encode_body(self) -> bytes:
        return _KE.pack(self.group) + self.data

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        reader = Reader(body, 'KE payload')
        (group,) = reader.unpack(_KE)
        return cls(group, reader.rest())


@dataclass(frozen=True, slots=True)
class IdentificationPayload(KnownPayload):
    """IDi or IDr (RFC 7296, 3.5).

    `body` is RestOfInitIDPayload or RestOfRespIDPayload of RFC 7296, 2.15: the octets that AUTH
    covers. `reserved` is kept because it is under AUTH as the sender sent it.
    """

    id_type: int
    data: bytes
    reserved: bytes = bytes(3)

    def __post_init__(self) -> None:
        if len(self.reserved) != 3:
            raise ValueError('the RESERVED field of an ID payload has three octets')

    def encode_body(self) -> bytes:
        return _ID.pack(self.id_type, self.reserved) + self.data

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        reader = Reader(body, 'ID payload')
        id_type, reserved = reader.unpack(_ID)
        return cls(id_type, reader.rest(), reserved)


@dataclass(frozen=True, slots=True)
class IdiPayload(IdentificationPayload):
    """IDi."""

    payload_type: ClassVar[int] = PayloadType.IDI


@dataclass(frozen=True, slots=True)
class IdrPayload(IdentificationPayload):
    """IDr."""

    payload_type: ClassVar[int] = PayloadType.IDR


@dataclass(frozen=True, slots=True)
class CertificatePayload(KnownPayload):
    """CERT (RFC 7296, 3.6; raw public keys RFC 7670, 3)."""

    payload_type: ClassVar[int] = PayloadType.CERT

    encoding: int
    data: bytes

    def encode_body(self) -> bytes:
        return bytes([self.encoding]) + self.data

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        reader = Reader(body, 'CERT payload')
        return cls(reader.uint8(), reader.rest())


@dataclass(frozen=True, slots=True)
class CertificateRequestPayload(KnownPayload):
    """CERTREQ (RFC 7296, 3.7)."""

    payload_type: ClassVar[int] = PayloadType.CERTREQ

    encoding: int
    authorities: bytes = b''
    """Concatenated SHA-1 hashes of trust anchors' SubjectPublicKeyInfo; empty for raw keys."""

    def encode_body(self) -> bytes:
        return bytes([self.encoding]) + self.authorities

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        reader = Reader(body, 'CERTREQ payload')
        return cls(reader.uint8(), reader.rest())


@dataclass(frozen=True, slots=True)
class AuthPayload(KnownPayload):
    """AUTH (RFC 7296, 3.8)."""

    payload_type: ClassVar[int] = PayloadType.AUTH

    method: int
    data: bytes

    def encode_body(self) -> bytes:
        return _AUTH.pack(self.method) + self.data

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        reader = Reader(body, 'AUTH payload')
        (method,) = reader.unpack(_AUTH)
        return cls(method, reader.rest())


@dataclass(frozen=True, slots=True)
class NoncePayload(KnownPayload):
    """Ni or Nr (RFC 7296, 3.9): 16 to 256 octets."""

    payload_type: ClassVar[int] = PayloadType.NONCE

    data: bytes

    def __post_init__(self) -> None:
        if not SMALLEST_NONCE <= len(self.data) <= LARGEST_NONCE:
            raise ValueError(f'a nonce has 16 to 256 octets, not {len(self.data)}')

    def encode_body(self) -> bytes:
        return self.data

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        if not SMALLEST_NONCE <= len(body) <= LARGEST_NONCE:
            raise MalformedMessage(f'nonce of {len(body)} octets')
        return cls(body)


@dataclass(frozen=True, slots=True)
class NotifyPayload(KnownPayload):
    """N (RFC 7296, 3.10). `protocol` is 0 and `spi` empty unless the notify concerns a child SA."""

    payload_type: ClassVar[int] = PayloadType.NOTIFY

    notify_type: int
    data: bytes = b''
    protocol: int = 0
    spi: bytes = b''

    def encode_body(self) -> bytes:
        header = _NOTIFY.pack(self.protocol, len(self.spi), self.notify_type)
        return header + self.spi + self.data

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        reader = Reader(body, 'Notify payload')
        protocol, spi_size, notify_type = reader.unpack(_NOTIFY)
        spi = reader.take(spi_size)
        return cls(notify_type, reader.rest(), protocol, spi)


@dataclass(frozen=True, slots=True)
class DeletePayload(KnownPayload):
    """D (RFC 7296, 3.11). `spis` is empty exactly for the IKE SA (protocol 1)."""

    payload_type: ClassVar[int] = PayloadType.DELETE

    protocol: int
    spis: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len({len(spi) for spi in self.spis}) > 1 or b'' in self.spis:
            raise ValueError('the SPIs of a Delete payload have one length, which is not zero')

    def encode_body(self) -> bytes:
        spi_size = len(self.spis[0]) if self.spis else 0
        return _DELETE.pack(self.protocol, spi_size, len(self.spis)) + b''.join(self.spis)

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        reader = Reader(body, 'Delete payload')
        protocol, spi_size, count = reader.unpack(_DELETE)
        if count and not spi_size:
            raise MalformedMessage(f'Delete payload with {count} SPIs of no octets')
        if reader.remaining != count * spi_size:
            raise MalformedMessage('Delete payload whose SPIs do not fill it')
        return cls(protocol, tuple(reader.take(spi_size) for _ in range(count)))


@dataclass(frozen=True, slots=True)
class VendorIdPayload(KnownPayload):
    """V (RFC 7296, 3.12)."""

    payload_type: ClassVar[int] = PayloadType.VENDOR_ID

    vendor_id: bytes

    def encode_body(self) -> bytes:
        return self.vendor_id

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        return cls(body)


@dataclass(frozen=True, slots=True)
class EncryptedPayload(KnownPayload):
    """SK (RFC 7296, 3.14), sealed: IV, ciphertext and integrity check value.

    `first_payload` is the type of the first payload inside: on the wire it stands in the Next
    Payload field, since SK is always the last payload.
    """

    payload_type: ClassVar[int] = PayloadType.SK

    sealed: bytes
    first_payload: int = PayloadType.NO_NEXT_PAYLOAD

    def encode(self, next_payload: int) -> bytes:
        return _last(next_payload, self.first_payload, self.sealed)

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        return cls(body)


@dataclass(frozen=True, slots=True)
class EncryptedFragmentPayload(KnownPayload):
    """SKF (RFC 7383, 2.5), sealed. `number` counts from 1 to `total`.

    `first_payload` is the type of the first payload inside in fragment 1 and 0 in the others.
    """

    payload_type: ClassVar[int] = PayloadType.SKF

    number: int
    total: int
    sealed: bytes
    first_payload: int = PayloadType.NO_NEXT_PAYLOAD

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.total <= 0xFFFF:
            raise ValueError(f'there is no fragment {self.number} of {self.total}')

    def encode(self, next_payload: int) -> bytes:
        body = _SKF.pack(self.number, self.total) + self.sealed
        return _last(next_payload, self.first_payload, body)

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        reader = Reader(body, 'SKF payload')
        number, total = reader.unpack(_SKF)
        if not 1 <= number <= total:
            raise MalformedMessage(f'fragment {number} of {total}')
        return cls(number, total, reader.rest())


def _last(next_payload: int, first_payload: int, body: bytes) -> bytes:
    if next_payload != PayloadType.NO_NEXT_PAYLOAD:
        raise ValueError('nothing follows an SK or SKF payload')
    return generic_header(first_payload, len(body)) + body


@dataclass(frozen=True, slots=True)
class UnknownPayload:
    """A payload that we do not interpret, kept unchanged (RFC 7296, 2.5)."""

    payload_type: int
    data: bytes
    critical: bool = False

    def encode(self, next_payload: int) -> bytes:
        """Return the payload with its generic header and its critical bit unchanged."""
        header = generic_header(next_payload, len(self.data), critical=self.critical)
        return header + self.data

"""The IKE header and chains of payloads: datagrams to messages and back (RFC 7296, 3.1, 3.2).

Nothing is decrypted here: an SK or SKF payload stays sealed (sa/protection.py). The datagram has no
non-ESP marker. The engine decides what a message means.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Self, TypeVar

from ikev2.constants import (
    FIRST_STATUS_NOTIFY,
    IKE_MAJOR_VERSION,
    IKE_MINOR_VERSION,
    HeaderFlag,
    NotifyType,
    PayloadType,
)
from ikev2.errors import (
    ContradictoryAnswer,
    MalformedMessage,
    UnsupportedCriticalPayload,
    UnsupportedVersion,
)
from ikev2.wire.payload import (
    CRITICAL,
    GENERIC_HEADER,
    GENERIC_HEADER_LENGTH,
    KnownPayload,
    Payload,
)
from ikev2.wire.payloads import (
    AuthPayload,
    CertificatePayload,
    CertificateRequestPayload,
    DeletePayload,
    EncryptedFragmentPayload,
    EncryptedPayload,
    IdiPayload,
    IdrPayload,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    UnknownPayload,
    VendorIdPayload,
)
from ikev2.wire.payloads_sa import SaPayload
from ikev2.wire.payloads_ts import TsiPayload, TsrPayload
from ikev2.wire.reader import Reader

# SPIs; next payload, version, exchange type, flags; Message ID, length (RFC 7296, 3.1).
_HEADER = Struct('>8s8sBBBBII')
HEADER_LENGTH = _HEADER.size
SPI_LENGTH = 8
# Payloads of one message, our limit: no exchange needs a tenth of this number, and a chain of empty
# payloads in a datagram of 64 kB would otherwise make 16,000 objects.
LARGEST_PAYLOAD_COUNT = 256

PAYLOAD_CLASSES: dict[int, type[KnownPayload]] = {
    payload.payload_type: payload
    for payload in (
        SaPayload,
        KeyExchangePayload,
        IdiPayload,
        IdrPayload,
        CertificatePayload,
        CertificateRequestPayload,
        AuthPayload,
        NoncePayload,
        NotifyPayload,
        DeletePayload,
        VendorIdPayload,
        TsiPayload,
        TsrPayload,
    )
}
# Payloads of RFC 7296 that we carry without decoding. Their critical bit is ignored too (RFC 7296,
# 3.2: "MUST be ignored by the recipient if the recipient understands the payload type").
_OPAQUE = frozenset({PayloadType.CP, PayloadType.EAP})
_SEALED = frozenset({PayloadType.SK, PayloadType.SKF})

_P = TypeVar('_P', bound=Payload)


@dataclass(frozen=True, slots=True)
class Header:
    """The IKE header (RFC 7296, 3.1) without Next Payload and Length, which `encode` is given."""

    initiator_spi: bytes
    """8 octets."""
    responder_spi: bytes
    """8 octets; all zero in the first message of IKE_SA_INIT."""
    exchange_type: int
    message_id: int
    initiator: bool
    """Flag I: sent by the original initiator of the IKE SA."""
    response: bool
    """Flag R: a response."""
    minor_version: int = IKE_MINOR_VERSION

    def __post_init__(self) -> None:
        if len(self.initiator_spi) != SPI_LENGTH or len(self.responder_spi) != SPI_LENGTH:
            raise ValueError('an IKE SPI has eight octets')

    def encode(self, next_payload: int, length: int) -> bytes:
        """Return the 28 octets of the header; `length` is that of the whole message."""
        return _HEADER.pack(
            self.initiator_spi,
            self.responder_spi,
            next_payload,
            IKE_MAJOR_VERSION << 4 | self.minor_version,
            self.exchange_type,
            self.initiator * HeaderFlag.INITIATOR | self.response * HeaderFlag.RESPONSE,
            self.message_id,
            length,
        )

    @classmethod
    def decode(cls, datagram: bytes) -> Header:
        """Decode the header of a whole datagram.

        Raises MalformedMessage, also if its Length is not the datagram's, and UnsupportedVersion if
        the major version is above 2 (RFC 7296, 2.5). The version flag and minor version are no
        reason to refuse.
        """
        return _decode_header(datagram)[0]


@dataclass(frozen=True, slots=True)
class Message:
    """A header and its payloads in order."""

    header: Header
    payloads: tuple[Payload, ...]
    clear: bytes = field(default=b'', compare=False, repr=False)
    """Octets of an opened IKE_INTERMEDIATE message that AUTH covers (RFC 9242, 3.3.2)."""

    def encode(self) -> bytes:
        """Return the datagram of an unprotected message (IKE_SA_INIT, or errors outside an IKE
        SA).
        """
        first, chain = encode_chain(self.payloads)
        return self.header.encode(first, HEADER_LENGTH + len(chain)) + chain

    @classmethod
    def decode(cls, datagram: bytes) -> Self:
        """Decode a datagram; an SK or SKF payload, if there is one, is last and still sealed.

        Raises MalformedMessage, UnsupportedVersion, UnsupportedCriticalPayload.
        """
        header, first = _decode_header(datagram)
        return cls(header, decode_chain(first, datagram[HEADER_LENGTH:], sealed=True))

    def all(self, kind: type[_P]) -> list[_P]:
        """Return the payloads of one class, in order."""
        return [payload for payload in self.payloads if type(payload) is kind]

    def find(self, kind: type[_P]) -> _P | None:
        """Return the only payload of a class, or None if there is none.

        Raises MalformedMessage if there are two.
        """
        one: _P | None = None
        for payload in self.payloads:
            if type(payload) is kind:
                if one is not None:
                    raise MalformedMessage(f'more than one payload of type {one.payload_type}')
                one = payload
        return one

    def require(self, kind: type[_P]) -> _P:
        """Return the only payload of a class.

        Raises MalformedMessage if there is none or more than one.
        """
        found = self.find(kind)
        if found is None:
            raise MalformedMessage(f'{kind.__name__} is missing')
        return found

    def notifies(self, notify_type: NotifyType) -> list[NotifyPayload]:
        """Return the Notify payloads of one type."""
        return [n for n in self.all(NotifyPayload) if n.notify_type == notify_type]

    def notify(self, notify_type: NotifyType) -> NotifyPayload | None:
        """Return the first Notify payload of one type, or None."""
        for payload in self.payloads:
            if type(payload) is NotifyPayload and payload.notify_type == notify_type:
                return payload
        return None

    @property
    def errors(self) -> list[NotifyPayload]:
        """Return the Notify payloads of an error type, known or not (RFC 7296, 3.10.1)."""
        return [n for n in self.all(NotifyPayload) if n.notify_type < FIRST_STATUS_NOTIFY]

    def expect_success(self, tolerated: Container[int] = ()) -> None:
        """Check that a response which grants something reports no error as well.

        A response of Notify payloads alone is a plain refusal, which its exchange reads.
        `tolerated` are error types that leave what was granted valid. Raises ContradictoryAnswer:
        the request has failed entirely (RFC 7296, 3.10.1, which says so of the error types that a
        receiver doesn't know).
        """
        error, grants = None, False
        for payload in self.payloads:
            if not isinstance(payload, NotifyPayload):
                grants = True
            elif payload.notify_type < FIRST_STATUS_NOTIFY and payload.notify_type not in tolerated:
                error = payload.notify_type
        if grants and error is not None:
            raise ContradictoryAnswer(error)


def encode_chain(payloads: Sequence[Payload]) -> tuple[int, bytes]:
    """Return the type of the first payload (0 if there is none) and the octets of all."""
    following: int = PayloadType.NO_NEXT_PAYLOAD
    octets = []
    for payload in reversed(payloads):
        octets.append(payload.encode(following))
        following = payload.payload_type
    return following, b''.join(reversed(octets))


def decode_chain(first: int, data: bytes, *, sealed: bool = False) -> tuple[Payload, ...]:
    """Return the payloads that fill `data` exactly; `first` is the type of the first payload.

    `sealed` allows an SK or SKF payload at the end; an SK payload cannot contain another. Raises
    MalformedMessage and UnsupportedCriticalPayload.
    """
    reader = Reader(data, 'payloads')
    payloads: list[Payload] = []
    kind = first
    while kind != PayloadType.NO_NEXT_PAYLOAD:
        if len(payloads) == LARGEST_PAYLOAD_COUNT:
            raise MalformedMessage(f'more than {LARGEST_PAYLOAD_COUNT} payloads')
        following, flags, length = reader.unpack(GENERIC_HEADER)
        body = reader.take(length - GENERIC_HEADER_LENGTH)
        if kind in _SEALED:
            if not sealed:
                raise MalformedMessage('an encrypted payload within another')
            payloads.append(_sealed(kind, body, following))
            break
        payloads.append(_decode_payload(kind, body, bool(flags & CRITICAL)))
        kind = following
    reader.expect_end()
    return tuple(payloads)


def _sealed(kind: int, body: bytes, first_payload: int) -> Payload:
    if kind == PayloadType.SK:
        return EncryptedPayload(body, first_payload)
    fragment = EncryptedFragmentPayload.decode_body(body)
    if fragment.number != 1 and first_payload != PayloadType.NO_NEXT_PAYLOAD:
        raise MalformedMessage('a later fragment that names a first payload')  # RFC 7383, 2.5
    return EncryptedFragmentPayload(fragment.number, fragment.total, fragment.sealed, first_payload)


def _decode_payload(kind: int, body: bytes, critical: bool) -> Payload:
    known = PAYLOAD_CLASSES.get(kind)
    if known is not None:
        return known.decode_body(body)
    if critical and kind not in _OPAQUE:
        raise UnsupportedCriticalPayload(kind)
    return UnknownPayload(kind, body, critical)


def _decode_header(datagram: bytes) -> tuple[Header, int]:
    if len(datagram) < HEADER_LENGTH:
        raise MalformedMessage(f'{len(datagram)} octets are no IKE header')
    fields = _HEADER.unpack_from(datagram)
    spi_i, spi_r, next_payload, version, exchange_type, flags, message_id, length = fields
    major, minor = version >> 4, version & 0x0F
    # A newer version may have another length field: look at the version first.
    if major > IKE_MAJOR_VERSION:
        raise UnsupportedVersion(major)
    if major < IKE_MAJOR_VERSION:
        raise MalformedMessage(f'IKE major version {major}')
    if length != len(datagram):
        raise MalformedMessage(f'Length {length} in a datagram of {len(datagram)} octets')
    header = Header(
        spi_i,
        spi_r,
        exchange_type,
        message_id,
        bool(flags & HeaderFlag.INITIATOR),
        bool(flags & HeaderFlag.RESPONSE),
        minor,
    )
    return header, next_payload

"""Sealing messages into SK and SKF payloads, and opening them (RFC 7296, 3.14; RFC 7383, 2.5).

The associated data is everything from the IKE header to the end of the encrypted payload's own
header, fragment numbers included (RFC 5282, 5.1).

Errors tell faults that an attacker can cause from faults of the authenticated peer: any fault
before the integrity check has passed is `IntegrityFailure`, to be dropped in silence;
`MalformedMessage` and `UnsupportedCriticalPayload` come only from authentic content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ikev2.constants import ExchangeType, PayloadType
from ikev2.crypto.cipher import Cipher
from ikev2.errors import IntegrityFailure, MalformedMessage, PeerError
from ikev2.sa.intermediate import authenticated_octets, whole_from_fragment
from ikev2.wire.message import HEADER_LENGTH, Header, Message, decode_chain, encode_chain
from ikev2.wire.payload import GENERIC_HEADER_LENGTH, Payload, generic_header
from ikev2.wire.payloads import EncryptedFragmentPayload, EncryptedPayload

_FRAGMENT_FIELDS = 4
_LARGEST_FRAGMENT_COUNT = 0xFFFF


@dataclass(frozen=True, slots=True)
class Fragment:
    """An authentic fragment: a piece of the plaintext of the original SK payload."""

    header: Header
    number: int
    total: int
    first_payload: int
    content: bytes
    associated: bytes = field(repr=False)
    """Everything before the sealed octets."""


def is_fragment(datagram: bytes) -> bool:
    """Return True if a message, sealed or not, begins with an SKF payload.

    Authenticates nothing.
    """
    return len(datagram) > 16 and datagram[16] == PayloadType.SKF


def seal_message(header: Header, payloads: Sequence[Payload], cipher: Cipher, iv: bytes) -> bytes:
    """Return the datagram with all payloads in one SK payload. `iv` as from `cipher.make_iv`.

    Raises ValueError if the content does not fit a payload's length field.
    """
    first, content = encode_chain(payloads)
    return _seal(header, PayloadType.SK, first, b'', content, cipher, iv)


def open_message(datagram: bytes, cipher: Cipher) -> Message:
    """Return the message with the payloads that were inside its SK payload.

    Payloads before the SK payload (no exchange has any) are authenticated but left out.
    """
    header, payload, associated = _locate(datagram)
    if not isinstance(payload, EncryptedPayload):
        raise IntegrityFailure('a fragment where a whole message is wanted')
    content = _strip_padding(cipher.open(payload.sealed, associated))
    return _message(header, payload.first_payload, content, associated)


def seal_fragments(
    header: Header,
    payloads: Sequence[Payload],
    cipher: Cipher,
    make_iv: Callable[[], bytes],
    largest_datagram: int,
) -> list[bytes]:
    """Return the datagrams of a fragmented message, none longer than `largest_datagram` octets.

    That length is of the IKE message: without UDP and IP headers and non-ESP marker. Each fragment
    gets its own IV from `make_iv`. Raises ValueError if the limit leaves no room for content.
    """
    first, content = encode_chain(payloads)
    outer = HEADER_LENGTH + GENERIC_HEADER_LENGTH + _FRAGMENT_FIELDS
    room = largest_datagram - outer - cipher.encryption.sealed_length(0)
    size = room - room % cipher.encryption.block_length - 1
    if size < 1:
        raise ValueError(f'no room for content in datagrams of {largest_datagram} octets')
    pieces = [content[i : i + size] for i in range(0, len(content), size)] or [b'']
    if len(pieces) > _LARGEST_FRAGMENT_COUNT:
        raise ValueError(f'{len(pieces)} fragments')
    total = len(pieces).to_bytes(2, 'big')
    return [
        _seal(
            header,
            PayloadType.SKF,
            first if index == 0 else PayloadType.NO_NEXT_PAYLOAD,
            (index + 1).to_bytes(2, 'big') + total,
            piece,
            cipher,
            make_iv(),
        )
        for index, piece in enumerate(pieces)
    ]


def open_fragment(datagram: bytes, cipher: Cipher) -> Fragment:
    """Return one authentic fragment. Raises IntegrityFailure, MalformedMessage."""
    header, payload, associated = _locate(datagram)
    if not isinstance(payload, EncryptedFragmentPayload):
        raise IntegrityFailure('a whole message where a fragment is wanted')
    content = _strip_padding(cipher.open(payload.sealed, associated))
    return Fragment(
        header, payload.number, payload.total, payload.first_payload, content, associated
    )


def assemble(fragments: Sequence[Fragment]) -> Message:
    """Return the message of a complete set of fragments, given in order from 1 to `total`.

    Raises MalformedMessage and UnsupportedCriticalPayload.
    """
    numbers = [(fragment.number, fragment.total) for fragment in fragments]
    if not fragments or numbers != [(n, len(numbers)) for n in range(1, len(numbers) + 1)]:
        raise ValueError('not a complete set of fragments in order')
    content = b''.join(fragment.content for fragment in fragments)
    first = fragments[0]
    associated = whole_from_fragment(first.associated)
    return _message(first.header, first.first_payload, content, associated)


def _message(header: Header, first: int, content: bytes, associated: bytes) -> Message:
    """Decode the content of a message. Raises MalformedMessage, UnsupportedCriticalPayload."""
    clear = b''
    if header.exchange_type == ExchangeType.IKE_INTERMEDIATE:
        clear = authenticated_octets(associated, content)
    return Message(header, decode_chain(first, content), clear)


def _seal(
    header: Header,
    kind: PayloadType,
    first: int,
    fields: bytes,
    content: bytes,
    cipher: Cipher,
    iv: bytes,
) -> bytes:
    block = cipher.encryption.block_length
    # RFC 7296, 3.14: the smallest padding, then one octet that holds its length.
    padding = -(len(content) + 1) % block
    plaintext = content + bytes(padding) + bytes([padding])
    body_length = len(fields) + cipher.encryption.sealed_length(len(plaintext))
    length = HEADER_LENGTH + GENERIC_HEADER_LENGTH + body_length
    associated = header.encode(kind, length) + generic_header(first, body_length) + fields
    return associated + cipher.seal(iv, plaintext, associated)


def _locate(
    datagram: bytes,
) -> tuple[Header, EncryptedPayload | EncryptedFragmentPayload, bytes]:
    """Return header, sealed payload and associated data."""
    try:
        message = Message.decode(datagram)
    except PeerError as error:
        raise IntegrityFailure(f'not authentic: {error}') from None
    payload = message.payloads[-1] if message.payloads else None
    if not isinstance(payload, EncryptedPayload | EncryptedFragmentPayload):
        raise IntegrityFailure('no encrypted payload')
    return message.header, payload, datagram[: len(datagram) - len(payload.sealed)]


def _strip_padding(plaintext: bytes) -> bytes:
    padding = plaintext[-1]
    if padding >= len(plaintext):
        raise MalformedMessage(f'{padding} octets of padding in {len(plaintext)}')
    return plaintext[: len(plaintext) - 1 - padding]

"""The IKE header and chains of payloads: RFC 7296, 2.5, 3.1, 3.2."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.constants import ExchangeType, NotifyType
from ikev2.errors import (
    MalformedMessage,
    PeerError,
    UnsupportedCriticalPayload,
    UnsupportedVersion,
)
from ikev2.wire.message import LARGEST_PAYLOAD_COUNT, Header, Message, decode_chain, encode_chain
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import (
    EncryptedPayload,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    UnknownPayload,
    VendorIdPayload,
)
from tests.ikev2.strategies import chains, messages, mutated

HEADER = Header(b'initiatr', b'respondr', ExchangeType.IKE_SA_INIT, 0x01020304, True, False)
NONCE = NoncePayload(bytes(range(16)))


@given(messages)
def test_message_round_trip_gives_same_message(message: Message) -> None:
    octets = message.encode()
    assert Message.decode(octets) == message
    assert Message.decode(octets).encode() == octets


@given(mutated(messages.map(Message.encode)))
def test_message_decodes_or_blames_peer_when_mutated(datagram: bytes) -> None:
    try:
        message = Message.decode(datagram)
    except PeerError:
        return
    assert Message.decode(message.encode()) == message


@given(mutated(messages.map(Message.encode)))
def test_message_decodes_or_blames_peer_when_length_is_true(
    datagram: bytes,
) -> None:
    fixed = datagram[:24] + len(datagram).to_bytes(4, 'big') + datagram[28:]
    try:
        message = Message.decode(fixed)
    except PeerError:
        return
    assert Message.decode(message.encode()) == message


@given(st.binary(max_size=200))
def test_message_decodes_or_blames_peer_when_octets_are_any(datagram: bytes) -> None:
    try:
        Message.decode(datagram)
    except PeerError:
        return


@given(st.integers(0, 255), st.binary(max_size=200), st.booleans())
def test_chain_decodes_or_blames_peer_when_arbitrary(
    first: int, octets: bytes, sealed: bool
) -> None:
    try:
        payloads = decode_chain(first, octets, sealed=sealed)
    except PeerError:
        return
    assert decode_chain(*encode_chain(payloads), sealed=sealed) == payloads


@given(chains)
def test_chain_must_end_with_datagram(chain: list[Payload]) -> None:
    first, octets = encode_chain(chain)
    with pytest.raises(PeerError):
        decode_chain(first, octets + b'\0')


def test_header_matches_octet_by_octet() -> None:
    # RFC 7296, 3.1, figure 4: SPIs, next payload, version 2.0, exchange, flags, id, length.
    octets = Message(HEADER, (NONCE,)).encode()
    assert octets[:28] == (b'initiatrrespondr' + bytes.fromhex('28 20 22 08 01020304 00000030'))


@pytest.mark.parametrize(
    ('initiator', 'response', 'flags'),
    [(True, False, 0x08), (False, True, 0x20), (True, True, 0x28), (False, False, 0x00)],
)
def test_header_encodes_flags(initiator: bool, response: bool, flags: int) -> None:
    header = replace(HEADER, initiator=initiator, response=response)
    octets = Message(header, ()).encode()
    assert octets[19] == flags
    assert Header.decode(octets) == header


def test_header_ignores_reserved_and_version_flags() -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[19] |= 0xD7
    assert Header.decode(bytes(octets)) == HEADER


def test_header_accepts_higher_minor_version() -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[17] = 0x2F
    assert Message.decode(bytes(octets)).payloads == (NONCE,)


def test_header_refuses_higher_major_version_with_ours() -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[17] = 0x30
    with pytest.raises(UnsupportedVersion) as caught:
        Header.decode(bytes(octets))
    assert caught.value.notify == NotifyType.INVALID_MAJOR_VERSION
    assert caught.value.notify_data == b'\x02'


def test_header_tells_higher_version_before_other_faults() -> None:
    octets = bytearray(Message(HEADER, ()).encode()) + b'beyond'
    octets[17] = 0x40
    with pytest.raises(UnsupportedVersion):
        Header.decode(bytes(octets))


def test_header_refuses_ikev1() -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[17] = 0x10
    with pytest.raises(MalformedMessage):
        Header.decode(bytes(octets))


@pytest.mark.parametrize('extra', [-1, 1])
def test_header_length_must_be_that_of_datagram(extra: int) -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[27] += extra
    with pytest.raises(MalformedMessage, match='Length'):
        Message.decode(bytes(octets))


def test_message_keeps_unknown_payload_when_not_critical() -> None:
    message = Message(HEADER, (UnknownPayload(200, b'abc'), NONCE))
    assert Message.decode(message.encode()) == message


def test_message_refuses_unknown_payload_when_critical() -> None:
    message = Message(HEADER, (UnknownPayload(200, b'abc', critical=True), NONCE))
    with pytest.raises(UnsupportedCriticalPayload) as caught:
        Message.decode(message.encode())
    assert caught.value.notify == NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD
    assert caught.value.notify_data == b'\xc8'


@pytest.mark.parametrize('kind', [47, 48])
def test_message_ignores_critical_bit_of_cp_and_eap(kind: int) -> None:
    # RFC 7296, 3.2: all payloads defined there are understood.
    message = Message(HEADER, (UnknownPayload(kind, b'abc', critical=True),))
    assert Message.decode(message.encode()) == message


def test_message_ignores_critical_bit_of_known_payload() -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[29] = 0x80
    assert Message.decode(bytes(octets)).payloads == (NONCE,)


def test_message_refuses_payload_after_sk() -> None:
    sealed = EncryptedPayload(bytes(40), 40)
    octets = Message(HEADER, (sealed,)).encode() + NONCE.encode(0)
    with pytest.raises(MalformedMessage):
        Message.decode(octets[:24] + len(octets).to_bytes(4, 'big') + octets[28:])
    with pytest.raises(ValueError, match='follows'):
        Message(HEADER, (sealed, NONCE)).encode()


def test_sk_payload_names_first_payload_inside() -> None:
    octets = Message(HEADER, (EncryptedPayload(b'sealed', 41),)).encode()
    assert octets[28:] == bytes.fromhex('29 00 000a') + b'sealed'


def test_sk_payload_is_refused_within_another() -> None:
    first, octets = encode_chain((EncryptedPayload(b'sealed', 0),))
    with pytest.raises(MalformedMessage, match='within'):
        decode_chain(first, octets)


def test_later_fragment_names_no_first_payload() -> None:
    # RFC 7383, 2.5.
    octets = bytes.fromhex('29 00 000c 0002 0003 00000000')
    with pytest.raises(MalformedMessage):
        decode_chain(53, octets, sealed=True)


def test_message_limits_number_of_payloads() -> None:
    many: list[Payload] = [VendorIdPayload(b'')] * LARGEST_PAYLOAD_COUNT
    assert len(decode_chain(*encode_chain(many))) == LARGEST_PAYLOAD_COUNT
    with pytest.raises(MalformedMessage, match='more than'):
        decode_chain(*encode_chain([*many, VendorIdPayload(b'')]))


def test_payload_shorter_than_header_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        decode_chain(43, bytes.fromhex('00000003'))


def test_message_finds_payloads() -> None:
    notify = NotifyPayload(NotifyType.COOKIE, b'c')
    message = Message(HEADER, (NONCE, notify, notify))
    assert message.require(NoncePayload) is NONCE
    assert message.find(KeyExchangePayload) is None
    assert message.notifies(NotifyType.COOKIE) == [notify, notify]
    assert message.notify(NotifyType.COOKIE) is notify
    assert message.notify(NotifyType.REKEY_SA) is None


def test_require_blames_peer_when_payload_is_missing() -> None:
    with pytest.raises(MalformedMessage, match='missing'):
        Message(HEADER, ()).require(NoncePayload)


def test_find_blames_peer_when_payload_comes_twice() -> None:
    with pytest.raises(MalformedMessage, match='more than one payload'):
        Message(HEADER, (NONCE, NONCE)).require(NoncePayload)


@pytest.mark.parametrize('size', [7, 9])
def test_header_refuses_spi_of_other_length(size: int) -> None:
    with pytest.raises(ValueError, match='eight octets'):
        replace(HEADER, responder_spi=bytes(size))

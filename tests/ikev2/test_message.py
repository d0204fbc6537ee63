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
def test_decoding_what_was_encoded_gives_the_same_message(message: Message) -> None:
    octets = message.encode()
    assert Message.decode(octets) == message
    assert Message.decode(octets).encode() == octets


@given(mutated(messages.map(Message.encode)))
def test_a_mutated_message_decodes_or_is_the_peers_fault(datagram: bytes) -> None:
    try:
        message = Message.decode(datagram)
    except PeerError:
        return
    assert Message.decode(message.encode()) == message


@given(mutated(messages.map(Message.encode)))
def test_a_mutated_message_with_a_true_length_decodes_or_is_the_peers_fault(
    datagram: bytes,
) -> None:
    fixed = datagram[:24] + len(datagram).to_bytes(4, 'big') + datagram[28:]
    try:
        message = Message.decode(fixed)
    except PeerError:
        return
    assert Message.decode(message.encode()) == message


@given(st.binary(max_size=200))
def test_arbitrary_octets_are_a_message_or_the_peers_fault(datagram: bytes) -> None:
    try:
        Message.decode(datagram)
    except PeerError:
        return


@given(st.integers(0, 255), st.binary(max_size=200), st.booleans())
def test_an_arbitrary_chain_decodes_or_is_the_peers_fault(
    first: int, octets: bytes, sealed: bool
) -> None:
    try:
        payloads = decode_chain(first, octets, sealed=sealed)
    except PeerError:
        return
    assert decode_chain(*encode_chain(payloads), sealed=sealed) == payloads


@given(chains)
def test_a_chain_must_end_where_the_datagram_ends(chain: list[Payload]) -> None:
    first, octets = encode_chain(chain)
    with pytest.raises(PeerError):
        decode_chain(first, octets + b'\0')


def test_the_header_octet_by_octet() -> None:
    # RFC 7296, 3.1, figure 4: SPIs, next payload, version 2.0, exchange, flags, id, length.
    octets = Message(HEADER, (NONCE,)).encode()
    assert octets[:28] == (b'initiatrrespondr' + bytes.fromhex('28 20 22 08 01020304 00000030'))


@pytest.mark.parametrize(
    ('initiator', 'response', 'flags'),
    [(True, False, 0x08), (False, True, 0x20), (True, True, 0x28), (False, False, 0x00)],
)
def test_the_flags(initiator: bool, response: bool, flags: int) -> None:
    header = replace(HEADER, initiator=initiator, response=response)
    octets = Message(header, ()).encode()
    assert octets[19] == flags
    assert Header.decode(octets) == header


def test_reserved_flags_and_the_version_flag_are_ignored() -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[19] |= 0xD7
    assert Header.decode(bytes(octets)) == HEADER


def test_a_higher_minor_version_is_no_reason_to_refuse() -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[17] = 0x2F
    assert Message.decode(bytes(octets)).payloads == (NONCE,)


def test_a_higher_major_version_is_answered_with_ours() -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[17] = 0x30
    with pytest.raises(UnsupportedVersion) as caught:
        Header.decode(bytes(octets))
    assert caught.value.notify == NotifyType.INVALID_MAJOR_VERSION
    assert caught.value.notify_data == b'\x02'


def test_a_higher_major_version_is_told_even_if_the_rest_makes_no_sense() -> None:
    octets = bytearray(Message(HEADER, ()).encode()) + b'beyond'
    octets[17] = 0x40
    with pytest.raises(UnsupportedVersion):
        Header.decode(bytes(octets))


def test_ikev1_is_malformed() -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[17] = 0x10
    with pytest.raises(MalformedMessage):
        Header.decode(bytes(octets))


@pytest.mark.parametrize('extra', [-1, 1])
def test_the_length_is_that_of_the_datagram(extra: int) -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[27] += extra
    with pytest.raises(MalformedMessage, match='Length'):
        Message.decode(bytes(octets))


def test_an_unknown_payload_without_the_critical_bit_is_kept() -> None:
    message = Message(HEADER, (UnknownPayload(200, b'abc'), NONCE))
    assert Message.decode(message.encode()) == message


def test_an_unknown_payload_with_the_critical_bit_refuses_the_message() -> None:
    message = Message(HEADER, (UnknownPayload(200, b'abc', critical=True), NONCE))
    with pytest.raises(UnsupportedCriticalPayload) as caught:
        Message.decode(message.encode())
    assert caught.value.notify == NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD
    assert caught.value.notify_data == b'\xc8'


@pytest.mark.parametrize('kind', [47, 48])
def test_the_critical_bit_of_cp_and_eap_is_ignored(kind: int) -> None:
    # RFC 7296, 3.2: all payloads defined there are understood.
    message = Message(HEADER, (UnknownPayload(kind, b'abc', critical=True),))
    assert Message.decode(message.encode()) == message


def test_the_critical_bit_of_a_known_payload_is_ignored() -> None:
    octets = bytearray(Message(HEADER, (NONCE,)).encode())
    octets[29] = 0x80
    assert Message.decode(bytes(octets)).payloads == (NONCE,)


def test_nothing_follows_an_sk_payload() -> None:
    sealed = EncryptedPayload(bytes(40), 40)
    octets = Message(HEADER, (sealed,)).encode() + NONCE.encode(0)
    with pytest.raises(MalformedMessage):
        Message.decode(octets[:24] + len(octets).to_bytes(4, 'big') + octets[28:])
    with pytest.raises(ValueError, match='follows'):
        Message(HEADER, (sealed, NONCE)).encode()


def test_an_sk_payload_names_the_first_payload_inside() -> None:
    octets = Message(HEADER, (EncryptedPayload(b'sealed', 41),)).encode()
    assert octets[28:] == bytes.fromhex('29 00 000a') + b'sealed'


def test_there_is_no_sk_payload_within_another() -> None:
    first, octets = encode_chain((EncryptedPayload(b'sealed', 0),))
    with pytest.raises(MalformedMessage, match='within'):
        decode_chain(first, octets)


def test_a_later_fragment_names_no_first_payload() -> None:
    # RFC 7383, 2.5.
    octets = bytes.fromhex('29 00 000c 0002 0003 00000000')
    with pytest.raises(MalformedMessage):
        decode_chain(53, octets, sealed=True)


def test_the_number_of_payloads_is_bounded() -> None:
    many: list[Payload] = [VendorIdPayload(b'')] * LARGEST_PAYLOAD_COUNT
    assert len(decode_chain(*encode_chain(many))) == LARGEST_PAYLOAD_COUNT
    with pytest.raises(MalformedMessage, match='more than'):
        decode_chain(*encode_chain([*many, VendorIdPayload(b'')]))


def test_a_payload_shorter_than_its_header_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        decode_chain(43, bytes.fromhex('00000003'))


def test_finding_payloads() -> None:
    notify = NotifyPayload(NotifyType.COOKIE, b'c')
    message = Message(HEADER, (NONCE, notify, notify))
    assert message.require(NoncePayload) is NONCE
    assert message.find(KeyExchangePayload) is None
    assert message.notifies(NotifyType.COOKIE) == [notify, notify]
    assert message.notify(NotifyType.COOKIE) is notify
    assert message.notify(NotifyType.REKEY_SA) is None


def test_a_missing_payload_is_the_peers_fault() -> None:
    with pytest.raises(MalformedMessage, match='missing'):
        Message(HEADER, ()).require(NoncePayload)


def test_two_payloads_where_one_belongs_are_the_peers_fault() -> None:
    with pytest.raises(MalformedMessage, match='more than one payload'):
        Message(HEADER, (NONCE, NONCE)).require(NoncePayload)


@pytest.mark.parametrize('size', [7, 9])
def test_an_ike_spi_has_eight_octets(size: int) -> None:
    with pytest.raises(ValueError, match='eight octets'):
        replace(HEADER, responder_spi=bytes(size))

"""Payload codecs: RFC 7296, 3.2 to 3.14, RFC 7383, 2.5."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from ikev2.constants import IntegrityId, ProtocolId, TransformType
from ikev2.errors import MalformedMessage, PeerError
from ikev2.wire.message import PAYLOAD_CLASSES
from ikev2.wire.payload import LARGEST_BODY, KnownPayload, Payload
from ikev2.wire.payloads import (
    DeletePayload,
    EncryptedFragmentPayload,
    IdiPayload,
    NoncePayload,
    NotifyPayload,
    VendorIdPayload,
)
from ikev2.wire.payloads_sa import Attribute, Proposal, SaPayload, Transform
from tests.ikev2.strategies import known_payloads, mutated

# docs: the wire profile's example; draft-mahesh-karp-rkmp-06, figure 4, with our numbers.
DRAFT_EXAMPLE = bytes.fromhex(
    '00000029 01c90104 010300000803000002030000080300000803000008f100000100000008f1000000'
)


@given(known_payloads)
def test_payload_round_trip_gives_same_payload(payload: Payload) -> None:
    assert isinstance(payload, KnownPayload)
    octets = payload.encode_body()
    decoded = type(payload).decode_body(octets)
    assert decoded == payload
    assert decoded.encode_body() == octets


@given(known_payloads, st.data())
def test_payload_decodes_or_blames_peer_when_mutated(payload: Payload, draw: st.DataObject) -> None:
    assert isinstance(payload, KnownPayload)
    octets = draw.draw(mutated(st.just(payload.encode_body())))
    try:
        decoded = type(payload).decode_body(octets)
    except PeerError:
        return
    # RESERVED fields and the like may differ, but what was understood is stable.
    assert type(payload).decode_body(decoded.encode_body()) == decoded


@pytest.mark.parametrize('known', PAYLOAD_CLASSES.values())
def test_payload_strategies_cover_every_class(known: type[KnownPayload]) -> None:
    find(known_payloads, lambda payload: type(payload) is known)  # raises NoSuchExample


@given(st.sampled_from(sorted(PAYLOAD_CLASSES)), st.binary(max_size=80))
def test_payload_decodes_or_blames_peer_when_octets_are_any(kind: int, octets: bytes) -> None:
    known = PAYLOAD_CLASSES[kind]
    try:
        decoded = known.decode_body(octets)
    except PeerError:
        return
    assert known.decode_body(decoded.encode_body()) == decoded


@given(known_payloads)
def test_payload_changes_meaning_when_its_end_is_lost(payload: Payload) -> None:
    assert isinstance(payload, KnownPayload)
    octets = payload.encode_body()
    for end in range(len(octets)):
        with suppress(MalformedMessage):
            assert type(payload).decode_body(octets[:end]) != payload


def test_generic_header_has_next_payload_and_length() -> None:
    assert VendorIdPayload(b'abc').encode(41) == b'\x29\x00\x00\x07abc'


def test_payload_is_refused_when_too_long_for_length_field() -> None:
    assert len(VendorIdPayload(bytes(LARGEST_BODY)).encode(0)) == 0xFFFF
    with pytest.raises(ValueError, match='length field'):
        VendorIdPayload(bytes(LARGEST_BODY + 1)).encode(0)


@pytest.mark.parametrize('size', [16, 256])
def test_nonce_payload_accepts_16_to_256_octets(size: int) -> None:
    assert NoncePayload.decode_body(bytes(size)).data == bytes(size)


@pytest.mark.parametrize('size', [0, 15, 257])
def test_nonce_payload_refuses_other_lengths(size: int) -> None:
    with pytest.raises(MalformedMessage):
        NoncePayload.decode_body(bytes(size))
    with pytest.raises(ValueError, match='16 to 256'):
        NoncePayload(bytes(size))


def test_id_payload_keeps_reserved_field_for_auth() -> None:
    body = bytes.fromhex('02 010203') + b'r1.lab'
    payload = IdiPayload.decode_body(body)
    assert payload.data == b'r1.lab'
    assert payload.encode_body() == body


def test_notify_payload_has_spi_of_child_sa() -> None:
    payload = NotifyPayload(16393, b'', ProtocolId.TCP_AO, b'\x11')
    assert payload.encode_body() == bytes.fromhex('c9 01 4009 11')


def test_delete_payload_of_ike_sa_has_no_spi() -> None:
    assert DeletePayload(ProtocolId.IKE).encode_body() == bytes.fromhex('01 00 0000')


@pytest.mark.parametrize(
    'body',
    [
        'c9 01 0002 11',  # fewer SPIs than announced
        'c9 01 0001 1112',  # more
        'c9 00 ffff',  # 65535 SPIs of nothing
    ],
)
def test_delete_payload_is_malformed_when_spis_do_not_fill_it(body: str) -> None:
    with pytest.raises(MalformedMessage):
        DeletePayload.decode_body(bytes.fromhex(body))


@pytest.mark.parametrize('spis', [(b'',), (b'a', b'bc')])
def test_delete_payload_has_spis_of_one_length(spis: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match='one length'):
        DeletePayload(ProtocolId.TCP_AO, spis)


@pytest.mark.parametrize('numbers', ['0000 0001', '0001 0000', '0003 0002'])
def test_fragment_payload_counts_from_one_to_total(numbers: str) -> None:
    with pytest.raises(MalformedMessage):
        EncryptedFragmentPayload.decode_body(bytes.fromhex(numbers) + bytes(40))


def test_proposal_matches_example_of_wire_profile() -> None:
    decoded = SaPayload.decode_body(DRAFT_EXAMPLE)
    assert decoded == SaPayload(
        (
            Proposal(
                1,
                ProtocolId.TCP_AO,
                b'\x01',
                (
                    Transform(TransformType.INTEG, IntegrityId.HMAC_SHA1_96),
                    Transform(TransformType.INTEG, IntegrityId.AES_CMAC_96),
                    Transform(TransformType.TCP_OPTIONS, 1),
                    Transform(TransformType.TCP_OPTIONS, 0),
                ),
            ),
        )
    )
    assert decoded.encode_body() == DRAFT_EXAMPLE


def test_key_length_attribute_has_two_octets() -> None:
    # RFC 7296, 3.3.5: the TV form, AF bit set.
    transform = Transform.make(TransformType.ENCR, 20, 256)
    assert transform.encode(last=True) == bytes.fromhex('00 00 000c 01 00 0014 800e 0100')


def test_attribute_of_variable_length_is_kept() -> None:
    body = bytes.fromhex('01 00 0014 0011 0003 aabbcc')
    assert Transform.decode(body).attributes == (Attribute(17, b'\xaa\xbb\xcc'),)


def test_transform_refuses_two_attributes_of_one_type() -> None:
    # RFC 7296, 3.3: a transform MUST NOT have multiple attributes of the same type.
    with pytest.raises(MalformedMessage, match='two attributes'):
        Transform.decode(bytes.fromhex('01 00 0014 800e 0100 800e 0080'))


@pytest.mark.parametrize(
    ('offset', 'value', 'why'),
    [
        (0, 2, 'more proposals announced than there are'),
        (3, 0x28, 'proposal length too small'),
        (3, 0x2A, 'proposal length too large'),
        (6, 2, 'SPI size'),
        (7, 3, 'fewer transforms announced'),
        (7, 5, 'more transforms announced'),
        (9, 0, 'first transform marked as last'),
        (33, 3, 'last transform not marked'),
        (12, 7, 'transform length too small'),
        (12, 9, 'transform length too large'),
    ],
)
def test_sa_payload_is_malformed_when_counts_disagree(offset: int, value: int, why: str) -> None:
    octets = bytearray(DRAFT_EXAMPLE)
    octets[offset] = value
    with pytest.raises(MalformedMessage):
        SaPayload.decode_body(bytes(octets))


def test_sa_payload_is_malformed_without_proposal() -> None:
    with pytest.raises(MalformedMessage):
        SaPayload.decode_body(b'')


def test_sa_payload_limits_lists_to_one_octet() -> None:
    def many(count: int) -> bytes:
        empty = Proposal(1, ProtocolId.IKE, b'', ())
        return empty.encode(last=False) * (count - 1) + empty.encode(last=True)

    assert len(SaPayload.decode_body(many(255)).proposals) == 255
    with pytest.raises(MalformedMessage, match='more than 255'):
        SaPayload.decode_body(many(256))


@pytest.mark.parametrize('size', [2, 4])
def test_id_payload_refuses_other_reserved_length(size: int) -> None:
    with pytest.raises(ValueError, match='three octets'):
        IdiPayload(2, b'r1.lab', bytes(size))


@pytest.mark.parametrize(('number', 'total'), [(0, 1), (2, 1), (1, 0x10000)])
def test_fragment_payload_refuses_impossible_number(number: int, total: int) -> None:
    with pytest.raises(ValueError, match='there is no fragment'):
        EncryptedFragmentPayload(number, total, b'')


def test_substructure_shorter_than_header_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        SaPayload.decode_body(bytes.fromhex('00000003'))

"""The part of IKE_INTERMEDIATE exchanges in AUTH: RFC 9242, 3.3.2."""

from __future__ import annotations

import hmac
from hashlib import sha256

from ikev2.constants import ExchangeType, PrfId
from ikev2.crypto.cipher import (
    AES_256_CBC_HMAC_SHA2_256_128,
    AES_256_GCM_16,
    Encryption,
    make_cipher,
)
from ikev2.sa.intermediate import IntAuth, authenticated_octets, whole_from_fragment
from ikev2.sa.protection import seal_fragments, seal_message
from ikev2.wire.message import HEADER_LENGTH, Header, encode_chain
from ikev2.wire.payload import GENERIC_HEADER_LENGTH
from ikev2.wire.payloads import KeyExchangePayload, NotifyPayload
from keymaterial import Secret

PRF = PrfId.HMAC_SHA2_256
SK_PI, SK_PR = Secret(b'sk_pi'), Secret(b'sk_pr')
HEADER = Header(b'initiatr', b'responde', ExchangeType.IKE_INTERMEDIATE, 1, True, False)
PAYLOADS = (KeyExchangePayload(36, bytes(1184)), NotifyPayload(16430))


def cipher(encryption: Encryption):  # type: ignore[no-untyped-def]
    return make_cipher(
        encryption,
        Secret(bytes(encryption.encryption_key_length)),
        Secret(bytes(encryption.integrity_key_length)),
    )


def mac(key: bytes, octets: bytes) -> bytes:
    return hmac.digest(key, octets, sha256)


def test_int_auth_chains_requests_and_responses_separately() -> None:
    auth = IntAuth()
    auth = auth.request(PRF, SK_PI, b'request 1').response(PRF, SK_PR, b'response 1')
    newer_i, newer_r = Secret(b'newer sk_pi'), Secret(b'newer sk_pr')
    auth = auth.request(PRF, newer_i, b'request 2').response(PRF, newer_r, b'response 2')
    initiator = mac(b'newer sk_pi', mac(b'sk_pi', b'request 1') + b'request 2')
    responder = mac(b'newer sk_pr', mac(b'sk_pr', b'response 1') + b'response 2')
    assert auth.octets == initiator + responder + b'\0\0\0\x03'


def test_int_auth_is_empty_without_exchange() -> None:
    assert IntAuth().octets == b''


def test_authenticated_octets_are_decrypted_and_adjusted() -> None:
    # IKE header | generic header of SK | inner payloads, with both lengths adjusted.
    first, inner = encode_chain(PAYLOADS)
    length = HEADER_LENGTH + GENERIC_HEADER_LENGTH + len(inner)
    wanted = (
        b'initiatr'
        + b'responde'
        + bytes([46, 0x20, 43, 0x08])
        + b'\0\0\0\x01'
        + length.to_bytes(4, 'big')
        + bytes([first, 0])
        + (4 + len(inner)).to_bytes(2, 'big')
        + inner
    )
    for encryption in (AES_256_GCM_16, AES_256_CBC_HMAC_SHA2_256_128):
        keyed = cipher(encryption)
        iv = bytes(encryption.iv_length)
        datagram = seal_message(HEADER, PAYLOADS, keyed, iv)
        associated = datagram[: HEADER_LENGTH + GENERIC_HEADER_LENGTH]
        assert authenticated_octets(associated, inner) == wanted


def test_whole_from_fragment_gives_octets_of_whole_message() -> None:
    # RFC 9242, 3.3.2: as if it were received unfragmented.
    keyed = cipher(AES_256_GCM_16)
    whole = seal_message(HEADER, PAYLOADS, keyed, bytes(8))
    fragments = seal_fragments(HEADER, PAYLOADS, keyed, lambda: bytes(8), 600)
    assert len(fragments) > 1
    _, inner = encode_chain(PAYLOADS)
    of_whole = whole[: HEADER_LENGTH + GENERIC_HEADER_LENGTH]
    of_first = fragments[0][: HEADER_LENGTH + GENERIC_HEADER_LENGTH + 4]
    assert authenticated_octets(whole_from_fragment(of_first), inner) == (
        authenticated_octets(of_whole, inner)
    )


def test_authenticated_octets_keep_flags_and_reserved_bits() -> None:
    associated = bytes(range(32))
    octets = authenticated_octets(associated, b'inner')
    assert octets[:24] == associated[:24]
    assert octets[28:30] == associated[28:30]
    assert octets[24:28] == (37).to_bytes(4, 'big')
    assert octets[30:32] == (9).to_bytes(2, 'big')

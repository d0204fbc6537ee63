"""SK and SKF payloads: RFC 7296, 3.14; RFC 5282; RFC 7634; RFC 7383, 2.5."""

from __future__ import annotations

import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.constants import ExchangeType, NotifyType
from ikev2.crypto.cipher import (
    AES_128_CBC_HMAC_SHA2_256_128,
    AES_128_GCM_16,
    AES_256_GCM_16,
    CHACHA20_POLY1305,
    ENCRYPTIONS,
    Cipher,
    Encryption,
    make_cipher,
)
from ikev2.errors import IntegrityFailure, MalformedMessage, UnsupportedCriticalPayload
from ikev2.sa.protection import (
    assemble,
    is_fragment,
    open_fragment,
    open_message,
    seal_fragments,
    seal_message,
)
from ikev2.wire.message import Header, Message, encode_chain
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import NoncePayload, NotifyPayload, UnknownPayload, VendorIdPayload
from keymaterial import Secret
from tests.ikev2.strategies import chains, headers, mutated

HEADER = Header(b'initiatr', b'respondr', ExchangeType.INFORMATIONAL, 7, True, False)
EACH = pytest.mark.parametrize('encryption', ENCRYPTIONS.values(), ids=list(ENCRYPTIONS))


def cipher(encryption: Encryption) -> Cipher:
    return make_cipher(
        encryption,
        Secret(bytes(range(encryption.encryption_key_length))),
        Secret(bytes(range(100, 100 + encryption.integrity_key_length))),
    )


def iv(encryption: Encryption, fill: int = 0x10) -> bytes:
    return bytes(range(fill, fill + encryption.iv_length))


# RFC 7634, appendix B: an INFORMATIONAL request with SET_WINDOW_SIZE.
RFC7634_MESSAGE = bytes.fromhex(
    'c0c1c2c3c4c5c6c7 d0d1d2d3d4d5d6d7 2e202500 00000009 00000045 29000029'
    '1011121314151617 610394701f8d017f7c12924889 6b71bfe25236efd7cdc67066906315b2'
)
RFC7634_CIPHER = make_cipher(CHACHA20_POLY1305, Secret(bytes(range(0x80, 0xA4))), Secret(b''))
RFC7634_HEADER = Header(
    bytes(range(0xC0, 0xC8)), bytes(range(0xD0, 0xD8)), ExchangeType.INFORMATIONAL, 9, False, False
)
RFC7634_PAYLOADS = (NotifyPayload(NotifyType.SET_WINDOW_SIZE, bytes.fromhex('0000000a')),)


def test_seal_matches_rfc_7634_appendix_b() -> None:
    sealed = seal_message(
        RFC7634_HEADER, RFC7634_PAYLOADS, RFC7634_CIPHER, bytes(range(0x10, 0x18))
    )
    assert sealed == RFC7634_MESSAGE


def test_open_matches_rfc_7634_appendix_b() -> None:
    assert open_message(RFC7634_MESSAGE, RFC7634_CIPHER) == Message(
        RFC7634_HEADER, RFC7634_PAYLOADS
    )


# McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B: test cases 4 and 16.
GCM_PLAINTEXT = bytes.fromhex(
    'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72'
    '1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39'
)
GCM_ASSOCIATED = bytes.fromhex('feedfacedeadbeeffeedfacedeadbeefabaddad2')


@pytest.mark.parametrize(
    ('encryption', 'key', 'output'),
    [
        (
            AES_128_GCM_16,
            'feffe9928665731c6d6a8f9467308308',
            '42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e'
            '21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091'
            '5bc94fbc3221a5db94fae95ae7121a47',
        ),
        (
            AES_256_GCM_16,
            'feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308',
            '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa'
            '8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662'
            '76fc6ece0f4e1768cddf8853bb2d551b',
        ),
    ],
)
def test_aes_gcm_takes_salt_from_end_of_key(encryption: Encryption, key: str, output: str) -> None:
    # RFC 5282, 7.1: the key material's last four octets are the salt, the nonce's first four.
    subject = make_cipher(encryption, Secret(bytes.fromhex(key + 'cafebabe')), Secret(b''))
    sealed = subject.seal(bytes.fromhex('facedbaddecaf888'), GCM_PLAINTEXT, GCM_ASSOCIATED)
    assert sealed.hex() == 'facedbaddecaf888' + output
    assert subject.open(sealed, GCM_ASSOCIATED) == GCM_PLAINTEXT


def test_aes_cbc_appends_check_value() -> None:
    # RFC 3602, 4, case 1 for the cipher; the check value covers IV and header as well.
    subject = make_cipher(
        AES_128_CBC_HMAC_SHA2_256_128,
        Secret(bytes.fromhex('06a9214036b8a15b512e03d534120006')),
        Secret(b'\x0b' * 32),
    )
    sealed = subject.seal(
        bytes.fromhex('3dafba429d9eb430b422da802c9fac41'), b'Single block msg', b'header'
    )
    body = '3dafba429d9eb430b422da802c9fac41' + 'e353779c1079aeb82708942dbe77181a'
    assert sealed[:-16].hex() == body
    expected = hmac.digest(b'\x0b' * 32, b'header' + bytes.fromhex(body), sha256)
    assert sealed[-16:] == expected[:16]


@EACH
@given(headers, chains)
def test_open_returns_sealed_message(
    encryption: Encryption, header: Header, chain: list[Payload]
) -> None:
    subject = cipher(encryption)
    datagram = seal_message(header, chain, subject, iv(encryption))
    assert open_message(datagram, subject) == Message(header, tuple(chain))


@EACH
@given(st.data())
def test_open_fails_when_any_octet_is_changed(encryption: Encryption, data: st.DataObject) -> None:
    subject = cipher(encryption)
    datagram = bytearray(seal_message(HEADER, (NoncePayload(bytes(20)),), subject, iv(encryption)))
    place = data.draw(st.integers(0, len(datagram) - 1))
    datagram[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(IntegrityFailure):
        open_message(bytes(datagram), subject)


@EACH
@given(st.data())
def test_open_fails_when_message_is_mutated(encryption: Encryption, data: st.DataObject) -> None:
    subject = cipher(encryption)
    original = seal_message(HEADER, (NoncePayload(bytes(20)),), subject, iv(encryption))
    datagram = data.draw(mutated(st.just(original)).filter(lambda found: found != original))
    fixed = datagram[:24] + len(datagram).to_bytes(4, 'big') + datagram[28:]
    for candidate in {datagram, fixed} - {original}:
        with pytest.raises(IntegrityFailure):
            open_message(candidate, subject)
        with pytest.raises(IntegrityFailure):
            open_fragment(candidate, subject)


@EACH
@given(st.binary(max_size=120))
def test_open_fails_when_octets_are_arbitrary(encryption: Encryption, datagram: bytes) -> None:
    with pytest.raises(IntegrityFailure):
        open_message(datagram, cipher(encryption))
    with pytest.raises(IntegrityFailure):
        open_fragment(datagram, cipher(encryption))


@EACH
@given(st.integers(0, 255), st.binary(min_size=1, max_size=120))
def test_open_raises_malformed_only_for_authentic_nonsense(
    encryption: Encryption, first: int, plaintext: bytes
) -> None:
    subject = cipher(encryption)
    plaintext = plaintext.rjust(-(-len(plaintext) // 16) * 16, b'\0')
    try:
        open_message(_sealed(subject, first, plaintext), subject)
    except (MalformedMessage, UnsupportedCriticalPayload):
        return


def _sealed(subject: Cipher, first: int, plaintext: bytes) -> bytes:
    """A message with just these octets inside, padding and its length included."""
    encryption = subject.encryption
    body = encryption.sealed_length(len(plaintext))
    associated = HEADER.encode(46, 32 + body) + bytes([first, 0]) + (4 + body).to_bytes(2, 'big')
    return associated + subject.seal(iv(encryption), plaintext, associated)


@EACH
def test_open_accepts_any_aligned_padding(encryption: Encryption) -> None:
    # RFC 7296, 3.14: "the recipient MUST accept any length that results in proper alignment".
    subject = cipher(encryption)
    first, content = encode_chain((NoncePayload(bytes(16)),))
    padding = 235
    assert (len(content) + padding + 1) % 16 == 0
    plaintext = content + b'\xaa' * padding + bytes([padding])
    opened = open_message(_sealed(subject, first, plaintext), subject)
    assert opened.payloads == (NoncePayload(bytes(16)),)


@EACH
def test_open_refuses_padding_longer_than_plaintext(encryption: Encryption) -> None:
    subject = cipher(encryption)
    with pytest.raises(MalformedMessage, match='padding'):
        open_message(_sealed(subject, 0, bytes(15) + b'\x10'), subject)


@EACH
def test_open_refuses_plaintext_without_pad_length(encryption: Encryption) -> None:
    subject = cipher(encryption)
    with pytest.raises(IntegrityFailure, match='octets'):
        open_message(_sealed(subject, 0, b''), subject)


def test_open_refuses_ciphertext_of_partial_blocks() -> None:
    encryption = AES_128_CBC_HMAC_SHA2_256_128
    integrity_key = bytes(range(100, 132))
    body = iv(encryption) + bytes(17)
    check_value = hmac.digest(integrity_key, b'header' + body, sha256)[:16]
    with pytest.raises(IntegrityFailure, match='blocks'):
        cipher(encryption).open(body + check_value, b'header')


@EACH
def test_seal_uses_shortest_padding(encryption: Encryption) -> None:
    subject = cipher(encryption)
    datagram = seal_message(HEADER, (VendorIdPayload(b'123'),), subject, iv(encryption))
    # Seven octets of payload, one of Pad Length.
    padded = 16 if encryption.block_length == 16 else 8
    assert len(datagram) == 32 + encryption.sealed_length(padded)


@EACH
def test_seal_accepts_empty_message(encryption: Encryption) -> None:
    # Liveness: INFORMATIONAL without payloads (RFC 7296, 2.4).
    subject = cipher(encryption)
    datagram = seal_message(HEADER, (), subject, iv(encryption))
    assert open_message(datagram, subject) == Message(HEADER, ())


@EACH
def test_open_fails_under_another_key(encryption: Encryption) -> None:
    other = make_cipher(
        encryption,
        Secret(bytes(encryption.encryption_key_length)),
        Secret(bytes(encryption.integrity_key_length)),
    )
    datagram = seal_message(HEADER, (), other, iv(encryption))
    with pytest.raises(IntegrityFailure):
        open_message(datagram, cipher(encryption))


def test_open_fails_for_plain_message() -> None:
    subject = cipher(AES_256_GCM_16)
    for payloads in ((), (NoncePayload(bytes(16)),)):
        with pytest.raises(IntegrityFailure, match='no encrypted payload'):
            open_message(Message(HEADER, payloads).encode(), subject)


def test_open_distinguishes_critical_payload_from_forgery() -> None:
    subject = cipher(AES_256_GCM_16)
    datagram = seal_message(
        HEADER, (UnknownPayload(200, b'', critical=True),), subject, iv(AES_256_GCM_16)
    )
    with pytest.raises(UnsupportedCriticalPayload):
        open_message(datagram, subject)


def test_ivs_count_for_aead_and_are_random_for_cbc() -> None:
    def no_random(length: int) -> bytes:
        raise AssertionError('an AEAD takes no randomness')

    for encryption in (AES_128_GCM_16, AES_256_GCM_16, CHACHA20_POLY1305):
        made = cipher(encryption).make_iv(258, no_random)
        assert made == bytes.fromhex('0000000000000102')
    made = cipher(AES_128_CBC_HMAC_SHA2_256_128).make_iv(0, lambda length: b'r' * length)
    assert made == b'r' * 16


@EACH
def test_cipher_outlives_wiped_secrets(encryption: Encryption) -> None:
    key = Secret(bytes(encryption.encryption_key_length))
    integrity_key = Secret(bytes(encryption.integrity_key_length))
    made = make_cipher(encryption, key, integrity_key)
    key.wipe()
    integrity_key.wipe()
    assert made.open(made.seal(iv(encryption), bytes(16), b'header'), b'header') == bytes(16)


def test_aead_counter_never_wraps() -> None:
    with pytest.raises(OverflowError):
        cipher(AES_256_GCM_16).make_iv(2**64, bytes)


@EACH
def test_make_cipher_refuses_keys_of_other_length(encryption: Encryption) -> None:
    key = Secret(bytes(encryption.encryption_key_length))
    integrity_key = Secret(bytes(encryption.integrity_key_length))
    with pytest.raises(ValueError, match='key'):
        make_cipher(encryption, Secret(bytes(len(key) - 4)), integrity_key)
    with pytest.raises(ValueError, match='key'):
        make_cipher(encryption, key, Secret(bytes(len(integrity_key) + 1)))


class _Ivs:
    def __init__(self, subject: Cipher) -> None:
        self.subject = subject
        self.count = 0

    def __call__(self) -> bytes:
        self.count += 1
        return self.subject.make_iv(self.count, lambda length: bytes([self.count]) * length)


@EACH
@given(chains, st.integers(100, 600))
def test_fragments_fit_and_give_message_back(
    encryption: Encryption, chain: list[Payload], largest: int
) -> None:
    subject = cipher(encryption)
    ivs = _Ivs(subject)
    datagrams = seal_fragments(HEADER, chain, subject, ivs, largest)
    assert all(len(datagram) <= largest for datagram in datagrams)
    assert all(is_fragment(datagram) for datagram in datagrams)
    assert ivs.count == len(datagrams)
    fragments = [open_fragment(datagram, subject) for datagram in datagrams]
    assert assemble(fragments) == Message(HEADER, tuple(chain))


@EACH
def test_fragments_fill_given_room(encryption: Encryption) -> None:
    subject = cipher(encryption)
    datagrams = seal_fragments(HEADER, (VendorIdPayload(bytes(3000)),), subject, _Ivs(subject), 576)
    assert all(576 - len(d) < encryption.block_length for d in datagrams[:-1])


def test_fragment_number_is_under_check_value() -> None:
    subject = cipher(AES_256_GCM_16)
    datagrams = seal_fragments(HEADER, (VendorIdPayload(bytes(300)),), subject, _Ivs(subject), 200)
    forged = bytearray(datagrams[1])
    assert forged[32:34] == b'\x00\x02'
    forged[33] = 1
    with pytest.raises(IntegrityFailure):
        open_fragment(bytes(forged), subject)


def test_first_fragment_alone_names_first_payload() -> None:
    subject = cipher(AES_256_GCM_16)
    datagrams = seal_fragments(HEADER, (VendorIdPayload(bytes(300)),), subject, _Ivs(subject), 200)
    assert [datagram[28] for datagram in datagrams] == [43, 0, 0]


def test_open_refuses_fragment_as_message_and_reverse() -> None:
    subject = cipher(AES_256_GCM_16)
    (fragment,) = seal_fragments(HEADER, (), subject, _Ivs(subject), 200)
    message = seal_message(HEADER, (), subject, iv(AES_256_GCM_16))
    assert not is_fragment(message)
    with pytest.raises(IntegrityFailure, match='fragment'):
        open_message(fragment, subject)
    with pytest.raises(IntegrityFailure, match='fragment'):
        open_fragment(message, subject)


def test_assemble_refuses_incomplete_set() -> None:
    subject = cipher(AES_256_GCM_16)
    datagrams = seal_fragments(HEADER, (VendorIdPayload(bytes(300)),), subject, _Ivs(subject), 200)
    fragments = [open_fragment(datagram, subject) for datagram in datagrams]
    for wrong in ([], fragments[:-1], fragments[1:], fragments[::-1]):
        with pytest.raises(ValueError, match='complete'):
            assemble(wrong)


def test_seal_fragments_refuses_limit_without_room() -> None:
    subject = cipher(AES_256_GCM_16)
    with pytest.raises(ValueError, match='no room'):
        seal_fragments(HEADER, (), subject, _Ivs(subject), 60)

"""PRF, prf+ and key derivation: RFC 7296, 2.13, 2.14, 2.17, 2.18; RFC 9370, 2.2."""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from pathlib import Path

import pytest

from ikev2.constants import PrfId
from ikev2.crypto.cipher import (
    AES_128_CBC_HMAC_SHA2_256_128,
    AES_256_GCM_16,
    ENCRYPTIONS,
    Encryption,
)
from ikev2.crypto.keys import child_keymat, derive_ike_keys, skeyseed, skeyseed_rekey
from ikev2.crypto.prf import prf, prf_length, prf_plus
from ikev2.errors import UnsupportedAlgorithm
from keymaterial import Secret

SHA256 = PrfId.HMAC_SHA2_256
_FILE = json.loads((Path(__file__).parent / 'vectors' / 'ikev2_kdf.json').read_text())
KDF = {
    name: bytes.fromhex(_FILE[name]) for name in _FILE if name not in ('source', 'prf', 'dkm_bits')
}


@pytest.mark.parametrize(
    ('prf_id', 'output'),
    [
        # RFC 4231, 4.2 (test case 1)
        (
            PrfId.HMAC_SHA2_256,
            'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
        ),
        (
            PrfId.HMAC_SHA2_384,
            'afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c'
            'faea9ea9076ede7f4af152e8b2fa9cb6',
        ),
        (
            PrfId.HMAC_SHA2_512,
            '87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde'
            'daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854',
        ),
    ],
)
def test_prfs_are_hmac_sha2(prf_id: PrfId, output: str) -> None:
    assert prf(prf_id, Secret(b'\x0b' * 20), b'Hi There').hex() == output
    assert prf_length(prf_id) == len(output) // 2


def test_prf_blames_us_when_unsupported() -> None:
    with pytest.raises(UnsupportedAlgorithm, match='2 is not supported'):
        prf(PrfId.HMAC_SHA1, b'key', b'data')


def test_skeyseed_matches_nist_vector() -> None:
    seed = skeyseed(SHA256, KDF['ni'], KDF['nr'], Secret(KDF['gir']))
    assert seed.reveal() == KDF['skeyseed']


def test_prf_plus_matches_nist_vector() -> None:
    seed = KDF['ni'] + KDF['nr'] + KDF['spi_i'] + KDF['spi_r']
    output = prf_plus(SHA256, Secret(KDF['skeyseed']), seed, len(KDF['dkm']))
    assert len(KDF['dkm']) * 8 == _FILE['dkm_bits']
    assert output.reveal() == KDF['dkm']


@pytest.mark.parametrize('encryption', ENCRYPTIONS.values(), ids=list(ENCRYPTIONS))
def test_derive_ike_keys_matches_nist_vector(encryption: Encryption) -> None:
    # RFC 7296, 2.14: SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr.
    keys = derive_ike_keys(
        encryption,
        SHA256,
        Secret(KDF['skeyseed']),
        KDF['ni'],
        KDF['nr'],
        KDF['spi_i'],
        KDF['spi_r'],
    )
    parts = [
        keys.sk_d,
        keys.sk_ai,
        keys.sk_ar,
        keys.sk_ei,
        keys.sk_er,
        keys.sk_pi,
        keys.sk_pr,
    ]
    material = b''.join(part.reveal() for part in parts)
    assert material == KDF['dkm'][: len(material)]
    prf_size, integ, encr = 32, encryption.integrity_key_length, encryption.encryption_key_length
    sizes = [prf_size, integ, integ, encr, encr, prf_size, prf_size]
    assert [len(part) for part in parts] == sizes


@pytest.mark.parametrize(
    ('name', 'encryption_key', 'integrity_key'),
    [
        # Key and salt: RFC 5282, 7.1 and RFC 7634, 2. HMAC-SHA2-256-128: RFC 4868, 2.1.1.
        ('aes-128-gcm-16', 20, 0),
        ('aes-256-gcm-16', 36, 0),
        ('chacha20-poly1305', 36, 0),
        ('aes-128-cbc-hmac-sha2-256-128', 16, 32),
        ('aes-256-cbc-hmac-sha2-256-128', 32, 32),
    ],
)
def test_derive_ike_keys_has_lengths_of_suite(
    name: str, encryption_key: int, integrity_key: int
) -> None:
    assert ENCRYPTIONS[name].encryption_key_length == encryption_key
    assert ENCRYPTIONS[name].integrity_key_length == integrity_key


def test_child_keymat_matches_nist_vector_without_exchange() -> None:
    sk_d = Secret(KDF['dkm'][:32])
    keymat = child_keymat(SHA256, sk_d, KDF['ni'], KDF['nr'], len(KDF['dkm_child']))
    assert keymat.reveal() == KDF['dkm_child']


def test_child_keymat_matches_nist_vector_with_exchange() -> None:
    sk_d = Secret(KDF['dkm'][:32])
    shared = Secret(KDF['gir_new'])
    length = len(KDF['dkm_child_dh'])
    keymat = child_keymat(SHA256, sk_d, KDF['ni'], KDF['nr'], length, shared)
    assert keymat.reveal() == KDF['dkm_child_dh']


@pytest.mark.parametrize('length', [16, 20, 32])
def test_master_key_is_beginning_of_keymat(length: int) -> None:
    sk_d = Secret(KDF['dkm'][:32])
    keymat = child_keymat(SHA256, sk_d, KDF['ni'], KDF['nr'], length, Secret(KDF['gir_new']))
    assert keymat.reveal() == KDF['dkm_child_dh'][:length]


def test_skeyseed_rekey_matches_nist_vector() -> None:
    sk_d = Secret(KDF['dkm'][:32])
    seed = skeyseed_rekey(SHA256, sk_d, Secret(KDF['gir_new']), KDF['ni'], KDF['nr'])
    assert seed.reveal() == KDF['skeyseed_rekey']


def test_child_keymat_puts_additional_secrets_after_nonces() -> None:
    # RFC 9370, 2.2.4: SK(0) | Ni | Nr | SK(1) | ... | SK(n).
    seed = skeyseed_rekey(
        SHA256, Secret(b'd'), Secret(b'zero'), b'i', b'r', (Secret(b'one'), Secret(b'two'))
    )
    assert seed.reveal() == hmac.digest(b'd', b'zero' + b'ir' + b'one' + b'two', sha256)
    keymat = child_keymat(
        SHA256, Secret(b'd'), b'i', b'r', 32, Secret(b'zero'), (Secret(b'one'), Secret(b'two'))
    )
    assert keymat.reveal() == hmac.digest(b'd', b'zeroironetwo\x01', sha256)


def test_child_keymat_refuses_additional_without_first() -> None:
    with pytest.raises(ValueError, match='first'):
        child_keymat(SHA256, Secret(b'd'), b'i', b'r', 32, None, (Secret(b'one'),))


def test_prf_plus_refuses_more_than_255_blocks() -> None:
    # RFC 7296, 2.13.
    longest = prf_plus(SHA256, Secret(b'k'), b's', 255 * 32)
    last = hmac.digest(b'k', longest.reveal()[-64:-32] + b's\xff', sha256)
    assert longest.reveal()[-32:] == last
    with pytest.raises(ValueError, match='255'):
        prf_plus(SHA256, Secret(b'k'), b's', 255 * 32 + 1)


def test_ike_keys_are_wiped_together_and_never_print() -> None:
    keys = derive_ike_keys(
        AES_256_GCM_16, SHA256, Secret(b'seed'), b'i' * 16, b'r' * 16, b'1' * 8, b'2' * 8
    )
    assert keys.sk_d.reveal().hex() not in repr(keys)
    keys.wipe()
    assert all(
        secret.wiped
        for secret in (
            keys.sk_d,
            keys.sk_ai,
            keys.sk_ar,
            keys.sk_ei,
            keys.sk_er,
            keys.sk_pi,
            keys.sk_pr,
        )
    )


@pytest.mark.parametrize('encryption', [AES_256_GCM_16, AES_128_CBC_HMAC_SHA2_256_128])
def test_ike_keys_give_each_direction_its_cipher(encryption: Encryption) -> None:
    keys = derive_ike_keys(
        encryption, SHA256, Secret(b'seed'), b'i' * 16, b'r' * 16, b'1' * 8, b'2' * 8
    )
    iv = bytes(encryption.iv_length)
    plaintext = bytes(32)
    from_initiator = keys.initiator_cipher(encryption).seal(iv, plaintext, b'')
    from_responder = keys.responder_cipher(encryption).seal(iv, plaintext, b'')
    assert from_initiator != from_responder
    assert keys.initiator_cipher(encryption).open(from_initiator, b'') == plaintext

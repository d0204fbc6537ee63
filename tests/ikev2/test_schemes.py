"""Signature schemes: RFC 7427, RFC 8420, RFC 4754, RFC 7296, 3.8, RFC 8247, 3."""

from __future__ import annotations

from functools import cache
from math import gcd, lcm
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ikev2.authentication.signatures.keys import PrivateKey, PublicKey
from ikev2.authentication.signatures.schemes import SCHEMES, SUPPORTED_HASHES, SignatureScheme
from ikev2.constants import AuthMethod, SignatureHash
from ikev2.errors import AuthenticationFailed, CredentialError
from tests.ikev2.pki import KIND_NAMES, keys

OCTETS = b'the signed octets'
EVERYTHING = frozenset(SUPPORTED_HASHES)
SHA256, SHA384, SHA512 = (
    SignatureHash.SHA2_256,
    SignatureHash.SHA2_384,
    SignatureHash.SHA2_512,
)
IDENTITY = SignatureHash.IDENTITY
DIGITAL_SIGNATURE = AuthMethod.DIGITAL_SIGNATURE

# RFC 7427, A.1, A.3 and A.4.3; RFC 8420, A.1 and A.2.
PUBLISHED_IDENTIFIERS = {
    'rsa-pkcs1-sha256': '300d06092a864886f70d01010b0500',
    'rsa-pkcs1-sha384': '300d06092a864886f70d01010c0500',
    'rsa-pkcs1-sha512': '300d06092a864886f70d01010d0500',
    'ecdsa-sha256': '300a06082a8648ce3d040302',
    'ecdsa-sha384': '300a06082a8648ce3d040303',
    'ecdsa-sha512': '300a06082a8648ce3d040304',
    'rsa-pss-sha256': (
        '304606092a864886f70d01010a3039a00f300d06096086480165030402010500'
        'a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120a303020101'
    ),
    'ed25519': '300506032b6570',
    'ed448': '300506032b6571',
}


def scheme(name: str) -> SignatureScheme:
    return next(one for one in SCHEMES if one.name == name)


def identifier_of(data: bytes) -> bytes:
    return data[1 : 1 + data[0]]


def used(key: Any, hashes_of_peer: set[SignatureHash], announced: tuple[bytes, ...] = ()) -> str:
    method, data = PrivateKey(key).sign(OCTETS, hashes_of_peer, announced)
    assert method == DIGITAL_SIGNATURE
    PrivateKey(key).public_key.verify(method, data, OCTETS)
    return next(one.name for one in SCHEMES if identifier_of(data) in one.identifiers)


@pytest.mark.parametrize('name', PUBLISHED_IDENTIFIERS)
def test_algorithm_identifiers_match_published_ones(name: str) -> None:
    assert bytes.fromhex(PUBLISHED_IDENTIFIERS[name]) in scheme(name).identifiers


def test_pss_identifier_is_der_without_default_trailer() -> None:
    # X.690, 11.5: a default value isn't encoded. RFC 7427, A.4.3 shows it and must be accepted.
    assert scheme('rsa-pss-sha256').identifier.hex() == (
        '304106092a864886f70d01010a3034a00f300d06096086480165030402010500'
        'a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120'
    )


def test_algorithm_identifiers_name_one_scheme_each() -> None:
    everything = [identifier for one in SCHEMES for identifier in one.identifiers]
    assert len(set(everything)) == len(everything)


def test_schemes_have_no_sha1() -> None:
    # RFC 8247, 3.2: MUST NOT.
    assert SignatureHash.SHA1 not in SUPPORTED_HASHES


@pytest.mark.parametrize('kind', KIND_NAMES)
def test_every_kind_of_key_signs_by_method_14(kind: str) -> None:
    key = PrivateKey(keys(kind))
    method, data = key.sign(OCTETS, EVERYTHING)
    assert method == DIGITAL_SIGNATURE
    key.public_key.verify(method, data, OCTETS)
    with pytest.raises(AuthenticationFailed, match='signature is wrong'):
        key.public_key.verify(method, data, OCTETS + b'!')


@pytest.mark.parametrize('kind', KIND_NAMES)
def test_verify_fails_with_another_key_of_kind(kind: str) -> None:
    method, data = PrivateKey(keys(kind, 1)).sign(OCTETS, EVERYTHING)
    with pytest.raises(AuthenticationFailed, match='signature is wrong'):
        PrivateKey(keys(kind)).public_key.verify(method, data, OCTETS)


@pytest.mark.parametrize('kind', KIND_NAMES)
@pytest.mark.parametrize('other', KIND_NAMES)
def test_verify_fails_with_another_kind_of_key(kind: str, other: str) -> None:
    if kind.startswith('ecdsa') and other.startswith('ecdsa'):
        return  # RFC 7427 ties no curve to a hash
    if kind == other:
        return
    method, data = PrivateKey(keys(other)).sign(OCTETS, EVERYTHING)
    with pytest.raises(AuthenticationFailed, match='does not fit'):
        PrivateKey(keys(kind)).public_key.verify(method, data, OCTETS)


@pytest.mark.parametrize(
    ('kind', 'hashes_of_peer', 'name'),
    [
        ('ecdsa-p256', {SHA256, SHA384, SHA512}, 'ecdsa-sha256'),
        ('ecdsa-p256', {SHA512}, 'ecdsa-sha512'),
        ('ecdsa-p384', {SHA256, SHA384, SHA512}, 'ecdsa-sha384'),
        ('ecdsa-p384', {SHA256}, 'ecdsa-sha256'),
        ('ecdsa-p521', {SHA256, SHA384, SHA512}, 'ecdsa-sha512'),
        ('rsa', {SHA256, SHA384, SHA512}, 'rsa-pss-sha256'),
        ('rsa', {SHA384}, 'rsa-pss-sha384'),
        ('ed448', {SHA256, IDENTITY}, 'ed448'),
        ('ml-dsa-65', {SHA256, IDENTITY}, 'ml-dsa-65'),
    ],
)
def test_sign_uses_best_announced_hash(
    kind: str, hashes_of_peer: set[SignatureHash], name: str
) -> None:
    assert used(keys(kind), hashes_of_peer) == name


@pytest.mark.parametrize('kind', ['ed25519', 'ed448', 'ml-dsa-44', 'ml-dsa-65', 'ml-dsa-87'])
def test_sign_needs_identity_hash_for_self_hashing_key(kind: str) -> None:
    # RFC 8420, 2.
    with pytest.raises(AuthenticationFailed, match=f"didn't announce that it takes {kind}"):
        PrivateKey(keys(kind)).sign(OCTETS, {SHA256, SHA384, SHA512})
    with pytest.raises(AuthenticationFailed, match=f"didn't announce that it takes {kind}"):
        PrivateKey(keys(kind)).sign(OCTETS, ())


def test_sign_ignores_unknown_hash() -> None:
    with pytest.raises(AuthenticationFailed, match="didn't announce"):
        PrivateKey(keys('rsa')).sign(OCTETS, {SignatureHash.SHA1})


def test_sign_prefers_announced_algorithm() -> None:
    # RFC 9593: what the peer said it takes, if it said so.
    pkcs1 = scheme('rsa-pkcs1-sha512').identifier
    assert used(keys('rsa'), set(EVERYTHING), (pkcs1,)) == 'rsa-pkcs1-sha512'
    # Its own way to write the identifier is kept.
    trailer = bytes.fromhex(PUBLISHED_IDENTIFIERS['rsa-pss-sha256'])
    _, data = PrivateKey(keys('rsa')).sign(OCTETS, EVERYTHING, (trailer,))
    assert identifier_of(data) == trailer
    # Nothing that fits: a hint, no demand.
    assert used(keys('rsa'), set(EVERYTHING), (b'what is that',)) == 'rsa-pss-sha256'
    # A hash that the peer didn't announce isn't used for all that.
    assert used(keys('rsa'), {SHA256}, (pkcs1,)) == 'rsa-pss-sha256'


@pytest.mark.parametrize('name', [one.name for one in SCHEMES])
def test_verify_accepts_every_form_of_identifier(name: str) -> None:
    one = scheme(name)
    for kind in one.kinds:
        key = keys(kind.name)
        for identifier in one.identifiers:
            data = bytes([len(identifier)]) + identifier + one.sign(key, OCTETS)
            PrivateKey(key).public_key.verify(DIGITAL_SIGNATURE, data, OCTETS)


def test_pss_salt_is_as_long_as_hash() -> None:
    # RFC 8247, 3.2 and RFC 7427, A.4.3: what the identifier says, and nothing else.
    key: rsa.RSAPrivateKey = keys('rsa')
    long_salt = key.sign(
        OCTETS, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH), hashes.SHA256()
    )
    identifier = scheme('rsa-pss-sha256').identifier
    with pytest.raises(AuthenticationFailed, match='signature is wrong'):
        PrivateKey(key).public_key.verify(
            DIGITAL_SIGNATURE, bytes([len(identifier)]) + identifier + long_salt, OCTETS
        )


# --- Published signatures ------------------------------------------------------------------------


def test_ed448_matches_rfc_8032() -> None:
    # RFC 8032, 7.4, "1 octet".
    private = ed448.Ed448PrivateKey.from_private_bytes(
        bytes.fromhex(
            'c4eab05d357007c632f3dbb48489924d552b08fe0c353a0d4a1f00acda2c463a'
            'fbea67c5e8d2877c5e3bc397a659949ef8021e954e0a12274e'
        )
    )
    signature = bytes.fromhex(
        '26b8f91727bd62897af15e41eb43c377efb9c610d48f2335cb0bd0087810f435'
        '2541b143c4b981b7e18f62de8ccdf633fc1bf037ab7cd779805e0dbcc0aae1cb'
        'cee1afb2e027df36bc04dcecbf154336c19f0af7e0a6472905e799f1953d2a0f'
        'f3348ab21aa4adafd1d234441cf807c03a00'
    )
    method, data = PrivateKey(private).sign(b'\x03', {IDENTITY})
    assert (method, data) == (DIGITAL_SIGNATURE, bytes.fromhex('07300506032b6571') + signature)


# RFC 4754, 8.1 to 8.3: message "abc"; (method, kind, x | y, r | s).
RFC_4754 = {
    '8.1': (
        AuthMethod.ECDSA_SHA256_P256,
        ec.SECP256R1(),
        '2442A5CC 0ECD015F A3CA31DC 8E2BBC70 BF42D60C BCA20085 E0822CB0 4235E970'
        '6FC98BD7 E50211A4 A27102FA 3549DF79 EBCB4BF2 46B80945 CDDFE7D5 09BBFD7D',
        'CB28E099 9B9C7715 FD0A80D8 E47A7707 9716CBBF 917DD72E 97566EA1 C066957C'
        '86FA3BB4 E26CAD5B F90B7F81 899256CE 7594BB1E A0C89212 748BFF3B 3D5B0315',
    ),
    '8.2': (
        AuthMethod.ECDSA_SHA384_P384,
        ec.SECP384R1(),
        '96281BF8 DD5E0525 CA049C04 8D345D30 82968D10 FEDF5C5A CA0C64E6 465A97EA'
        '5CE10C9D FEC21797 41571072 1F437922'
        '447688BA 94708EB6 E2E4D59F 6AB6D7ED FF9301D2 49FE49C3 3096655F 5D502FAD'
        '3D383B91 C5E7EDAA 2B714CC9 9D5743CA',
        'FB017B91 4E291494 32D8BAC2 9A514640 B46F53DD AB2C6994 8084E293 0F1C8F7E'
        '08E07C9C 63F2D21A 07DCB56A 6AF56EB3'
        'B263A130 5E057F98 4D38726A 1B468741 09F417BC A112674C 528262A4 0A629AF1'
        'CBB9F516 CE0FA7D2 FF630863 A00E8B9F',
    ),
}


@pytest.mark.parametrize('section', RFC_4754)
def test_ecdsa_matches_rfc_4754(section: str) -> None:
    method, curve, point, signature = RFC_4754[section]
    key = ec.EllipticCurvePublicKey.from_encoded_point(curve, b'\x04' + bytes.fromhex(point))
    public = PublicKey(_spki(key))
    public.verify(method, bytes.fromhex(signature), b'abc')
    with pytest.raises(AuthenticationFailed):
        public.verify(method, bytes.fromhex(signature), b'abd')


# --- Classic methods -----------------------------------------------------------------------------

CLASSIC = {
    'rsa': AuthMethod.RSA_DIGITAL_SIGNATURE,
    'ecdsa-p256': AuthMethod.ECDSA_SHA256_P256,
    'ecdsa-p384': AuthMethod.ECDSA_SHA384_P384,
    'ecdsa-p521': AuthMethod.ECDSA_SHA512_P521,
}
LENGTHS = {'ecdsa-p256': 64, 'ecdsa-p384': 96, 'ecdsa-p521': 132}


@pytest.mark.parametrize('kind', CLASSIC)
def test_sign_uses_classic_method_without_hashes(kind: str) -> None:
    # RFC 7427, 3: method 14 only if both sides sent SIGNATURE_HASH_ALGORITHMS.
    key = PrivateKey(keys(kind))
    method, data = key.sign(OCTETS, ())
    assert method == CLASSIC[kind]
    assert len(data) == LENGTHS.get(kind, 256)
    key.public_key.verify(method, data, OCTETS)
    with pytest.raises(AuthenticationFailed, match='signature is wrong'):
        key.public_key.verify(method, data, OCTETS + b'!')


@pytest.mark.parametrize('kind', KIND_NAMES)
@pytest.mark.parametrize('method', [0, 1, 2, 3, 9, 10, 11, 12, 13, 255])
def test_classic_method_fits_one_kind_of_key(kind: str, method: int) -> None:
    if CLASSIC.get(kind) == method:
        return
    with pytest.raises(AuthenticationFailed, match='does not fit'):
        PrivateKey(keys(kind)).public_key.verify(method, b'\x01' * 64, OCTETS)


@pytest.mark.parametrize('kind', LENGTHS)
def test_classic_ecdsa_signature_has_one_length(kind: str) -> None:
    # RFC 4754, 3: r | s, each as long as the curve's order.
    key = PrivateKey(keys(kind))
    method, data = key.sign(OCTETS, ())
    half = len(data) // 2
    r, s = (int.from_bytes(part, 'big') for part in (data[:half], data[half:]))
    for wrong in (b'', data[:-1], data + b'\0', b'\0' + data, encode_dss_signature(r, s)):
        with pytest.raises(AuthenticationFailed, match='signature is wrong'):
            key.public_key.verify(method, wrong, OCTETS)


@pytest.mark.parametrize('algorithm', [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_classic_rsa_signature_may_use_any_sha2(algorithm: hashes.HashAlgorithm) -> None:
    # RFC 7296, 3.8 leaves the hash to the signer.
    signature = keys('rsa').sign(OCTETS, padding.PKCS1v15(), algorithm)
    PrivateKey(keys('rsa')).public_key.verify(1, signature, OCTETS)


def test_classic_rsa_signature_with_sha1_is_refused() -> None:
    signature = keys('rsa').sign(OCTETS, padding.PKCS1v15(), hashes.SHA1())
    with pytest.raises(AuthenticationFailed, match='signature is wrong'):
        PrivateKey(keys('rsa')).public_key.verify(1, signature, OCTETS)


# --- What is no good -----------------------------------------------------------------------------


def _spki(key: Any) -> bytes:
    octets: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return octets


def _with_large_exponent() -> rsa.RSAPrivateKey:
    """An exponent as long as the modulus: a verification takes milliseconds."""
    numbers = rsa.generate_private_key(65537, 2048).private_numbers()
    p, q, d = numbers.p, numbers.q, 2**200 + 235
    e = pow(d, -1, lcm(p - 1, q - 1)) if gcd(d, lcm(p - 1, q - 1)) == 1 else 2**32 + 15
    public = rsa.RSAPublicNumbers(e, p * q)
    made = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return made.private_key(unsafe_skip_rsa_key_validation=True)


WEAK: dict[str, tuple[Any, str]] = {
    'rsa-1024': (rsa.generate_private_key(65537, 1024), '2048 to 8192 bits, not 1024'),
    'exponent 3': (rsa.generate_private_key(3, 2048), 'exponents are from 65537'),
    'a large exponent': (_with_large_exponent(), 'to 4294967296'),
    'secp256k1': (ec.generate_private_key(ec.SECP256K1()), 'keys must be of type ed25519'),
    'p-224': (ec.generate_private_key(ec.SECP224R1()), 'keys must be of type'),
    'dsa': (dsa.generate_private_key(2048), 'keys must be of type'),
    'x25519': (x25519.X25519PrivateKey.generate(), 'keys must be of type'),
}


@pytest.mark.parametrize('name', WEAK)
def test_kind_of_refuses_weak_and_other_keys(name: str) -> None:
    # RFC 8247, 3.1.1 for RSA.
    key, why = WEAK[name]
    with pytest.raises(CredentialError, match=why):
        PrivateKey(key)
    with pytest.raises(CredentialError, match=why):
        PublicKey.load(_spki(key.public_key()))
    with pytest.raises(AuthenticationFailed, match=why):
        PublicKey(_spki(key.public_key())).verify(DIGITAL_SIGNATURE, b'\x01\x01', OCTETS)


@pytest.mark.parametrize('data', [b'', b'\0', b'\x05abc', b'\xff' * 20])
def test_verify_refuses_data_without_identifier(data: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        PrivateKey(keys('rsa')).public_key.verify(DIGITAL_SIGNATURE, data, OCTETS)


@cache
def _signed(kind: str, classic: bool) -> tuple[int, bytes]:
    return PrivateKey(keys(kind)).sign(OCTETS, () if classic else EVERYTHING)


@pytest.mark.parametrize('kind', KIND_NAMES)
@given(st.data())
def test_verify_refuses_any_other_signature(kind: str, data: st.DataObject) -> None:
    key = PrivateKey(keys(kind))
    classic = kind in CLASSIC and data.draw(st.booleans())
    method, good = _signed(kind, classic)
    flipped = st.integers(0, 8 * len(good) - 1).map(
        lambda bit: (int.from_bytes(good, 'big') ^ 1 << bit).to_bytes(len(good), 'big')
    )
    cut = st.integers(0, len(good) - 1).map(lambda end: good[:end])
    octets = data.draw(st.one_of(flipped, cut, st.binary(max_size=200)))
    with pytest.raises(AuthenticationFailed):
        key.public_key.verify(method, octets, OCTETS)


@given(st.binary(max_size=300), st.integers(0, 255), st.binary(max_size=300))
def test_public_key_blames_peer_when_octets_are_any(spki: bytes, method: int, data: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        PublicKey(spki).verify(method, data, OCTETS)


def test_public_key_is_not_read_when_too_long() -> None:
    with pytest.raises(AuthenticationFailed, match="can't be read"):
        PublicKey(bytes(5000)).verify(DIGITAL_SIGNATURE, b'', OCTETS)

"""Kinds of signature keys, and the schemes by which each signs an AUTH payload.

Tables only:

- `KINDS`: a row for each kind of key;
- `SCHEMES`: a row for each scheme of the Digital Signature method (RFC 7427; RFC 8420 for Edwards
  curves; draft-ietf-ipsecme-ikev2-pqc-auth for ML-DSA);
- `CLASSIC`: a row for each method with an algorithm of its own (RFC 7296, 3.8; RFC 4754).

AlgorithmIdentifiers are compared as blobs, as RFC 7427, 3 allows.

SHA-1 appears nowhere (RFC 8247, 3.2). That includes RSA Digital Signature (method 1), where SHA-1
is still the default of RFC 7296: we sign with SHA2-256 and verify SHA-2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from ikev2.constants import AuthMethod, SignatureHash

SMALLEST_RSA = 2048  # bits; RFC 8247, 3.1.1
LARGEST_RSA = 8192  # our limit on the cost of a verification
SMALLEST_RSA_EXPONENT = 65537
LARGEST_RSA_EXPONENT = 2**32  # one as long as the modulus costs 50 times as much


@dataclass(frozen=True, slots=True)
class KeyKind:
    """A kind of signature key that we use and accept."""

    name: str
    private_type: type
    public_type: type
    curve: type[ec.EllipticCurve] | None = None

    def holds(self, public_key: object) -> bool:
        """Return True if the public key is of this kind."""
        if not isinstance(public_key, self.public_type):
            return False
        if self.curve is None:
            return True
        return isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(
            public_key.curve, self.curve
        )


ED25519: Final = KeyKind('ed25519', ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)
ED448: Final = KeyKind('ed448', ed448.Ed448PrivateKey, ed448.Ed448PublicKey)
_EC = ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey
P256: Final = KeyKind('ecdsa-p256', *_EC, ec.SECP256R1)
P384: Final = KeyKind('ecdsa-p384', *_EC, ec.SECP384R1)
P521: Final = KeyKind('ecdsa-p521', *_EC, ec.SECP521R1)
RSA: Final = KeyKind('rsa', rsa.RSAPrivateKey, rsa.RSAPublicKey)
ML_DSA_44: Final = KeyKind('ml-dsa-44', mldsa.MLDSA44PrivateKey, mldsa.MLDSA44PublicKey)
ML_DSA_65: Final = KeyKind('ml-dsa-65', mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey)
ML_DSA_87: Final = KeyKind('ml-dsa-87', mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PublicKey)

KINDS: Final = (ED25519, ED448, P256, P384, P521, RSA, ML_DSA_44, ML_DSA_65, ML_DSA_87)


class UnsuitableKeyError(ValueError):
    """A key is of a kind that we do not support, or weak; the text says which keys are good."""


def kind_of(public_key: object) -> KeyKind:
    """Return the kind of a public key. Raises UnsuitableKeyError if we do not accept the key."""
    kind = next((kind for kind in KINDS if kind.holds(public_key)), None)
    if kind is None:
        raise UnsuitableKeyError(f'keys must be of type {", ".join(kind.name for kind in KINDS)}')
    if isinstance(public_key, rsa.RSAPublicKey):
        if not SMALLEST_RSA <= public_key.key_size <= LARGEST_RSA:
            raise UnsuitableKeyError(
                f'RSA keys have {SMALLEST_RSA} to {LARGEST_RSA} bits, not {public_key.key_size}'
            )
        if not SMALLEST_RSA_EXPONENT <= public_key.public_numbers().e <= LARGEST_RSA_EXPONENT:
            raise UnsuitableKeyError(
                f'RSA exponents are from {SMALLEST_RSA_EXPONENT} to {LARGEST_RSA_EXPONENT}'
            )
    return kind


_HASHES: Final[dict[SignatureHash, hashes.HashAlgorithm]] = {
    SignatureHash.SHA2_256: hashes.SHA256(),
    SignatureHash.SHA2_384: hashes.SHA384(),
    SignatureHash.SHA2_512: hashes.SHA512(),
}
GOOD_HASHES: Final = tuple(_HASHES.values())
"""Hash algorithms that we accept in certificates and CRLs too."""

_Sign = Callable[[Any, bytes], bytes]
_Verify = Callable[[Any, bytes, bytes], None]


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """One scheme of method 14. `sign` and `verify` get keys of one of `kinds`."""

    name: str
    kinds: tuple[KeyKind, ...]
    hash: SignatureHash
    identifiers: tuple[bytes, ...]
    """AlgorithmIdentifiers in DER: we send the first one and accept the others too."""
    sign: _Sign
    verify: _Verify
    """(key, signature, signed octets); raises InvalidSignature."""

    @property
    def identifier(self) -> bytes:
        """Return the AlgorithmIdentifier that we send."""
        return self.identifiers[0]


def _sign_pure(key: Any, octets: bytes) -> bytes:
    signature: bytes = key.sign(octets)
    return signature


def _verify_pure(key: Any, signature: bytes, octets: bytes) -> None:
    key.verify(signature, octets)


def _pure(kind: KeyKind, identifier: str) -> SignatureScheme:
    """Return a scheme that does its own hashing."""
    return SignatureScheme(
        kind.name,
        (kind,),
        SignatureHash.IDENTITY,
        (bytes.fromhex(identifier),),
        _sign_pure,
        _verify_pure,
    )


def _ecdsa(hash_id: SignatureHash, identifier: str) -> SignatureScheme:
    """Return a scheme with ECDSA-Sig-Value in DER; RFC 7427 ties no curve to a hash."""
    algorithm = ec.ECDSA(_HASHES[hash_id])

    def sign(key: ec.EllipticCurvePrivateKey, octets: bytes) -> bytes:
        return key.sign(octets, algorithm)

    def verify(key: ec.EllipticCurvePublicKey, signature: bytes, octets: bytes) -> None:
        key.verify(signature, octets, algorithm)

    name = f'ecdsa-{_name(hash_id)}'
    return SignatureScheme(
        name, (P256, P384, P521), hash_id, (bytes.fromhex(identifier),), sign, verify
    )


def _rsa(
    name: str, scheme: padding.AsymmetricPadding, hash_id: SignatureHash, *identifiers: bytes
) -> SignatureScheme:
    algorithm = _HASHES[hash_id]

    def sign(key: rsa.RSAPrivateKey, octets: bytes) -> bytes:
        return key.sign(octets, scheme, algorithm)

    def verify(key: rsa.RSAPublicKey, signature: bytes, octets: bytes) -> None:
        key.verify(signature, octets, scheme, algorithm)

    return SignatureScheme(name, (RSA,), hash_id, identifiers, sign, verify)


def _pkcs1(hash_id: SignatureHash, identifier: str) -> SignatureScheme:
    name = f'rsa-pkcs1-{_name(hash_id)}'
    return _rsa(name, padding.PKCS1v15(), hash_id, bytes.fromhex(identifier))


def _pss(hash_id: SignatureHash, hash_oid: str) -> SignatureScheme:
    """Return a scheme of RFC 4055, 3.1: MGF1 with the same hash, and a salt of the hash's
    length.
    """
    algorithm = _HASHES[hash_id]
    scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
    # DER leaves the trailer field out, since it is the default; RFC 7427, A.4.3 shows it. Hash
    # algorithms are with NULL or without (RFC 4055, 2.1).
    identifiers = tuple(
        _pss_identifier(bytes.fromhex(hash_oid) + null, algorithm.digest_size, trailer)
        for trailer in (b'', _der(0xA3, bytes.fromhex('020101')))
        for null in (bytes.fromhex('0500'), b'')
    )
    return _rsa(f'rsa-pss-{_name(hash_id)}', scheme, hash_id, *identifiers)


_ID_RSASSA_PSS = bytes.fromhex('06092a864886f70d01010a')
_ID_MGF1 = bytes.fromhex('06092a864886f70d010108')


def _pss_identifier(hash_content: bytes, salt_length: int, trailer: bytes) -> bytes:
    hash_algorithm = _der(0x30, hash_content)
    parameters = (
        _der(0xA0, hash_algorithm)
        + _der(0xA1, _der(0x30, _ID_MGF1 + hash_algorithm))
        + _der(0xA2, bytes([2, 1, salt_length]))
        + trailer
    )
    return _der(0x30, _ID_RSASSA_PSS + _der(0x30, parameters))


def _der(tag: int, content: bytes) -> bytes:
    """Return tag, length and content, which must have less than 128 octets."""
    return bytes([tag, len(content)]) + content


def _name(hash_id: SignatureHash) -> str:
    return hash_id.name.lower().replace('_', '-').replace('sha2-', 'sha')


_SHA256, _SHA384, _SHA512 = (
    SignatureHash.SHA2_256,
    SignatureHash.SHA2_384,
    SignatureHash.SHA2_512,
)
_ECDSA_SHA256 = _ecdsa(_SHA256, '300a06082a8648ce3d040302')  # RFC 7427, A.3
_ECDSA_SHA384 = _ecdsa(_SHA384, '300a06082a8648ce3d040303')
_ECDSA_SHA512 = _ecdsa(_SHA512, '300a06082a8648ce3d040304')
_PKCS1_SHA256 = _pkcs1(_SHA256, '300d06092a864886f70d01010b0500')  # RFC 7427, A.1
_PKCS1_SHA384 = _pkcs1(_SHA384, '300d06092a864886f70d01010c0500')
_PKCS1_SHA512 = _pkcs1(_SHA512, '300d06092a864886f70d01010d0500')

SCHEMES: Final = (
    _pure(ED25519, '300506032b6570'),  # RFC 8420, A.1
    _pure(ED448, '300506032b6571'),  # RFC 8420, A.2
    _ECDSA_SHA256,
    _ECDSA_SHA384,
    _ECDSA_SHA512,
    # PSS first: RFC 8247, 3.2 has it as MUST and PKCS #1 v1.5 as MAY.
    _pss(_SHA256, '0609608648016503040201'),  # RFC 7427, A.4
    _pss(_SHA384, '0609608648016503040202'),
    _pss(_SHA512, '0609608648016503040203'),
    _PKCS1_SHA256,
    _PKCS1_SHA384,
    _PKCS1_SHA512,
    _pure(ML_DSA_44, '300b0609608648016503040311'),  # RFC 9881, 2
    _pure(ML_DSA_65, '300b0609608648016503040312'),
    _pure(ML_DSA_87, '300b0609608648016503040313'),
)
SUPPORTED_HASHES: Final = tuple(sorted({scheme.hash for scheme in SCHEMES}))

_BY_KIND: Final[dict[KeyKind, tuple[SignatureScheme, ...]]] = {
    **{kind: tuple(scheme for scheme in SCHEMES if kind in scheme.kinds) for kind in KINDS},
    # A curve's own hash first, then a stronger one, then a weaker one.
    P384: (_ECDSA_SHA384, _ECDSA_SHA512, _ECDSA_SHA256),
    P521: (_ECDSA_SHA512, _ECDSA_SHA384, _ECDSA_SHA256),
}


def schemes_of(kind: KeyKind) -> tuple[SignatureScheme, ...]:
    """Return all schemes for a kind of key, the most wanted first."""
    return _BY_KIND[kind]


@dataclass(frozen=True, slots=True)
class ClassicScheme:
    """A scheme with an authentication method of its own, for peers without RFC 7427."""

    kind: KeyKind
    sign: _Sign
    verify: _Verify


def _verify_any_pkcs1(key: rsa.RSAPublicKey, signature: bytes, octets: bytes) -> None:
    """Verify with each hash: RFC 7296, 3.8 leaves it to the signer, and the signature contains
    it.
    """
    for scheme in (_PKCS1_SHA256, _PKCS1_SHA384):
        try:
            scheme.verify(key, signature, octets)
        except InvalidSignature:
            continue
        return
    _PKCS1_SHA512.verify(key, signature, octets)


def _plain_ecdsa(kind: KeyKind, scheme: SignatureScheme, length: int) -> ClassicScheme:
    """Return a method of RFC 4754, 3: r | s, each as long as the curve's order (`length`
    octets).
    """

    def sign(key: ec.EllipticCurvePrivateKey, octets: bytes) -> bytes:
        r, s = decode_dss_signature(scheme.sign(key, octets))
        return r.to_bytes(length, 'big') + s.to_bytes(length, 'big')

    def verify(key: ec.EllipticCurvePublicKey, signature: bytes, octets: bytes) -> None:
        if len(signature) != 2 * length:
            raise InvalidSignature
        r, s = (int.from_bytes(part, 'big') for part in (signature[:length], signature[length:]))
        scheme.verify(key, encode_dss_signature(r, s), octets)

    return ClassicScheme(kind, sign, verify)


CLASSIC: Final[dict[AuthMethod, ClassicScheme]] = {
    AuthMethod.RSA_DIGITAL_SIGNATURE: ClassicScheme(RSA, _PKCS1_SHA256.sign, _verify_any_pkcs1),
    AuthMethod.ECDSA_SHA256_P256: _plain_ecdsa(P256, _ECDSA_SHA256, 32),
    AuthMethod.ECDSA_SHA384_P384: _plain_ecdsa(P384, _ECDSA_SHA384, 48),
    AuthMethod.ECDSA_SHA512_P521: _plain_ecdsa(P521, _ECDSA_SHA512, 66),
}


def classic_of(kind: KeyKind) -> AuthMethod | None:
    """Return the classic method for a kind of key, if there is one."""
    return next((method for method, scheme in CLASSIC.items() if scheme.kind is kind), None)

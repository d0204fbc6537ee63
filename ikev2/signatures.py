"""Signature schemes of the Digital Signature method (RFC 7427), and the keys that they take.

A scheme is a row: its AlgorithmIdentifier, compared as a blob as RFC 7427, 3 allows, the hash
that the peer must have announced for it, and how to sign and verify. Today: Ed25519 (RFC 8420).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm as _Unsupported
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from ikev2.constants import SignatureHash
from ikev2.errors import AuthenticationFailed, CredentialError
from keymaterial import Secret

_FINGERPRINT_PREFIX = 'sha256:'
_FINGERPRINT_LENGTH = 32


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """One way to sign. `sign` and `verify` get keys of the two types named here."""

    name: str
    algorithm_identifier: bytes
    """DER (RFC 7427, appendix A; RFC 8420, appendix A)."""
    hash: SignatureHash
    private_type: type
    public_type: type
    sign: Callable[[Any, bytes], bytes]
    verify: Callable[[Any, bytes, bytes], None]
    """(key, signature, signed octets); raises InvalidSignature."""


def _sign_ed25519(key: ed25519.Ed25519PrivateKey, octets: bytes) -> bytes:
    return key.sign(octets)


def _verify_ed25519(key: ed25519.Ed25519PublicKey, signature: bytes, octets: bytes) -> None:
    key.verify(signature, octets)


# The most wanted first.
SCHEMES: Final = (
    SignatureScheme(
        'ed25519',
        bytes.fromhex('300506032b6570'),  # RFC 8420, A.1
        SignatureHash.IDENTITY,
        ed25519.Ed25519PrivateKey,
        ed25519.Ed25519PublicKey,
        _sign_ed25519,
        _verify_ed25519,
    ),
)
SUPPORTED_HASHES: Final = tuple(sorted({scheme.hash for scheme in SCHEMES}))


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 over a DER SubjectPublicKeyInfo: pins a key that the peer sends in a CERT."""

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != _FINGERPRINT_LENGTH:
            raise CredentialError('a SHA-256 fingerprint has 32 octets')

    @classmethod
    def parse(cls, text: str) -> Self:
        """From sha256: and 64 hex digits. Raises CredentialError."""
        if not text.startswith(_FINGERPRINT_PREFIX):
            raise CredentialError('a fingerprint begins with sha256:')
        digits = text.removeprefix(_FINGERPRINT_PREFIX)
        try:
            digest = bytes.fromhex(digits)
        except ValueError:
            digest = b''
        if len(digits) != 2 * _FINGERPRINT_LENGTH or len(digest) != _FINGERPRINT_LENGTH:
            raise CredentialError('sha256: must be followed by 64 hex digits')
        return cls(digest)

    def __str__(self) -> str:
        return _FINGERPRINT_PREFIX + self.digest.hex()


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A peer's public key, pinned. Equal to another if its SubjectPublicKeyInfo is."""

    spki: bytes
    """DER SubjectPublicKeyInfo."""

    @classmethod
    def load(cls, data: bytes) -> Self:
        """From the content of a file: PEM or DER, SubjectPublicKeyInfo. Raises CredentialError."""
        try:
            pem = data.lstrip().startswith(b'-----')
            key = load_pem_public_key(data) if pem else load_der_public_key(data)
        except (ValueError, _Unsupported):
            raise CredentialError(
                'this is no public key in PEM or DER (SubjectPublicKeyInfo)'
            ) from None
        return cls(_spki(key))

    @property
    def fingerprint(self) -> Fingerprint:
        """SHA-256 over `spki`."""
        return Fingerprint(sha256(self.spki).digest())

    def verify(self, data: bytes, octets: bytes) -> None:
        """Check the Authentication Data of method 14 (RFC 7427, 3). Raises AuthenticationFailed."""
        try:
            key = load_der_public_key(self.spki)
        except (ValueError, _Unsupported):
            raise AuthenticationFailed("the peer's public key can't be read") from None
        identifier, signature = _split(data)
        for scheme in SCHEMES:
            if scheme.algorithm_identifier == identifier and isinstance(key, scheme.public_type):
                break
        else:
            raise AuthenticationFailed('the signature algorithm does not fit the public key')
        try:
            scheme.verify(key, signature, octets)
        except InvalidSignature:
            raise AuthenticationFailed('the signature is wrong') from None


class PrivateKey:
    """Our signature key. Prints as its type only."""

    __slots__ = ('_key', 'public_key')

    def __init__(self, key: Any) -> None:
        if not any(isinstance(key, scheme.private_type) for scheme in SCHEMES):
            raise CredentialError(
                f'private keys must be of type {", ".join(scheme.name for scheme in SCHEMES)}'
            )
        self._key = key
        self.public_key = PublicKey(_spki(key.public_key()))

    @classmethod
    def load(cls, pem: Secret) -> Self:
        """From the content of a PEM PKCS#8 file without a password. Raises CredentialError."""
        try:
            return cls(load_pem_private_key(pem.reveal(), password=None))
        except TypeError:
            raise CredentialError('the private key has a password; store it without') from None
        except (ValueError, _Unsupported):
            raise CredentialError('this is no private key in PEM (PKCS#8)') from None

    def sign(self, octets: bytes, peer_hashes: Collection[int]) -> bytes:
        """Authentication Data of method 14: length, AlgorithmIdentifier, signature.

        Raises AuthenticationFailed if the peer announced no hash that the key can be used with.
        """
        fitting = [scheme for scheme in SCHEMES if isinstance(self._key, scheme.private_type)]
        for scheme in fitting:
            if scheme.hash in peer_hashes:
                identifier = scheme.algorithm_identifier
                return bytes([len(identifier)]) + identifier + scheme.sign(self._key, octets)
        names = ', '.join(scheme.name for scheme in fitting)
        raise AuthenticationFailed(f"the peer didn't announce that it takes {names} signatures")

    # A configuration that is read again holds the same key: nothing has changed.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrivateKey):
            return NotImplemented
        return self.public_key == other.public_key

    def __hash__(self) -> int:
        return hash(self.public_key)

    def __repr__(self) -> str:
        return f'<PrivateKey {self.public_key.fingerprint}>'

    def __reduce__(self) -> NoReturn:
        raise TypeError('a PrivateKey is never serialised')

    # ExaBGP deep-copies its neighbors.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def _split(data: bytes) -> tuple[bytes, bytes]:
    """AlgorithmIdentifier and signature value."""
    if not data or len(data) < 1 + data[0]:
        raise AuthenticationFailed('the signature has no AlgorithmIdentifier')
    return data[1 : 1 + data[0]], data[1 + data[0] :]


def _spki(key: Any) -> bytes:
    if not any(isinstance(key, scheme.public_type) for scheme in SCHEMES):
        raise CredentialError(
            f'public keys must be of type {", ".join(scheme.name for scheme in SCHEMES)}'
        )
    octets: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return octets

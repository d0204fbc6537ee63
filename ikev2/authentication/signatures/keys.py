"""The keys that sign AUTH payloads: our private key, a peer's public key or its fingerprint.

schemes.py has the schemes of each kind of key. Raw public keys are RFC 7670, pinned; x509/paths.py
decides whether a certificate may speak for an identity.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm as _Unsupported
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from ikev2.authentication.signatures.schemes import (
    CLASSIC,
    SCHEMES,
    KeyKind,
    SignatureScheme,
    UnsuitableKeyError,
    classic_of,
    kind_of,
    schemes_of,
)
from ikev2.constants import AuthMethod
from ikev2.errors import AuthenticationFailed, CredentialError
from keymaterial import Secret, is_private_key, pem_label

_FINGERPRINT_PREFIX = 'sha256:'
_FINGERPRINT_LENGTH = 32
LARGEST_SPKI: Final = 4096
"""Octets; ML-DSA-87 takes 2614."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 over a DER SubjectPublicKeyInfo: pins a key that the peer sends in a CERT payload."""

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != _FINGERPRINT_LENGTH:
            raise CredentialError('a SHA-256 fingerprint has 32 octets')

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse sha256: and 64 hex digits. Raises CredentialError."""
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


@dataclass(frozen=True)
class PublicKey:
    """A peer's public key, pinned. Equal to another if both have the same SubjectPublicKeyInfo."""

    spki: bytes
    """DER SubjectPublicKeyInfo."""

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Make a key from a file's content: SubjectPublicKeyInfo in PEM or DER.

        Raises CredentialError.
        """
        try:
            pem = data.lstrip().startswith(b'-----')
            key = load_pem_public_key(data) if pem else load_der_public_key(data)
        except (ValueError, _Unsupported):
            if is_private_key(data):
                raise CredentialError(
                    'this is a private key, which stays on its own router: name the public key'
                ) from None
            if pem_label(data) == 'CERTIFICATE':
                raise CredentialError(
                    'this is a certificate: name its CA as trust-anchor, or its key as '
                    'peer-fingerprint (gatekeeper fingerprint tells it)'
                ) from None
            raise CredentialError(
                'this is no public key in PEM or DER (SubjectPublicKeyInfo)'
            ) from None
        return cls(_take(key)[1])

    @property
    def fingerprint(self) -> Fingerprint:
        """Return SHA-256 over `spki`."""
        return Fingerprint(sha256(self.spki).digest())

    def verify(self, method: int, data: bytes, octets: bytes) -> None:
        """Check the Authentication Data of a signature method. Raises AuthenticationFailed."""
        verify_signature(self.key, method, data, octets)

    @cached_property
    def key(self) -> Any:
        """Return the library's key object, decoded at first use. Raises AuthenticationFailed."""
        try:
            if len(self.spki) > LARGEST_SPKI:
                raise ValueError
            return load_der_public_key(self.spki)
        except (ValueError, _Unsupported):
            raise AuthenticationFailed("the peer's public key can't be read") from None


def verify_signature(key: Any, method: int, data: bytes, octets: bytes) -> None:
    """Check Authentication Data with a public key of the library.

    Under method 14 the data begins with an AlgorithmIdentifier (RFC 7427, 3). Raises
    AuthenticationFailed, also for a key that is too weak.
    """
    try:
        kind = kind_of(key)
        if method == AuthMethod.DIGITAL_SIGNATURE:
            scheme, signature = _read_scheme(kind, data)
            scheme.verify(key, signature, octets)
        else:
            classic = next((CLASSIC[known] for known in CLASSIC if known == method), None)
            if classic is None or classic.kind != kind:
                raise AuthenticationFailed(f"method {method} does not fit the peer's key")
            classic.verify(key, data, octets)
    except UnsuitableKeyError as error:
        raise AuthenticationFailed(f"the peer's key is refused: {error}") from None
    except InvalidSignature:
        raise AuthenticationFailed('the signature is wrong') from None


def _read_scheme(kind: KeyKind, data: bytes) -> tuple[SignatureScheme, bytes]:
    """Return the scheme and the signature value. Raises AuthenticationFailed."""
    if not data or len(data) < 1 + data[0]:
        raise AuthenticationFailed('the signature has no AlgorithmIdentifier')
    identifier, signature = data[1 : 1 + data[0]], data[1 + data[0] :]
    for scheme in SCHEMES:
        if identifier in scheme.identifiers and kind in scheme.kinds:
            return scheme, signature
    raise AuthenticationFailed('the signature algorithm does not fit the public key')


class PrivateKey:
    """Our signature key. Prints as its type only."""

    __slots__ = ('_key', '_kind', 'public_key')

    def __init__(self, key: Any) -> None:
        """Take a key of the library.

        Raises CredentialError for a key of another kind, or a weak one.
        """
        self._kind, spki = _take(key.public_key())
        self._key = key
        self.public_key = PublicKey(spki)

    @classmethod
    def load(cls, pem: Secret) -> Self:
        """Make a key from a PEM PKCS#8 file's content, without a password.

        Raises CredentialError.
        """
        try:
            return cls(load_pem_private_key(pem.reveal(), password=None))
        except TypeError:
            raise CredentialError('the private key has a password; store it without') from None
        except (ValueError, _Unsupported):
            raise CredentialError('this is no private key in PEM (PKCS#8)') from None

    def sign(
        self,
        octets: bytes,
        peer_hashes: Collection[int],
        announced: Collection[bytes] = (),
    ) -> tuple[AuthMethod, bytes]:
        """Return method and Authentication Data of our AUTH payload.

        `peer_hashes` is the peer's SIGNATURE_HASH_ALGORITHMS: with it, method 14 and one of its
        hashes are used (RFC 7427, 3); without, the classic method of the key. `announced` are the
        AlgorithmIdentifiers that the peer accepts (RFC 9593): the first of ours that is among them
        is used. They are a hint: without a match our own order counts. Raises AuthenticationFailed
        if the peer does not accept signatures of this key.
        """
        if not peer_hashes:
            return self._sign_classic(octets)
        schemes = schemes_of(self._kind)
        usable = [scheme for scheme in schemes if scheme.hash in peer_hashes]
        if not usable:
            names = ', '.join(scheme.name for scheme in schemes)
            raise AuthenticationFailed(f"the peer didn't announce that it takes {names} signatures")
        wanted = (s for s in usable if any(i in announced for i in s.identifiers))
        scheme = next(wanted, usable[0])
        identifier = next((i for i in scheme.identifiers if i in announced), scheme.identifier)
        data = bytes([len(identifier)]) + identifier + scheme.sign(self._key, octets)
        return AuthMethod.DIGITAL_SIGNATURE, data

    def _sign_classic(self, octets: bytes) -> tuple[AuthMethod, bytes]:
        method = classic_of(self._kind)
        if method is None:
            raise AuthenticationFailed(
                f"the peer didn't announce that it takes {self._kind.name} signatures"
            )
        return method, CLASSIC[method].sign(self._key, octets)

    # Equal keys after a reload of the configuration mean that nothing has changed.
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

    # A routing daemon may deep-copy its neighbors.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def _take(public_key: Any) -> tuple[KeyKind, bytes]:
    """Return kind and SubjectPublicKeyInfo of an operator's key. Raises CredentialError."""
    try:
        kind = kind_of(public_key)
    except UnsuitableKeyError as error:
        raise CredentialError(str(error)) from None
    return kind, public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

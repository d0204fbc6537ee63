"""The signature on a certificate or CRL, checked with its issuer's key (RFC 5280, 6.1.3 (a)(1)).

The library verifies; here are only the algorithms that we take: those of schemes.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ikev2.authentication.signatures.schemes import GOOD_HASHES, kind_of

# What the library may raise for parameters that it has read and can't use; UnsuitableKeyError is a
# ValueError. A stranger writes them.
_UNUSABLE = (ValueError, TypeError, OverflowError, UnsupportedAlgorithm)
_GOOD = tuple(type(algorithm) for algorithm in GOOD_HASHES)


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed, the signature, and how."""

    octets: bytes
    signature: bytes
    hash: hashes.HashAlgorithm | None
    """None where the scheme does its own hashing."""
    parameters: object
    """The library's: PSS, PKCS1v15, ECDSA or None."""

    def __post_init__(self) -> None:
        """Raises ValueError for a hash that is too weak."""
        if self.hash is not None and not isinstance(self.hash, _GOOD):
            raise ValueError(f'signed with {self.hash.name}, which is not good enough')

    def by(self, key: Any) -> bool:
        """The holder of this public key signed it."""
        try:
            kind_of(key)
            self._verify(key)
        except (InvalidSignature, *_UNUSABLE):
            return False
        return True

    def _verify(self, key: Any) -> None:
        """Raises InvalidSignature, also where the algorithm doesn't go with the key."""
        if isinstance(key, rsa.RSAPublicKey):
            if self.hash is None or not isinstance(self.parameters, padding.PSS | padding.PKCS1v15):
                raise InvalidSignature
            key.verify(self.signature, self.octets, self.parameters, self.hash)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if self.hash is None or not isinstance(self.parameters, ec.ECDSA):
                raise InvalidSignature
            key.verify(self.signature, self.octets, self.parameters)
        elif self.hash is not None:
            raise InvalidSignature
        else:
            key.verify(self.signature, self.octets)

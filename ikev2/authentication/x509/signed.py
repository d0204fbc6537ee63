"""The signature on a certificate or CRL, checked with its issuer's key (RFC 5280, 6.1.3 (a)(1)).

The library verifies; this module has the algorithms that we accept: those of signatures/schemes.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ikev2.authentication.signatures.schemes import GOOD_HASHES, kind_of

# Errors of the library for parameters that it can read but not use; UnsuitableKeyError is a
# ValueError. An attacker may choose the parameters.
_UNUSABLE = (ValueError, TypeError, OverflowError, UnsupportedAlgorithm)
_GOOD = tuple(type(algorithm) for algorithm in GOOD_HASHES)


@dataclass(frozen=True, slots=True)
class Signed:
    """The signed octets, the signature, and its algorithm."""

    octets: bytes
    signature: bytes
    hash: hashes.HashAlgorithm | None
    """None if the scheme does its own hashing."""
    parameters: object
    """The library's parameters: PSS, PKCS1v15, ECDSA or None."""

    def __post_init__(self) -> None:
        """Check the hash. Raises ValueError if it is too weak."""
        if self.hash is not None and not isinstance(self.hash, _GOOD):
            raise ValueError(f'signed with {self.hash.name}, which is not good enough')

    def by(self, key: Any) -> bool:
        """Return True if the holder of this public key made the signature."""
        try:
            kind_of(key)
            self._verify(key)
        except (InvalidSignature, *_UNUSABLE):
            return False
        return True

    def _verify(self, key: Any) -> None:
        """Verify the signature.

        Raises InvalidSignature, also if the algorithm does not go with the key.
        """
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

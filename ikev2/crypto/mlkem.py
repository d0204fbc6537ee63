"""ML-KEM-768 and ML-KEM-1024 as key exchange methods (draft-ietf-ipsecme-ikev2-mlkem; FIPS 203).

A KEM has two different halves: the initiator sends an encapsulation key and gets a ciphertext, the
responder makes the ciphertext and the secret in one step. The library does both, and makes the
checks of FIPS 203, 7.2 and 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm as _Unsupported
from cryptography.hazmat.primitives.asymmetric import mlkem

from ikev2.constants import KeyExchangeId
from ikev2.errors import InvalidKeyExchange, UnsupportedAlgorithm
from keymaterial import Secret

_PrivateKey = mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey


@dataclass(frozen=True, slots=True)
class MlKem:
    """A parameter set of ML-KEM."""

    group: KeyExchangeId
    name: str
    private_type: type[mlkem.MLKEM768PrivateKey] | type[mlkem.MLKEM1024PrivateKey]
    public_type: type[mlkem.MLKEM768PublicKey] | type[mlkem.MLKEM1024PublicKey]

    def generate(self, seed: Secret | None = None) -> _PrivateKey:
        """Return a fresh decapsulation key, or the key of a seed d | z.

        Raises UnsupportedAlgorithm.
        """
        try:
            if seed is None:
                return self.private_type.generate()
            return self.private_type.from_seed_bytes(seed.reveal())
        except _Unsupported:
            raise UnsupportedAlgorithm(f'this OpenSSL has no {self.name}') from None

    def encapsulate(self, encapsulation_key: bytes) -> tuple[bytes, Secret]:
        """Return ciphertext and secret. Raises InvalidKeyExchange, UnsupportedAlgorithm."""
        try:
            # Checks the length, and that every coefficient is below q (FIPS 203, 7.2).
            peer = self.public_type.from_public_bytes(encapsulation_key)
        except ValueError:
            raise InvalidKeyExchange(f'not an encapsulation key of {self.name}') from None
        except _Unsupported:
            raise UnsupportedAlgorithm(f'this OpenSSL has no {self.name}') from None
        secret, ciphertext = peer.encapsulate()
        return ciphertext, Secret(secret)

    def decapsulate(self, key: _PrivateKey, ciphertext: bytes) -> Secret:
        """Return the secret; an unrelated one if the ciphertext was made for another key (FIPS 203,
        6.3).

        Raises InvalidKeyExchange if the length is wrong.
        """
        try:
            return Secret(key.decapsulate(ciphertext))
        except ValueError:
            raise InvalidKeyExchange(f'not a ciphertext of {self.name}') from None


PARAMETER_SETS: Final = (
    MlKem(
        KeyExchangeId.ML_KEM_768, 'ML-KEM-768', mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey
    ),
    MlKem(
        KeyExchangeId.ML_KEM_1024,
        'ML-KEM-1024',
        mlkem.MLKEM1024PrivateKey,
        mlkem.MLKEM1024PublicKey,
    ),
)

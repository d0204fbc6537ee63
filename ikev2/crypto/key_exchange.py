"""Key exchange methods (Transform Types 4 and 6 to 12) behind one interface.

X25519 (RFC 8031), ECP groups (RFC 5903) and MODP groups (RFC 3526), with the checks of a peer's
public value that RFC 6989 wants, and ML-KEM (mlkem.py). The two roles differ in the interface
because a KEM's do: the initiator generates, sends and finishes; the responder does all in one
step.

Private keys come from `cryptography`, which draws them from the system's generator and takes no
randomness from us; a private key can be given instead, for published vectors only.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric import dh, ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ikev2.constants import KeyExchangeId
from ikev2.crypto.mlkem import PARAMETER_SETS, MlKem
from ikev2.crypto.modp import MODP_2048_PRIME, MODP_3072_PRIME, MODP_4096_PRIME, MODP_GENERATOR
from ikev2.errors import InvalidKeyExchange, UnsupportedAlgorithm
from keymaterial import Secret

# cryptography 50 announces that it will drop these groups. We keep them for peers that support
# nothing better, and an operator can't do anything about the warning at every use.
warnings.filterwarnings('ignore', message='Diffie-Hellman over finite fields')


class KeyExchange(ABC):
    """Our half of one key exchange; make a new object for each exchange."""

    __slots__ = ('group', 'public_value')

    group: int
    """Transform Type 4 id."""
    public_value: bytes
    """The key exchange data of our KE payload."""

    @staticmethod
    def generate(group: int, private_key: Secret | None = None) -> KeyExchange:
        """Return a fresh key pair, or the pair of `private_key` (big-endian; RFC 7748; ML-KEM: d |
        z).

        Raises UnsupportedAlgorithm for a method that this host does not support.
        """
        make = _METHODS.get(group)
        if make is None:
            raise UnsupportedAlgorithm(f'key exchange method {group} is not supported')
        return make(private_key)

    @abstractmethod
    def shared_secret(self, peer_value: bytes) -> Secret:
        """Return the shared secret in the form that SKEYSEED takes. Raises InvalidKeyExchange."""


def respond(
    group: int, peer_value: bytes, private_key: Secret | None = None
) -> tuple[bytes, Secret]:
    """Return, as responder, our KE payload's data and the shared secret.

    Raises UnsupportedAlgorithm and InvalidKeyExchange.
    """
    encapsulate = _ENCAPSULATE.get(group)
    if encapsulate is not None:
        return encapsulate(peer_value)
    exchange = KeyExchange.generate(group, private_key)
    return exchange.public_value, exchange.shared_secret(peer_value)


@cache
def available(group: int) -> bool:
    """Return True if this host supports a method: in our list, and known to the library's
    OpenSSL.
    """
    if group in GROUPS:
        return True
    try:
        KeyExchange.generate(group)
    except UnsupportedAlgorithm:
        return False
    return True


class _X25519(KeyExchange):
    """RFC 8031, 2 and 3: 32 octets each way; an all-zero shared secret is refused."""

    __slots__ = ('_private',)

    def __init__(self, private_key: Secret | None) -> None:
        self.group = KeyExchangeId.CURVE25519
        if private_key is None:
            self._private = x25519.X25519PrivateKey.generate()
        else:
            self._private = x25519.X25519PrivateKey.from_private_bytes(private_key.reveal())
        self.public_value = self._private.public_key().public_bytes_raw()

    def shared_secret(self, peer_value: bytes) -> Secret:
        if len(peer_value) != 32:
            raise InvalidKeyExchange(f'X25519 public value of {len(peer_value)} octets')
        try:
            peer = x25519.X25519PublicKey.from_public_bytes(peer_value)
            return Secret(self._private.exchange(peer))
        except ValueError:
            raise InvalidKeyExchange('X25519 public value of small order') from None


class _Ecp(KeyExchange):
    """RFC 5903, 7: x | y without a prefix; the secret is x. The point must be on the curve."""

    __slots__ = ('_curve', '_private')

    def __init__(self, group: int, curve: ec.EllipticCurve, private_key: Secret | None) -> None:
        self.group = group
        self._curve = curve
        if private_key is None:
            self._private = ec.generate_private_key(curve)
        else:
            number = int.from_bytes(private_key.reveal(), 'big')
            self._private = ec.derive_private_key(number, curve)
        point = self._private.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )
        self.public_value = point[1:]

    def shared_secret(self, peer_value: bytes) -> Secret:
        if len(peer_value) != 2 * ((self._curve.key_size + 7) // 8):
            raise InvalidKeyExchange(f'ECP public value of {len(peer_value)} octets')
        try:
            # Refuses a point that isn't on the curve (RFC 6989, 2.3); infinity has no such form.
            peer = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, b'\x04' + peer_value)
        except ValueError:
            raise InvalidKeyExchange('ECP public value is not on the curve') from None
        return Secret(self._private.exchange(ec.ECDH(), peer))


class _Modp(KeyExchange):
    """RFC 7296, 3.4: as long as the prime, zeros in front; so is the secret (2.14)."""

    __slots__ = ('_length', '_parameters', '_private')

    def __init__(self, group: int, prime: int, private_key: Secret | None) -> None:
        parameters = dh.DHParameterNumbers(prime, MODP_GENERATOR)
        self.group = group
        self._parameters = parameters
        self._length = prime.bit_length() // 8
        if private_key is None:
            self._private = parameters.parameters().generate_private_key()
        else:
            x = int.from_bytes(private_key.reveal(), 'big')
            public = dh.DHPublicNumbers(pow(parameters.g, x, parameters.p), parameters)
            self._private = dh.DHPrivateNumbers(x, public).private_key()
        y = self._private.public_key().public_numbers().y
        self.public_value = y.to_bytes(self._length, 'big')

    def shared_secret(self, peer_value: bytes) -> Secret:
        if len(peer_value) != self._length:
            raise InvalidKeyExchange(f'MODP public value of {len(peer_value)} octets')
        y = int.from_bytes(peer_value, 'big')
        # RFC 6989, 2.1: the primes are safe, so these bounds are the whole check.
        if not 1 < y < self._parameters.p - 1:
            raise InvalidKeyExchange('MODP public value out of range')
        peer = dh.DHPublicNumbers(y, self._parameters).public_key()
        return Secret(self._private.exchange(peer).rjust(self._length, b'\0'))


class _MlKem(KeyExchange):
    """The initiator's half of ML-KEM: the responder's is `MlKem.encapsulate`."""

    __slots__ = ('_key', '_parameters')

    def __init__(self, parameters: MlKem, seed: Secret | None) -> None:
        self.group = parameters.group
        self._parameters = parameters
        self._key = parameters.generate(seed)
        self.public_value = self._key.public_key().public_bytes_raw()

    def shared_secret(self, peer_value: bytes) -> Secret:
        return self._parameters.decapsulate(self._key, peer_value)


_METHODS: Final[dict[int, Callable[[Secret | None], KeyExchange]]] = {
    KeyExchangeId.CURVE25519: _X25519,
    KeyExchangeId.ECP_256: partial(_Ecp, KeyExchangeId.ECP_256, ec.SECP256R1()),
    KeyExchangeId.ECP_384: partial(_Ecp, KeyExchangeId.ECP_384, ec.SECP384R1()),
    KeyExchangeId.MODP_2048: partial(_Modp, KeyExchangeId.MODP_2048, MODP_2048_PRIME),
    KeyExchangeId.MODP_3072: partial(_Modp, KeyExchangeId.MODP_3072, MODP_3072_PRIME),
    KeyExchangeId.MODP_4096: partial(_Modp, KeyExchangeId.MODP_4096, MODP_4096_PRIME),
    **{row.group: partial(_MlKem, row) for row in PARAMETER_SETS},
}
_ENCAPSULATE: Final[dict[int, Callable[[bytes], tuple[bytes, Secret]]]] = {
    row.group: row.encapsulate for row in PARAMETER_SETS
}
GROUPS: Final = frozenset(_METHODS.keys() - _ENCAPSULATE.keys())
"""Methods for the first key exchange of an SA."""
ADDITIONAL_METHODS: Final = frozenset(row.group for row in PARAMETER_SETS)
"""Methods for an additional key exchange (RFC 9370): too long for IKE_SA_INIT, which can't be
fragmented."""
SECURITY_BITS: Final[dict[int, int]] = {
    KeyExchangeId.MODP_2048: 112,
    KeyExchangeId.CURVE25519: 128,
    KeyExchangeId.ECP_256: 128,
    KeyExchangeId.MODP_3072: 128,
    KeyExchangeId.MODP_4096: 128,
    KeyExchangeId.ECP_384: 192,
}
"""Strength of each of GROUPS in bits, without quantum computers: NIST SP 800-57 Part 1 Rev. 5,
Table 2, where a prime between two rows counts as the smaller one, and RFC 7748 for Curve25519. Only
for telling a weaker group from one that is as good: groups of one row are equals."""

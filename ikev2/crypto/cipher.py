"""Encryption and integrity protection of SK and SKF content: AEADs, and AES-CBC with HMAC.

A `Cipher` works in one direction of one IKE SA. It knows neither padding nor headers
(sa/protection.py does) and keeps no counter: the caller gives every IV and must never give the same
one twice under one key.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher as _BlockCipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hmac import HMAC

from ikev2.constants import EncryptionId, IntegrityId
from ikev2.errors import IntegrityFailure
from keymaterial import Secret

_SALT_LENGTH = 4  # RFC 5282, 7.1; RFC 7634, 2
_AEAD_IV_LENGTH = 8
_AEAD_ICV_LENGTH = 16
_AES_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Encryption:
    """An encryption algorithm for SK content with its integrity algorithm.

    Lengths are in octets. `integ` is None for an AEAD, whose key includes its salt.
    """

    name: str
    encr: EncryptionId
    key_bits: int | None
    """The Key Length attribute in bits; None where the attribute is forbidden."""
    integ: IntegrityId | None
    encryption_key_length: int
    integrity_key_length: int
    iv_length: int
    icv_length: int
    block_length: int
    """Octets; plaintext is padded to a multiple of this length."""

    @property
    def aead(self) -> bool:
        """Return True if no integrity algorithm is negotiated with this encryption algorithm."""
        return self.integ is None

    def sealed_length(self, padded_length: int) -> int:
        """Return the octets of IV, ciphertext and integrity check value for a padded plaintext."""
        return self.iv_length + padded_length + self.icv_length


def _aead(name: str, encr: EncryptionId, key_bits: int | None, key_length: int) -> Encryption:
    return Encryption(
        name,
        encr,
        key_bits,
        None,
        key_length + _SALT_LENGTH,
        0,
        _AEAD_IV_LENGTH,
        _AEAD_ICV_LENGTH,
        1,
    )


def _cbc(name: str, key_bits: int) -> Encryption:
    return Encryption(
        name,
        EncryptionId.AES_CBC,
        key_bits,
        IntegrityId.HMAC_SHA2_256_128,
        key_bits // 8,
        32,
        _AES_BLOCK,
        16,
        _AES_BLOCK,
    )


AES_256_GCM_16 = _aead('aes-256-gcm-16', EncryptionId.AES_GCM_16, 256, 32)
AES_128_GCM_16 = _aead('aes-128-gcm-16', EncryptionId.AES_GCM_16, 128, 16)
CHACHA20_POLY1305 = _aead('chacha20-poly1305', EncryptionId.CHACHA20_POLY1305, None, 32)
AES_256_CBC_HMAC_SHA2_256_128 = _cbc('aes-256-cbc-hmac-sha2-256-128', 256)
AES_128_CBC_HMAC_SHA2_256_128 = _cbc('aes-128-cbc-hmac-sha2-256-128', 128)

ENCRYPTIONS: dict[str, Encryption] = {
    row.name: row
    for row in (
        AES_256_GCM_16,
        CHACHA20_POLY1305,
        AES_128_GCM_16,
        AES_256_CBC_HMAC_SHA2_256_128,
        AES_128_CBC_HMAC_SHA2_256_128,
    )
}


class Cipher(ABC):
    """A cipher that seals, or opens, the content of SK payloads under one direction's keys."""

    __slots__ = ('encryption',)

    def __init__(self, encryption: Encryption) -> None:
        self.encryption = encryption

    @abstractmethod
    def make_iv(self, counter: int, random: Callable[[int], bytes]) -> bytes:
        """Return an IV for one sealing; `counter` is another one for each under this key.

        The IV is the counter for an AEAD; `random(16)` for CBC, which needs an unpredictable one
        (RFC 7296, 3.14). Raises OverflowError from 2**64 on.
        """

    @abstractmethod
    def seal(self, iv: bytes, plaintext: bytes, associated: bytes) -> bytes:
        """Return IV, ciphertext and integrity check value. `plaintext` is padded already."""

    @abstractmethod
    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Return the padded plaintext. Raises IntegrityFailure, whatever is wrong."""

    def _cut(self, sealed: bytes) -> tuple[bytes, bytes]:
        """Split off the IV; the rest has at least one block, since Pad Length is never absent."""
        encryption = self.encryption
        if len(sealed) < encryption.sealed_length(encryption.block_length):
            raise IntegrityFailure(f'encrypted payload of {len(sealed)} octets')
        return sealed[: encryption.iv_length], sealed[encryption.iv_length :]


class _Aead(Cipher):
    """RFC 5282, 3 and 4; RFC 7634, 2: nonce = salt | IV, ICV appended to the ciphertext."""

    __slots__ = ('_aead', '_salt')

    def __init__(self, encryption: Encryption, key: Secret) -> None:
        super().__init__(encryption)
        octets = key.reveal()
        key_octets, self._salt = octets[:-_SALT_LENGTH], octets[-_SALT_LENGTH:]
        self._aead: AESGCM | ChaCha20Poly1305
        if encryption.encr == EncryptionId.AES_GCM_16:
            self._aead = AESGCM(key_octets)
        else:
            self._aead = ChaCha20Poly1305(key_octets)

    def make_iv(self, counter: int, random: Callable[[int], bytes]) -> bytes:
        return counter.to_bytes(_AEAD_IV_LENGTH, 'big')

    def seal(self, iv: bytes, plaintext: bytes, associated: bytes) -> bytes:
        return iv + self._aead.encrypt(self._salt + iv, plaintext, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        iv, rest = self._cut(sealed)
        try:
            return self._aead.decrypt(self._salt + iv, rest, associated)
        except InvalidTag:
            raise IntegrityFailure('integrity check failed') from None


class _CbcHmac(Cipher):
    """RFC 7296, 3.14: encrypt, then HMAC over everything before the check value."""

    __slots__ = ('_aes', '_keyed')

    def __init__(self, encryption: Encryption, key: Secret, integrity_key: Secret) -> None:
        super().__init__(encryption)
        self._aes = AES(key.reveal())
        # The HMAC keeps the key's octets: the Secret may be wiped while this cipher is in use.
        self._keyed = HMAC(integrity_key.reveal(), hashes.SHA256())

    def make_iv(self, counter: int, random: Callable[[int], bytes]) -> bytes:
        return random(_AES_BLOCK)

    def seal(self, iv: bytes, plaintext: bytes, associated: bytes) -> bytes:
        encryptor = _BlockCipher(self._aes, CBC(iv)).encryptor()
        sealed = iv + encryptor.update(plaintext) + encryptor.finalize()
        return sealed + self._check_value(associated + sealed)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        iv, rest = self._cut(sealed)
        end = len(rest) - self.encryption.icv_length
        ciphertext, check_value = rest[:end], rest[end:]
        if not bytes_eq(self._check_value(associated + iv + ciphertext), check_value):
            raise IntegrityFailure('integrity check failed')
        if len(ciphertext) % _AES_BLOCK:
            raise IntegrityFailure('ciphertext is not a whole number of blocks')
        decryptor = _BlockCipher(self._aes, CBC(iv)).decryptor()
        return decryptor.update(ciphertext) + decryptor.finalize()

    def _check_value(self, data: bytes) -> bytes:
        mac = self._keyed.copy()
        mac.update(data)
        return mac.finalize()[: self.encryption.icv_length]


def make_cipher(encryption: Encryption, key: Secret, integrity_key: Secret) -> Cipher:
    """Return a cipher from SK_ei or SK_er (with its salt, if it has one) and SK_ai or SK_ar.

    `integrity_key` is empty for an AEAD. Raises ValueError for a wrong key length.
    """
    if len(key) != encryption.encryption_key_length:
        raise ValueError(f'{encryption.name} takes a key of {encryption.encryption_key_length}')
    if len(integrity_key) != encryption.integrity_key_length:
        raise ValueError(f'{encryption.name}: wrong length of the integrity key')
    if encryption.aead:
        return _Aead(encryption, key)
    return _CbcHmac(encryption, key, integrity_key)

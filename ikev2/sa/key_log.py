"""Keys of IKE SAs for Wireshark, on explicit request only: lines of its `ikev2_decryption_table`.

Initiator's SPI, responder's SPI, SK_ei, SK_er, encryption, SK_ai, SK_ar, integrity; octets in
hexadecimal, an AEAD's key with its salt. With SK_e and SK_a one can read an IKE SA's messages and
forge them, but not derive the master keys that it negotiates: those need SK_d and the key exchange.
No I/O.
"""

from __future__ import annotations

from typing import Final

from ikev2.crypto.cipher import (
    AES_128_CBC_HMAC_SHA2_256_128,
    AES_128_GCM_16,
    AES_256_CBC_HMAC_SHA2_256_128,
    AES_256_GCM_16,
)
from ikev2.crypto.keys import IkeKeys
from ikev2.sa.origin import Origin
from keymaterial import Secret

_NO_INTEGRITY: Final = 'NONE [RFC4306]'
_HMAC_SHA2_256_128: Final = 'HMAC_SHA2_256_128 [RFC4868]'
# Wireshark compares these names exactly, and an unknown one makes it refuse the whole table. It has
# no name for ChaCha20-Poly1305.
_WORDS: Final = {
    AES_256_GCM_16: ('AES-GCM-256 with 16 octet ICV [RFC5282]', _NO_INTEGRITY),
    AES_128_GCM_16: ('AES-GCM-128 with 16 octet ICV [RFC5282]', _NO_INTEGRITY),
    AES_256_CBC_HMAC_SHA2_256_128: ('AES-CBC-256 [RFC3602]', _HMAC_SHA2_256_128),
    AES_128_CBC_HMAC_SHA2_256_128: ('AES-CBC-128 [RFC3602]', _HMAC_SHA2_256_128),
}


def table_line(origin: Origin, keys: IkeKeys) -> str:
    """Return the line for an IKE SA; a comment without keys if Wireshark cannot decrypt it.

    Call before the keys are wiped.
    """
    spis = f'{origin.spi_i.hex()},{origin.spi_r.hex()}'
    words = _WORDS.get(origin.suite.encryption)
    if words is None:
        return f'# {spis}: {origin.suite.encryption.name}, which Wireshark cannot decrypt'
    encryption, integrity = words
    return (
        f'{spis},{_hex(keys.sk_ei)},{_hex(keys.sk_er)},"{encryption}",'
        f'{_hex(keys.sk_ai)},{_hex(keys.sk_ar)},"{integrity}"'
    )


def _hex(secret: Secret) -> str:
    """Return a secret in hexadecimal, "" in quotes if empty: Wireshark skips empty fields."""
    return secret.reveal().hex() or '""'

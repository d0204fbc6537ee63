"""Creation of credentials for IKE: files that are private from their first octet on, both or
none.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ikev2.crypto.entropy import PPK_FLOOR, estimate
from keymaterial import create_private_file

PSK_OCTETS: Final = 32
"""Octets before hexadecimal encoding: as strong as any suite here."""
KEY_KINDS: Final[dict[str, Callable[[], Any]]] = {
    'ed25519': ed25519.Ed25519PrivateKey.generate,
    'ed448': ed448.Ed448PrivateKey.generate,
    'ecdsa-p256': lambda: ec.generate_private_key(ec.SECP256R1()),
    'ecdsa-p384': lambda: ec.generate_private_key(ec.SECP384R1()),
    'ecdsa-p521': lambda: ec.generate_private_key(ec.SECP521R1()),
    # For peers that support nothing else; as strong as P-256 (NIST SP 800-57).
    'rsa-3072': lambda: rsa.generate_private_key(public_exponent=65537, key_size=3072),
}
"""Kinds of key pairs, the best first."""


def make_psk(path: Path) -> None:
    """Write a pre-shared key: 32 random octets in hexadecimal. Raises OSError, FileExistsError.

    One random key in many millions looks so regular that a peer would refuse it: such a key is
    skipped.
    """
    key = b''
    while estimate(key) < PPK_FLOOR:
        key = secrets.token_hex(PSK_OCTETS).encode()
    _write(path, key + b'\n')


def make_key_pair(kind: str, private: Path, public: Path) -> None:
    """Write a key pair of one of `KEY_KINDS`: PKCS#8 and SubjectPublicKeyInfo, both PEM.

    Raises OSError, FileExistsError; then neither file was created.
    """
    key = KEY_KINDS[kind]()
    _write(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        _write(
            public,
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            0o644,
        )
    except OSError:
        private.unlink()
        raise


def _write(path: Path, octets: bytes, mode: int = 0o600) -> None:
    """Create a file, or none if it can't be written whole."""
    descriptor = create_private_file(path)
    try:
        with os.fdopen(descriptor, 'wb') as file:
            file.write(octets)
            os.fchmod(descriptor, mode)
    except OSError as error:
        error.filename = str(path)
        with suppress(OSError):
            path.unlink()
        raise

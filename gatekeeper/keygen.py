"""Making credentials for IKE: files that are private from their first octet on."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

PSK_OCTETS = 32
"""Before hexadecimal: as strong as any suite here."""


def make_psk(path: Path) -> None:
    """Write a pre-shared key: 32 random octets in hexadecimal. Raises OSError, FileExistsError."""
    _write(path, secrets.token_hex(PSK_OCTETS).encode() + b'\n', 0o600)


def make_raw_key(private: Path, public: Path) -> None:
    """Write an Ed25519 key pair: PKCS#8 and SubjectPublicKeyInfo, both PEM (RFC 8410).

    Raises OSError, FileExistsError.
    """
    key = Ed25519PrivateKey.generate()
    _write(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write(
        public,
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        0o644,
    )


def _write(path: Path, octets: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, 'wb') as file:
        file.write(octets)

"""The type that holds secret octets, and reading and creation of private files.

This package imports nothing of ours, so that every package may import it.
"""

from __future__ import annotations

from keymaterial.files import (
    KeyFileError,
    create_private_file,
    read_public_file,
    read_secret_file,
)
from keymaterial.pem import is_private_key, pem_label, public_content
from keymaterial.secret import Secret

__all__ = [
    'KeyFileError',
    'Secret',
    'create_private_file',
    'is_private_key',
    'pem_label',
    'public_content',
    'read_public_file',
    'read_secret_file',
]

"""What a file in PEM says that it holds (RFC 7468): so that a wrong file is named for what it is.

Not a parser: the label of the first block is all that is looked at.
"""

from __future__ import annotations

import re
from typing import Final

_LABEL: Final = re.compile(rb'\s*-----BEGIN ([A-Z0-9 ]{1,40})-----')

_PUBLIC: Final = {
    'PUBLIC KEY': 'a public key',
    'CERTIFICATE': 'a certificate',
    'X509 CRL': 'a CRL',
    'CERTIFICATE REQUEST': 'a certificate request',
}


def pem_label(octets: bytes) -> str:
    """The label of the first block; empty if it isn't PEM."""
    found = _LABEL.match(octets)
    return found[1].decode('ascii') if found is not None else ''


def public_content(octets: bytes) -> str:
    """What it holds, in words, if that is no secret; else empty."""
    return _PUBLIC.get(pem_label(octets), '')


def is_private_key(octets: bytes) -> bool:
    """True for a private key of any kind, encrypted or not."""
    return pem_label(octets).endswith('PRIVATE KEY')

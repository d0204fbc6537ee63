"""The label of a PEM file (RFC 7468), so that an error can name what a wrong file holds.

Not a parser: only the label of the first block is read.
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
    """Return the label of the first PEM block; empty if `octets` are not PEM."""
    found = _LABEL.match(octets)
    return found[1].decode('ascii') if found is not None else ''


def public_content(octets: bytes) -> str:
    """Return a name for the public PEM content of `octets`; empty if they hold none."""
    return _PUBLIC.get(pem_label(octets), '')


def is_private_key(octets: bytes) -> bool:
    """Return True if `octets` are a private key in PEM, encrypted or not."""
    return pem_label(octets).endswith('PRIVATE KEY')

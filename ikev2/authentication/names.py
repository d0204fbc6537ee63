"""Names in certificates and identities, in a form in which equal names are equal.

Distinguished names by RFC 5280, 7.1: string type, case and spaces don't count (RFC 4518, reduced to
Unicode's NFKC, case folding and runs of spaces). Domain names and the domain of a mail address
don't depend on case (RFC 5280, 7.2 and 7.5). No wildcards anywhere.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from cryptography import x509

CanonicalName = tuple[frozenset[tuple[str, str | bytes]], ...]
"""Relative distinguished names, in order; each a set of attribute type and value."""

EMPTY_NAME: Final[CanonicalName] = ()


def canonical_name(name: x509.Name) -> CanonicalName:
    """Return a distinguished name in a form for comparison."""
    return tuple(
        frozenset((attribute.oid.dotted_string, _value(attribute.value)) for attribute in rdn)
        for rdn in name.rdns
    )


def canonical_dn(der: bytes) -> CanonicalName | None:
    """Return a distinguished name in DER in a form for comparison; None if it is malformed."""
    try:
        return canonical_name(x509.Name.from_bytes(der))
    except (ValueError, TypeError):
        return None


def canonical_domain(domain: str) -> str:
    """Return a domain name for comparison: ASCII letters in lower case."""
    return domain.lower()


def canonical_mailbox(address: str) -> str:
    """Return a mail address for comparison: the case of the local part counts."""
    user, at, domain = address.rpartition('@')
    return f'{user}{at}{canonical_domain(domain)}'


def _value(value: str | bytes) -> str | bytes:
    if isinstance(value, bytes):
        return value
    return ' '.join(unicodedata.normalize('NFKC', value).casefold().split())

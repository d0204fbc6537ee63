"""Certificate revocation lists (RFC 5280, 5 and 6.3), complete ones of the issuer itself.

Delta CRLs, indirect ones, and those that are only for some certificates or reasons carry critical
extensions, and are refused for that: a certificate that they don't list might be revoked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography import x509

from ikev2.authentication.names import CanonicalName, canonical_name
from ikev2.authentication.x509.certificates import (
    UNREADABLE,
    Certificate,
    CertificateError,
    brief,
    ders_in,
    plain,
)
from ikev2.authentication.x509.signed import Signed

LARGEST_CRL: Final = 4 * 1024 * 1024
"""Octets of DER; some 100,000 revoked certificates."""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A CRL. Equal to another if both have the same octets."""

    der: bytes = field(repr=False)
    signed: Signed = field(compare=False, repr=False)
    issuer: CanonicalName = field(compare=False)
    issuer_name: str = field(compare=False)
    """The name of the issuer, for people."""
    this_update: float = field(compare=False)
    """Seconds since the epoch; both ends are included."""
    next_update: float = field(compare=False)
    revoked: frozenset[int] = field(compare=False, repr=False)
    """Serial numbers, including those on hold."""

    @classmethod
    def read(cls, der: bytes) -> Self:
        """Decode a CRL in DER. Raises CertificateError."""
        if len(der) > LARGEST_CRL:
            raise CertificateError(f'a CRL of {len(der)} octets')
        try:
            return cls._read(x509.load_der_x509_crl(der), der)
        except CertificateError:
            raise
        except UNREADABLE as error:
            raise CertificateError(f'the CRL is refused: {brief(error)}') from None

    @classmethod
    def _read(cls, parsed: x509.CertificateRevocationList, der: bytes) -> Self:
        if parsed.next_update_utc is None:
            raise CertificateError('the CRL does not say until when it is good')
        _refuse_critical(parsed.extensions)
        revoked = set()
        for entry in parsed:
            _refuse_critical(entry.extensions)
            revoked.add(entry.serial_number)
        return cls(
            der=der,
            signed=Signed(
                parsed.tbs_certlist_bytes,
                parsed.signature,
                parsed.signature_hash_algorithm,
                parsed.signature_algorithm_parameters,
            ),
            issuer=canonical_name(parsed.issuer),
            issuer_name=plain(parsed.issuer.rfc4514_string()),
            this_update=parsed.last_update_utc.timestamp(),
            next_update=parsed.next_update_utc.timestamp(),
            revoked=frozenset(revoked),
        )

    def current(self, at: float) -> bool:
        """Return True if the CRL is issued already and not yet out of date."""
        return self.this_update <= at <= self.next_update


def _refuse_critical(extensions: x509.Extensions) -> None:
    for extension in extensions:
        if extension.critical:
            raise CertificateError(
                f'critical CRL extension {extension.oid.dotted_string}, which is not supported'
            )


def check_revocation(
    path: Sequence[Certificate],
    lists: Iterable[RevocationList],
    at: float,
    *,
    required: bool,
) -> float:
    """Return until when no certificate of a path is known to be revoked, in seconds since the
    epoch.

    `path` is from the peer's certificate to the trust anchor, its signatures verified. A CRL counts
    if it is signed by a CA of the path with the name of its issuer. A serial number in any such
    list is revoked, even in an old one. An issuer that has a list, usable or not, must have a
    current one; with `required`, every issuer must. Raises CertificateError.
    """
    known = list(lists)
    verified = [one for one in known if _signed_in(path, one)]
    until = float('inf')
    for certificate in path[:-1]:
        named = [one for one in known if one.issuer == certificate.issuer]
        good = [one for one in verified if one.issuer == certificate.issuer]
        if any(certificate.serial in one.revoked for one in good):
            raise CertificateError(f'{certificate.name} was revoked')
        current = [one.next_update for one in good if one.current(at)]
        if current:
            until = min(until, max(current))
        elif named or required:
            raise CertificateError(
                f'there is no current CRL of the issuer of {certificate.name}: install a new one'
            )
    return until


def _signed_in(path: Sequence[Certificate], crl: RevocationList) -> bool:
    return any(
        issuer.may_sign_crls and issuer.subject == crl.issuer and crl.signed.by(issuer.key)
        for issuer in path[1:]
    )


def read_crl_file(data: bytes) -> tuple[RevocationList, ...]:
    """Return the CRLs in a file's content: PEM, any number of them, or one in DER.

    Raises CertificateError.
    """
    return tuple(map(RevocationList.read, ders_in(data, 'X509 CRL', x509.load_pem_x509_crl)))

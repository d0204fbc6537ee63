"""X.509 certificates, read once and whole (RFC 5280, 4; RFC 4945, 5.1).

All fields that path validation needs are read here, at once, so that no part of an attacker's DER
is read, and fails, later. Nothing here decides whom to trust: paths.py does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import ExtensionOID

from ikev2.authentication.identity import Identity
from ikev2.authentication.names import (
    CanonicalName,
    canonical_domain,
    canonical_mailbox,
    canonical_name,
)
from ikev2.authentication.signatures.schemes import kind_of
from ikev2.authentication.x509.name_constraints import NameConstraints
from ikev2.authentication.x509.signed import Signed
from ikev2.constants import IdType

LARGEST_CERTIFICATE: Final = 16 * 1024
"""Octets of DER. A certificate with ML-DSA-87 has about 7,500."""

# A certificate with a critical extension that is not listed here is refused (RFC 5280, 4.2).
# Certificate policies are listed because we accept every policy; policy constraints, which demand a
# certain policy, are not.
_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.INHIBIT_ANY_POLICY,
    }
)
# RFC 4945, 5.1.3.12; the last one is written by Microsoft's and older CAs for the same purpose.
_IKE_USAGES: Final = frozenset(
    {
        Usage.IPSEC_IKE,
        Usage.ANY_EXTENDED_KEY_USAGE,
        x509.ObjectIdentifier('1.3.6.1.5.5.8.2.2'),  # iKEIntermediate
    }
)
# All errors that the library raises for input that it can't read or does not accept.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class CertificateError(ValueError):
    """A certificate or CRL is unreadable or refused; the text says why."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of version 3. Equal to another if both have the same octets."""

    der: bytes
    signed: Signed = field(compare=False, repr=False)
    subject: CanonicalName = field(compare=False, repr=False)
    issuer: CanonicalName = field(compare=False, repr=False)
    name: str = field(compare=False)
    """The subject, for people."""
    serial: int = field(compare=False)
    not_before: float = field(compare=False)
    """Seconds since the epoch; both ends are included."""
    not_after: float = field(compare=False)
    key: Any = field(compare=False, repr=False)
    """The library's public key, of one of our kinds."""
    spki: bytes = field(compare=False, repr=False)
    """DER SubjectPublicKeyInfo."""
    ca: bool = field(compare=False)
    path_length: int | None = field(compare=False)
    """Number of CA certificates that may follow, self-issued ones not counted."""
    key_usage: x509.KeyUsage | None = field(compare=False, repr=False)
    for_ike: bool = field(compare=False)
    """True if extended key usage allows IKE, or is absent."""
    alternatives: tuple[x509.GeneralName, ...] = field(compare=False, repr=False)
    subject_name: x509.Name = field(compare=False, repr=False)
    constraints: NameConstraints | None = field(compare=False, repr=False)
    key_id: bytes | None = field(compare=False, repr=False)
    """Subject key identifier: a hint, like the next field."""
    authority_key_id: bytes | None = field(compare=False, repr=False)

    @classmethod
    def read(cls, der: bytes) -> Self:
        """Decode a certificate in DER. Raises CertificateError."""
        if len(der) > LARGEST_CERTIFICATE:
            raise CertificateError(f'a certificate of {len(der)} octets')
        try:
            return cls._read(der)
        except CertificateError:
            raise
        except UNREADABLE as error:
            raise CertificateError(f'the certificate is refused: {brief(error)}') from None

    @classmethod
    def _read(cls, der: bytes) -> Self:
        parsed = x509.load_der_x509_certificate(der)
        if parsed.version != x509.Version.v3:
            raise CertificateError('the certificate is not of version 3')
        extensions = parsed.extensions
        for extension in extensions:
            if extension.critical and extension.oid not in _UNDERSTOOD:
                raise CertificateError(
                    f'critical extension {extension.oid.dotted_string}, which is not supported'
                )
        if _value(extensions, x509.PolicyConstraints) is not None:
            # Critical or not: we do not process policies, so we cannot meet a demand for one.
            raise CertificateError('policy constraints, which are not supported')
        if parsed.serial_number <= 0:
            raise CertificateError('the serial number is not positive')
        basic = _value(extensions, x509.BasicConstraints)
        names = _value(extensions, x509.SubjectAlternativeName)
        usages = _value(extensions, x509.ExtendedKeyUsage)
        constraints = _value(extensions, x509.NameConstraints)
        own_id = _value(extensions, x509.SubjectKeyIdentifier)
        issuer_id = _value(extensions, x509.AuthorityKeyIdentifier)
        key = parsed.public_key()
        kind_of(key)
        return cls(
            der=der,
            signed=Signed(
                parsed.tbs_certificate_bytes,
                parsed.signature,
                parsed.signature_hash_algorithm,
                parsed.signature_algorithm_parameters,
            ),
            subject=canonical_name(parsed.subject),
            issuer=canonical_name(parsed.issuer),
            name=plain(parsed.subject.rfc4514_string()),
            serial=parsed.serial_number,
            not_before=parsed.not_valid_before_utc.timestamp(),
            not_after=parsed.not_valid_after_utc.timestamp(),
            key=key,
            spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            ca=basic is not None and basic.ca,
            path_length=basic.path_length if basic else None,
            key_usage=_value(extensions, x509.KeyUsage),
            for_ike=usages is None or not _IKE_USAGES.isdisjoint(usages),
            alternatives=tuple(names) if names else (),
            subject_name=parsed.subject,
            constraints=NameConstraints.of(constraints) if constraints else None,
            key_id=own_id.digest if own_id else None,
            authority_key_id=issuer_id.key_identifier if issuer_id else None,
        )

    @property
    def self_issued(self) -> bool:
        """Return True if issuer and subject have the same name (RFC 5280, 3.2)."""
        return self.subject == self.issuer

    @property
    def authority(self) -> bytes:
        """Return the name of the CA in a CERTREQ: SHA-1 of SubjectPublicKeyInfo (RFC 7296, 3.7)."""
        return sha1(self.spki, usedforsecurity=False).digest()

    @property
    def may_sign_certificates(self) -> bool:
        """Return True for a CA whose key usage, if present, allows it (RFC 5280, 6.1.4 (k) and
        (n)).
        """
        return self.ca and (self.key_usage is None or self.key_usage.key_cert_sign)

    @property
    def may_sign_crls(self) -> bool:
        """Return True for a CA whose key usage, if present, allows it (RFC 5280, 6.3.3 (f))."""
        return self.ca and (self.key_usage is None or self.key_usage.crl_sign)

    @property
    def may_authenticate(self) -> bool:
        """Return True if both key usages allow IKE (RFC 4945, 5.1.3.2 and 5.1.3.12)."""
        usage = self.key_usage
        signs = usage is None or usage.digital_signature or usage.content_commitment
        return signs and self.for_ike

    def issued_by(self, issuer: Certificate) -> bool:
        """Return True if issuer name and signature are `issuer`'s (RFC 5280, 6.1.3 (a)(1) and
        (4)).
        """
        return self.issuer == issuer.subject and self.signed.by(issuer.key)

    def names(self, identity: Identity) -> bool:
        """Return True if the certificate is for this identity (RFC 4945, 3.1).

        A distinguished name is compared with the subject; other identities with SubjectAltName. A
        key-id is in no certificate, and a common name never counts.
        """
        if identity.id_type == IdType.DER_ASN1_DN:
            subject = Identity(IdType.DER_ASN1_DN, self.subject_name.public_bytes())
            return bool(self.subject) and subject == identity
        found = _ALTERNATIVES.get(identity.id_type)
        return found is not None and any(found(name, identity.data) for name in self.alternatives)

    def described(self) -> str:
        """Return the names in the certificate, for people."""
        others = ', '.join(str(name.value) for name in self.alternatives)
        return plain(f'{self.name} ({others})' if others else self.name)


def _is_domain(name: x509.GeneralName, data: bytes) -> bool:
    return isinstance(name, x509.DNSName) and (
        canonical_domain(name.value) == canonical_domain(data.decode('latin-1'))
    )


def _is_mailbox(name: x509.GeneralName, data: bytes) -> bool:
    return isinstance(name, x509.RFC822Name) and (
        canonical_mailbox(name.value) == canonical_mailbox(data.decode('latin-1'))
    )


def _is_address(name: x509.GeneralName, data: bytes) -> bool:
    return isinstance(name, x509.IPAddress) and getattr(name.value, 'packed', None) == data


_ALTERNATIVES: Final[dict[int, Callable[[x509.GeneralName, bytes], bool]]] = {
    IdType.IPV4_ADDR: _is_address,
    IdType.IPV6_ADDR: _is_address,
    IdType.FQDN: _is_domain,
    IdType.RFC822_ADDR: _is_mailbox,
}


def certifiable(identity: Identity) -> bool:
    """Return True if a certificate can be for such an identity."""
    return identity.id_type == IdType.DER_ASN1_DN or identity.id_type in _ALTERNATIVES


def check_validity(certificate: Certificate, at: float) -> None:
    """Raise CertificateError, with the dates and the clock, if the certificate is not valid at
    `at`.

    The text has the clock to the hour, so that one failure stays one failure in a log.
    """
    clock = f'the clock of this host says {_utc(at, "%Y-%m-%d %H:00 UTC")}'
    if at < certificate.not_before:
        begins = _utc(certificate.not_before)
        raise CertificateError(f'{certificate.name} is not valid yet: from {begins} on, {clock}')
    if at > certificate.not_after:
        ended = _utc(certificate.not_after)
        raise CertificateError(f'{certificate.name} has expired: it ended at {ended}, {clock}')


def _utc(at: float, form: str = '%Y-%m-%dT%H:%M:%SZ') -> str:
    return datetime.fromtimestamp(at, UTC).strftime(form)


def read_file(data: bytes) -> tuple[Certificate, ...]:
    """Return the certificates in a file's content: PEM, any number of them, or one in DER.

    Raises CertificateError.
    """
    ders = ders_in(data, 'CERTIFICATE', x509.load_pem_x509_certificate)
    return tuple(map(Certificate.read, ders))


def ders_in(
    data: bytes,
    label: str,
    load: Callable[[bytes], x509.Certificate | x509.CertificateRevocationList],
) -> list[bytes]:
    """Return every object with this label in a file's content, in DER. Raises CertificateError."""
    if b'-----BEGIN' not in data:
        return [data]
    block = f'-----BEGIN {label}-----.*?-----END {label}-----'
    found = re.findall(block.encode(), data, re.DOTALL)
    if not found:
        raise CertificateError(f'there is no {label} in this file')
    try:
        return [load(pem).public_bytes(Encoding.DER) for pem in found]
    except UNREADABLE as error:
        raise CertificateError(f"the {label} can't be read: {brief(error)}") from None


def brief(error: Exception) -> str:
    """Return the first line of a library's error text, printable: DER may put anything into it."""
    text = str(error).splitlines()
    return plain(text[0]) if text and text[0] else type(error).__name__


def plain(text: str) -> str:
    """Return text from a certificate in a form that is safe in a log."""
    shown = text[:200]
    return shown if shown.isprintable() else ascii(shown)


def _value(extensions: x509.Extensions, kind: type[Any]) -> Any:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None

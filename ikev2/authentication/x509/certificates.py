"""X.509 certificates, read once and whole (RFC 5280, 4; RFC 4945, 5.1).

What path validation asks for is read here, at once, so that nothing in an attacker's DER is
first looked at, and first fails, later. Nothing here decides whom to believe: paths.py does.
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
"""Octets of DER. With ML-DSA-87 it is about 7,500."""

# What a path with a critical extension of another kind can't be trusted for (RFC 5280, 4.2).
# Certificate policies are among them because every policy is good enough for us; what demands
# a certain one (policy constraints) isn't.
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
# RFC 4945, 5.1.3.12; the last one is what Microsoft's and older CAs write for the same purpose.
_IKE_USAGES: Final = frozenset(
    {
        Usage.IPSEC_IKE,
        Usage.ANY_EXTENDED_KEY_USAGE,
        x509.ObjectIdentifier('1.3.6.1.5.5.8.2.2'),  # iKEIntermediate
    }
)
# Everything that the library raises for what it can't read or doesn't like.
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
    """A certificate or CRL that can't be read, or whose use we refuse; the text says why."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of version 3. Equal to another if its octets are."""

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
    """How many CA certificates may follow, self-issued ones not counted."""
    key_usage: x509.KeyUsage | None = field(compare=False, repr=False)
    for_ike: bool = field(compare=False)
    """Extended key usage allows IKE, or there is none."""
    alternatives: tuple[x509.GeneralName, ...] = field(compare=False, repr=False)
    subject_name: x509.Name = field(compare=False, repr=False)
    constraints: NameConstraints | None = field(compare=False, repr=False)
    key_id: bytes | None = field(compare=False, repr=False)
    """Subject key identifier: a hint, as the next one."""
    authority_key_id: bytes | None = field(compare=False, repr=False)

    @classmethod
    def read(cls, der: bytes) -> Self:
        """From DER. Raises CertificateError."""
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
            # Critical or not: whoever demands a policy, or forbids one, isn't heard otherwise.
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
        """Issuer and subject have one name (RFC 5280, 3.2)."""
        return self.subject == self.issuer

    @property
    def authority(self) -> bytes:
        """What a CERTREQ names the CA by: SHA-1 of SubjectPublicKeyInfo (RFC 7296, 3.7)."""
        return sha1(self.spki, usedforsecurity=False).digest()

    @property
    def may_sign_certificates(self) -> bool:
        """A CA, whose key usage allows it where there is one (RFC 5280, 6.1.4 (k) and (n))."""
        return self.ca and (self.key_usage is None or self.key_usage.key_cert_sign)

    @property
    def may_sign_crls(self) -> bool:
        """RFC 5280, 6.3.3 (f)."""
        return self.ca and (self.key_usage is None or self.key_usage.crl_sign)

    @property
    def may_authenticate(self) -> bool:
        """Key usage and extended key usage allow IKE (RFC 4945, 5.1.3.2 and 5.1.3.12)."""
        usage = self.key_usage
        signs = usage is None or usage.digital_signature or usage.content_commitment
        return signs and self.for_ike

    def issued_by(self, issuer: Certificate) -> bool:
        """Name and signature say so (RFC 5280, 6.1.3 (a)(1) and (4))."""
        return self.issuer == issuer.subject and self.signed.by(issuer.key)

    def names(self, identity: Identity) -> bool:
        """The certificate is for this identity (RFC 4945, 3.1).

        A distinguished name is the subject; anything else is in SubjectAltName. A key-id is in
        no certificate, and no common name stands for anything.
        """
        if identity.id_type == IdType.DER_ASN1_DN:
            subject = Identity(IdType.DER_ASN1_DN, self.subject_name.public_bytes())
            return bool(self.subject) and subject == identity
        found = _ALTERNATIVES.get(identity.id_type)
        return found is not None and any(found(name, identity.data) for name in self.alternatives)

    def described(self) -> str:
        """Whom the certificate is for, for people."""
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
    """A certificate can be for such an identity."""
    return identity.id_type == IdType.DER_ASN1_DN or identity.id_type in _ALTERNATIVES


def check_validity(certificate: Certificate, at: float) -> None:
    """Raise CertificateError, with the dates and the clock, if it is not valid at this time.

    The clock is told to the hour, so that one failure stays one failure in a log.
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
    """The certificates in a file's content: PEM, any number of them, or one in DER.

    Raises CertificateError.
    """
    ders = ders_in(data, 'CERTIFICATE', x509.load_pem_x509_certificate)
    return tuple(map(Certificate.read, ders))


def ders_in(
    data: bytes,
    label: str,
    load: Callable[[bytes], x509.Certificate | x509.CertificateRevocationList],
) -> list[bytes]:
    """Every object with this label in a file's content, in DER. Raises CertificateError."""
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
    """The first line of a library's words, printable: DER may put anything into them."""
    text = str(error).splitlines()
    return plain(text[0]) if text and text[0] else type(error).__name__


def plain(text: str) -> str:
    """What a certificate may say anything in, fit for a log."""
    shown = text[:200]
    return shown if shown.isprintable() else ascii(shown)


def _value(extensions: x509.Extensions, kind: type[Any]) -> Any:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None

"""Throw-away X.509 certificates for a lab of two routers: a root, a CA below it, a CRL of each.

Not a CA tool: the certificates are for one run on one machine, and valid for a week.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_HASH = SHA256()
_BEFORE = timedelta(hours=1)
_AFTER = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Certified:
    """A router's key, and its certificate with the issuing CA's after it; PEM."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    chain: bytes

    @property
    def private(self) -> bytes:
        """Return the key as PKCS#8."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True, slots=True)
class Authority:
    """A root (P-384) and the CA that issues the routers' certificates."""

    root: x509.Certificate
    root_key: ec.EllipticCurvePrivateKey
    issuer: x509.Certificate
    issuer_key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> Self:
        """Make a root and a CA with new keys."""
        root_key, issuer_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
        name, issuer_name = _name('lab root'), _name('lab issuing CA')
        root = _ca(name, name, root_key, root_key)
        return cls(root, root_key, _ca(issuer_name, name, issuer_key, root_key), issuer_key)

    @property
    def trust_anchor(self) -> bytes:
        """Return the root, PEM."""
        return self.root.public_bytes(Encoding.PEM)

    def certify(
        self, router: str, domain: str, *, since: timedelta = -_BEFORE, until: timedelta = _AFTER
    ) -> Certified:
        """Return a P-256 key and its certificate, valid from `since` to `until` (relative to
        now).
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(router), self.issuer.subject, key, since, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
            .sign(self.issuer_key, _HASH)
        )
        chain = certificate, self.issuer
        return Certified(key, certificate, b''.join(c.public_bytes(Encoding.PEM) for c in chain))

    def crls(self, *revoked: Certified) -> bytes:
        """Return a CRL of the root, and one of the issuing CA that revokes these certificates;
        PEM.
        """
        now = datetime.now(UTC)

        def crl(issuer: x509.Certificate) -> x509.CertificateRevocationListBuilder:
            return (
                x509.CertificateRevocationListBuilder()
                .issuer_name(issuer.subject)
                .last_update(now - _BEFORE)
                .next_update(now + _AFTER)
            )

        issuers = crl(self.issuer)
        for one in revoked:
            issuers = issuers.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(one.certificate.serial_number)
                .revocation_date(now)
                .build()
            )
        signed = crl(self.root).sign(self.root_key, _HASH), issuers.sign(self.issuer_key, _HASH)
        return b''.join(one.public_bytes(Encoding.PEM) for one in signed)


def make_certificates(folder: Path, routers: tuple[str, str] = ('r1', 'r2')) -> dict[Path, bytes]:
    """Return the contents of FOLDER/ROUTER/{router.pem, router.crt, ca.crt, ca.crl}.

    router.pem is an ECDSA P-256 key (PKCS#8); router.crt is its certificate for ROUTER.lab, with
    the issuing CA's after it; ca.crt is the root, ca.crl the CRLs of both CAs.
    """
    authority = Authority.new()
    files: dict[Path, bytes] = {}
    for router in routers:
        own, home = authority.certify(router, f'{router}.lab'), folder / router
        files |= {
            home / 'router.pem': own.private,
            home / 'router.crt': own.chain,
            home / 'ca.crt': authority.trust_anchor,
            home / 'ca.crl': authority.crls(),
        }
    return files


def _name(text: str) -> x509.Name:
    return x509.Name.from_rfc4514_string(f'CN={text},O=lab')


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    since: timedelta = -_BEFORE,
    until: timedelta = _AFTER,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
    )


def _ca(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    return (
        _builder(subject, issuer, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(signer, _HASH)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )

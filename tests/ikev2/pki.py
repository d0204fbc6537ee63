"""A small public key infrastructure for tests: CAs, certificates and CRLs with any extension.

Times are seconds since the epoch; `AT` is the "now" of a test, and everything that isn't told
otherwise is valid for a day before and after.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ikev2.authentication.auth import CertifiedKey, PrivateKey, TrustAnchors
from ikev2.authentication.x509.certificates import Certificate
from ikev2.authentication.x509.crl import RevocationList

AT = 1_800_000_000.0
DAY = 86_400.0

NO_USAGE = {
    'digital_signature': False,
    'content_commitment': False,
    'key_encipherment': False,
    'data_encipherment': False,
    'key_agreement': False,
    'key_cert_sign': False,
    'crl_sign': False,
    'encipher_only': False,
    'decipher_only': False,
}
CA_USAGE = x509.KeyUsage(**{**NO_USAGE, 'key_cert_sign': True, 'crl_sign': True})
LEAF_USAGE = x509.KeyUsage(**{**NO_USAGE, 'digital_signature': True})


def usage(**bits: bool) -> x509.KeyUsage:
    """Key usage with just these bits."""
    return x509.KeyUsage(**{**NO_USAGE, **bits})


@cache
def keys(kind: str, number: int = 0) -> Any:
    """A private key of a kind; the same for the same number, since RSA takes its time."""
    return {
        'ed25519': ed25519.Ed25519PrivateKey.generate,
        'ed448': ed448.Ed448PrivateKey.generate,
        'ecdsa-p256': lambda: ec.generate_private_key(ec.SECP256R1()),
        'ecdsa-p384': lambda: ec.generate_private_key(ec.SECP384R1()),
        'ecdsa-p521': lambda: ec.generate_private_key(ec.SECP521R1()),
        'rsa': lambda: rsa.generate_private_key(65537, 2048),
        'rsa-3072': lambda: rsa.generate_private_key(65537, 3072),
        'ml-dsa-44': mldsa.MLDSA44PrivateKey.generate,
        'ml-dsa-65': mldsa.MLDSA65PrivateKey.generate,
        'ml-dsa-87': mldsa.MLDSA87PrivateKey.generate,
    }[kind]()


KIND_NAMES = (
    'ed25519',
    'ed448',
    'ecdsa-p256',
    'ecdsa-p384',
    'ecdsa-p521',
    'rsa',
    'ml-dsa-44',
    'ml-dsa-65',
    'ml-dsa-87',
)


def hash_for(key: Any) -> Any:
    """Return the hash for signatures of a CA with this key."""
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return hashes.SHA256()
    return None


def name(text: str) -> x509.Name:
    """A distinguished name from RFC 4514; `r1` is short for `CN=r1`."""
    return x509.Name.from_rfc4514_string(text if '=' in text else f'CN={text}')


@dataclass
class Holder:
    """A certificate with its private key; issues others."""

    key: Any
    parsed: x509.Certificate
    serials: int = field(default=1000)

    @property
    def der(self) -> bytes:
        return self.parsed.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.parsed.public_bytes(Encoding.PEM)

    @property
    def certificate(self) -> Certificate:
        return Certificate.read(self.der)

    def issue(self, subject: str, *extensions: Any, **options: Any) -> Holder:
        """A certificate of this issuer; see `issue`."""
        return issue(self, subject, *extensions, **options)

    def ca(
        self, subject: str, *extensions: Any, length: int | None = None, **options: Any
    ) -> Holder:
        """A CA below this one."""
        return issue(
            self,
            subject,
            x509.BasicConstraints(ca=True, path_length=length),
            CA_USAGE,
            *extensions,
            **options,
        )

    def leaf(self, subject: str, *names: x509.GeneralName, **options: Any) -> Holder:
        """A certificate for a router with these alternative names."""
        alternatives = (x509.SubjectAlternativeName(names),) if names else ()
        return issue(self, subject, LEAF_USAGE, *alternatives, **options)

    def crl(
        self,
        *revoked: Holder,
        this_update: float = AT - DAY,
        next_update: float = AT + DAY,
        extensions: Iterable[tuple[Any, bool]] = (),
        entry_extensions: Iterable[tuple[Any, bool]] = (),
        issuer: str | None = None,
    ) -> bytes:
        """A CRL in DER."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(name(issuer) if issuer else self.parsed.subject)
            .last_update(at(this_update))
            .next_update(at(next_update))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        for one in revoked:
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(one.parsed.serial_number)
                .revocation_date(at(this_update))
            )
            for extension, critical in entry_extensions:
                entry = entry.add_extension(extension, critical)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hash_for(self.key)).public_bytes(Encoding.DER)

    def credential(self, *chain: Holder) -> CertifiedKey:
        """Return the certificate as our own credential, with intermediate certificates."""
        certificates = (self.certificate, *(holder.certificate for holder in chain))
        return CertifiedKey(PrivateKey(self.key), certificates)

    def trust(self, *crls: bytes, crl_required: bool = False) -> TrustAnchors:
        """Return the certificate as the trust anchor of a peer."""
        return TrustAnchors(
            (self.certificate,), tuple(RevocationList.read(crl) for crl in crls), crl_required
        )


def at(when: float) -> datetime:
    """Seconds since the epoch as the library wants them."""
    return datetime.fromtimestamp(when, UTC)


_CRITICAL = (x509.BasicConstraints, x509.KeyUsage, x509.NameConstraints)


def issue(
    issuer: Holder | None,
    subject: str,
    *extensions: Any,
    kind: str = 'ecdsa-p256',
    number: int | None = None,
    key: Any = None,
    not_before: float = AT - DAY,
    not_after: float = AT + DAY,
    critical: tuple[type[Any], ...] = _CRITICAL,
    hash_algorithm: Any = None,
    rsa_padding: Any = None,
) -> Holder:
    """A certificate with just these extensions; self-signed without an issuer.

    `extensions` of a kind in `critical` are critical. A fresh key of `kind`, or the one with a
    `number`, or `key`.
    """
    global _last_serial
    _last_serial += 1
    if key is None:
        _fresh = _last_serial if number is None else -number - 1
        key = keys(kind, number if number is not None else 1000 + _fresh)
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject) if subject else x509.Name([]))
        .issuer_name(issuer.parsed.subject if issuer else name(subject))
        .public_key(key.public_key())
        .serial_number(_last_serial)
        .not_valid_before(at(not_before))
        .not_valid_after(at(not_after))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, isinstance(extension, critical))
    algorithm = hash_algorithm or hash_for(signer)
    if rsa_padding is not None:
        return Holder(key, builder.sign(signer, algorithm, rsa_padding=rsa_padding))
    return Holder(key, builder.sign(signer, algorithm))


_last_serial = 0


def root(subject: str = 'CN=root,O=lab', *extensions: Any, **options: Any) -> Holder:
    """A self-signed CA."""
    return issue(
        None,
        subject,
        x509.BasicConstraints(ca=True, path_length=None),
        CA_USAGE,
        *extensions,
        **options,
    )

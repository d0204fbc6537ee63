"""Certificates as they are read, and the identities that they are for: RFC 5280, RFC 4945."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from ikev2.authentication.identity import Identity
from ikev2.authentication.x509.certificates import (
    LARGEST_CERTIFICATE,
    Certificate,
    CertificateError,
    read_file,
)
from tests.ikev2.pki import AT, DAY, KIND_NAMES, LEAF_USAGE, Holder, keys, root, usage

ROOT = root()
NAMES = (
    x509.DNSName('r1.lab'),
    x509.RFC822Name('noc@r1.lab'),
    x509.IPAddress(ip_address('192.0.2.1')),
    x509.IPAddress(ip_address('2001:db8::1')),
)
LEAF = ROOT.leaf('CN=r1,O=lab', *NAMES)


@pytest.mark.parametrize(
    ('kind', 'value', 'named'),
    [
        ('fqdn', 'r1.lab', True),
        ('fqdn', 'R1.LAB', True),
        ('fqdn', 'r2.lab', False),
        ('fqdn', 'a.r1.lab', False),
        ('fqdn', 'lab', False),
        ('fqdn', 'r1', False),  # the common name stands for nothing
        ('user-fqdn', 'noc@r1.lab', True),
        ('user-fqdn', 'noc@R1.lab', True),
        ('user-fqdn', 'Noc@r1.lab', False),
        ('user-fqdn', 'noc@r2.lab', False),
        ('ip', '192.0.2.1', True),
        ('ip', '192.0.2.2', False),
        ('ip', '2001:db8::1', True),
        ('ip', '2001:db8::2', False),
        ('dn', 'CN=r1,O=lab', True),
        ('dn', 'CN=R1,O=Lab', True),
        ('dn', 'CN=r2,O=lab', False),
        ('dn', 'CN=r1', False),
        ('dn', 'O=lab,CN=r1', False),
        ('key-id', 'r1.lab', False),  # RFC 4945, 3.1.6: in no certificate
    ],
)
def test_certificate_names_identities_in_it(kind: str, value: str, named: bool) -> None:
    assert LEAF.certificate.names(Identity.parse(kind, value)) is named


def test_certificate_wildcard_names_no_identity() -> None:
    # RFC 4945, 3.1.2 compares exactly.
    wildcard = ROOT.leaf('r1', x509.DNSName('*.lab')).certificate
    assert not wildcard.names(Identity.parse('fqdn', 'r1.lab'))


def test_certificate_names_compare_within_one_kind() -> None:
    # A URI or mail address that reads like a domain name is none.
    other = ROOT.leaf(
        'r1', x509.UniformResourceIdentifier('r1.lab'), x509.RFC822Name('r1.lab')
    ).certificate
    assert not other.names(Identity.parse('fqdn', 'r1.lab'))


def test_certificate_names_nothing_when_subject_is_empty() -> None:
    nameless = ROOT.leaf('', x509.DNSName('r1.lab')).certificate
    assert nameless.names(Identity.parse('fqdn', 'r1.lab'))
    assert not nameless.names(Identity(9, bytes.fromhex('3000')))


def test_certificate_read_returns_all_fields() -> None:
    read = LEAF.certificate
    assert (read.not_before, read.not_after) == (AT - DAY, AT + DAY)
    assert read.serial == LEAF.parsed.serial_number
    assert not read.ca
    assert not read.self_issued
    assert read.issued_by(ROOT.certificate)
    assert ROOT.certificate.ca
    assert ROOT.certificate.self_issued
    assert read.name == 'CN=r1,O=lab'
    assert read.described() == 'CN=r1,O=lab (r1.lab, noc@r1.lab, 192.0.2.1, 2001:db8::1)'
    assert read == LEAF.certificate
    assert read != ROOT.certificate


@pytest.mark.parametrize('kind', KIND_NAMES)
def test_certificate_verifies_with_every_kind_of_key(kind: str) -> None:
    authority = root('CN=ca', kind=kind)
    leaf = authority.leaf('r1', kind=kind)
    assert leaf.certificate.issued_by(authority.certificate)
    assert not leaf.certificate.issued_by(root('CN=ca', kind=kind).certificate)


@pytest.mark.parametrize('algorithm', [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_certificate_verifies_rsassa_pss(algorithm: hashes.HashAlgorithm) -> None:
    authority = root('CN=ca', kind='rsa')
    leaf = authority.leaf(
        'r1',
        hash_algorithm=algorithm,
        rsa_padding=padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH),
    )
    assert leaf.certificate.issued_by(authority.certificate)


@pytest.mark.parametrize('algorithm', [hashes.SHA224(), hashes.SHA3_256()])
def test_certificate_is_refused_when_hash_is_weak(
    algorithm: hashes.HashAlgorithm,
) -> None:
    with pytest.raises(CertificateError, match='not good enough'):
        _ = ROOT.leaf('r1', hash_algorithm=algorithm).certificate


def test_certificate_is_refused_when_key_is_weak() -> None:
    for key in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())):
        with pytest.raises(CertificateError, match=r'RSA keys|keys must be of type'):
            _ = ROOT.leaf('r1', key=key).certificate


def test_certificate_signature_fails_when_kind_differs() -> None:
    # Whatever the certificate says: the issuer's key decides.
    by_rsa = root('CN=ca', kind='rsa').leaf('r1').certificate
    by_ecdsa = root('CN=ca').leaf('r1').certificate
    by_eddsa = root('CN=ca', kind='ed25519').leaf('r1').certificate
    for one in (by_rsa, by_ecdsa, by_eddsa):
        for kind in ('rsa', 'ecdsa-p256', 'ed25519', 'ml-dsa-44'):
            assert not one.issued_by(root('CN=ca', kind=kind).certificate)


@pytest.mark.parametrize(
    ('bits', 'good'),
    [
        ({'digital_signature': True}, True),
        ({'content_commitment': True}, True),
        ({'key_encipherment': True}, False),
        ({'key_cert_sign': True}, False),
    ],
)
def test_certificate_may_sign_only_with_key_usage(bits: dict[str, bool], good: bool) -> None:
    # RFC 4945, 5.1.3.2.
    assert ROOT.issue('r1', usage(**bits)).certificate.may_authenticate is good


@pytest.mark.parametrize(
    ('usages', 'good'),
    [
        ([ExtendedKeyUsageOID.IPSEC_IKE], True),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], True),
        ([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.IPSEC_IKE], True),
        ([x509.ObjectIdentifier('1.3.6.1.5.5.8.2.2')], True),
        ([ExtendedKeyUsageOID.SERVER_AUTH], False),
        ([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.CODE_SIGNING], False),
    ],
)
def test_certificate_may_authenticate_only_with_ike_usage(
    usages: list[x509.ObjectIdentifier], good: bool
) -> None:
    # RFC 4945, 5.1.3.12: a web server's certificate is no router's.
    leaf = ROOT.issue('r1', LEAF_USAGE, x509.ExtendedKeyUsage(usages))
    assert leaf.certificate.may_authenticate is good


def test_certificate_may_do_all_without_key_usages() -> None:
    assert ROOT.issue('r1').certificate.may_authenticate


def test_certificate_is_ca_only_with_basic_constraints() -> None:
    # RFC 5280, 6.1.4 (k) and (n), 6.3.3 (f).
    def ca(*extensions: x509.ExtensionType) -> Certificate:
        return ROOT.issue('ca', *extensions).certificate

    yes = x509.BasicConstraints(ca=True, path_length=None)
    no = x509.BasicConstraints(ca=False, path_length=None)
    assert not ca().may_sign_certificates
    assert not ca(no, usage(key_cert_sign=True)).may_sign_certificates
    assert not ca(yes, usage(crl_sign=True)).may_sign_certificates
    assert ca(yes, usage(key_cert_sign=True)).may_sign_certificates
    assert ca(yes).may_sign_certificates
    assert not ca(yes, usage(key_cert_sign=True)).may_sign_crls
    assert ca(yes, usage(crl_sign=True)).may_sign_crls
    assert ca(yes).may_sign_crls
    assert not ca().may_sign_crls


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier('1.3.6.1.4.1.99999.1'), b'\x05\x00')
POLICY = x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None)


@pytest.mark.parametrize('extension', [UNKNOWN, x509.OCSPNoCheck(), POLICY])
def test_certificate_is_refused_with_unknown_critical_extension(
    extension: x509.ExtensionType,
) -> None:
    # RFC 5280, 4.2.
    with pytest.raises(CertificateError, match='not supported'):
        _ = ROOT.issue('r1', extension, critical=(x509.ExtensionType,)).certificate


def test_certificate_skips_unknown_extension() -> None:
    assert ROOT.issue('r1', UNKNOWN).certificate.name == 'CN=r1'


def test_certificate_is_refused_with_policy_constraints() -> None:
    with pytest.raises(CertificateError, match='policy constraints'):
        _ = ROOT.issue('r1', POLICY).certificate


def test_certificate_is_not_parsed_when_too_long() -> None:
    long = ROOT.issue('r1', x509.UnrecognizedExtension(UNKNOWN.oid, bytes(LARGEST_CERTIFICATE)))
    with pytest.raises(CertificateError, match='a certificate of 16'):
        _ = long.certificate


def test_certificate_names_are_escaped_for_a_screen() -> None:
    # In the subject and in what the library says about it.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, 'r1\x1b[2J\n')])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(keys('ecdsa-p256').public_key())
        .serial_number(1)
        .not_valid_before(LEAF.parsed.not_valid_before_utc)
        .not_valid_after(LEAF.parsed.not_valid_after_utc)
    )
    der = builder.sign(keys('ecdsa-p256'), hashes.SHA256()).public_bytes(Encoding.DER)
    read = Certificate.read(der)
    assert read.name.isprintable()
    assert read.described().isprintable()


def test_read_file_accepts_pem_and_der() -> None:
    assert read_file(LEAF.der) == (LEAF.certificate,)
    assert read_file(b'a comment\n' + LEAF.pem + b'\n' + ROOT.pem) == (
        LEAF.certificate,
        ROOT.certificate,
    )


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'nonsense',
        b'-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
        b'-----BEGIN CERTIFICATE-----',
        b'-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
        LEAF.der[:-1],
    ],
)
def test_read_file_refuses_other_content(content: bytes) -> None:
    with pytest.raises(CertificateError):
        read_file(content)


@given(st.data())
def test_certificate_is_read_or_refused_when_mutated(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from(SAMPLES)).der
    octets = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(octets) - 1))
        change = data.draw(st.sampled_from(['set', 'cut', 'add']))
        if change == 'set':
            octets[place] = data.draw(st.integers(0, 255))
        elif change == 'cut':
            del octets[place : place + data.draw(st.integers(1, 8))]
            octets = octets or bytearray(b'\x30')
        else:
            octets[place:place] = data.draw(st.binary(min_size=1, max_size=8))
    try:
        read = Certificate.read(bytes(octets))
    except CertificateError as error:
        assert str(error).isprintable()
        return
    # Whatever could be read can be used, and what was changed isn't the issuer's word.
    assert read.described().isprintable()
    assert read.may_authenticate in (True, False)
    for kind, value in (('fqdn', 'r1.lab'), ('ip', '192.0.2.1'), ('dn', 'CN=r1,O=lab')):
        assert read.names(Identity.parse(kind, value)) in (True, False)
    assert read.der == good or not (
        read.issued_by(ROOT.certificate) and _tbs(read) != _tbs_of(good)
    )


def _tbs(certificate: Certificate) -> bytes:
    return certificate.signed.octets


def _tbs_of(der: bytes) -> bytes:
    return Certificate.read(der).signed.octets


@given(st.binary(max_size=200))
def test_certificate_is_read_or_refused_when_octets_are_any(octets: bytes) -> None:
    with pytest.raises(CertificateError):
        Certificate.read(octets)


SAMPLES: list[Holder] = [
    LEAF,
    ROOT,
    ROOT.leaf('', *NAMES, kind='ed25519'),
    ROOT.ca(
        'ca',
        x509.NameConstraints([x509.DNSName('lab')], [x509.DirectoryName(LEAF.parsed.subject)]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.IPSEC_IKE]),
        length=1,
    ),
]

"""Revocation: RFC 5280, 5 and 6.3."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ikev2.authentication.x509.certificates import CertificateError
from ikev2.authentication.x509.crl import RevocationList, check_revocation, read_crl_file
from tests.ikev2.pki import AT, DAY, KIND_NAMES, Holder, root, usage

ROOT = root()
CA = ROOT.ca('ca')
LEAF = CA.leaf('r1')
OTHER = CA.leaf('r2')
CHAIN = (LEAF, CA, ROOT)


def check(*crls: bytes, chain: tuple[Holder, ...] = CHAIN, required: bool = False) -> float:
    return check_revocation(
        [holder.certificate for holder in chain],
        [RevocationList.read(crl) for crl in crls],
        AT,
        required=required,
    )


def test_check_revocation_accepts_without_list() -> None:
    assert check() == float('inf')


def test_check_revocation_refuses_certificate_in_issuers_list() -> None:
    with pytest.raises(CertificateError, match='CN=r1 was revoked'):
        check(CA.crl(OTHER, LEAF))
    assert check(CA.crl(OTHER)) == AT + DAY


def test_check_revocation_refuses_revoked_ca() -> None:
    with pytest.raises(CertificateError, match='CN=ca was revoked'):
        check(ROOT.crl(CA))


def test_check_revocation_compares_issuer_with_serial_number() -> None:
    assert check(ROOT.crl(LEAF)) == AT + DAY


def test_check_revocation_refuses_certificate_on_hold() -> None:
    hold = CA.crl(
        LEAF, entry_extensions=[(x509.CRLReason(x509.ReasonFlags.certificate_hold), False)]
    )
    with pytest.raises(CertificateError, match='revoked'):
        check(hold)


def test_check_revocation_refuses_when_list_is_not_current() -> None:
    for crl in (CA.crl(next_update=AT - 1), CA.crl(this_update=AT + 1)):
        with pytest.raises(CertificateError, match='no current CRL of the issuer of CN=r1'):
            check(crl)
        assert check(crl, CA.crl()) == AT + DAY


def test_check_revocation_accepts_list_to_its_last_second() -> None:
    assert check(CA.crl(this_update=AT, next_update=AT + 1)) == AT + 1
    assert check(CA.crl(next_update=AT)) == AT


def test_check_revocation_believes_revocation_in_old_list() -> None:
    with pytest.raises(CertificateError, match='revoked'):
        check(CA.crl(LEAF, next_update=AT - 1), CA.crl())


def test_check_revocation_returns_end_of_newest_list() -> None:
    assert check(CA.crl(next_update=AT + 10), CA.crl(next_update=AT + 20)) == AT + 20
    assert check(CA.crl(next_update=AT + 10), ROOT.crl(next_update=AT + 5)) == AT + 5


def test_check_revocation_ignores_forged_list() -> None:
    # Signed by another key in the CA's name: neither revokes nor shows that nothing is revoked.
    forged = OTHER.crl(LEAF, issuer='CN=ca')
    with pytest.raises(CertificateError, match='no current CRL'):
        check(forged)
    assert check(forged, CA.crl()) == AT + DAY


def test_check_revocation_ignores_list_of_ca_without_crl_sign() -> None:
    # RFC 5280, 6.3.3 (f).
    mute = ROOT.issue('mute', x509.BasicConstraints(True, None), usage(key_cert_sign=True))
    leaf = mute.leaf('r1')
    with pytest.raises(CertificateError, match='no current CRL'):
        check(mute.crl(), chain=(leaf, mute, ROOT))


def test_check_revocation_ignores_list_signed_by_leaf() -> None:
    leaf = CA.leaf('ca')
    with pytest.raises(CertificateError, match='no current CRL'):
        check(leaf.crl(), chain=(leaf, CA, ROOT))


def test_check_revocation_needs_every_list_when_required() -> None:
    with pytest.raises(CertificateError, match='issuer of CN=r1'):
        check(required=True)
    with pytest.raises(CertificateError, match='issuer of CN=ca'):
        check(CA.crl(), required=True)
    assert check(CA.crl(), ROOT.crl(), required=True) == AT + DAY


@pytest.mark.parametrize('kind', KIND_NAMES)
def test_crl_verifies_with_every_kind_of_key(kind: str) -> None:
    authority = root('CN=top', kind=kind, number=1)
    leaf = authority.leaf('r1')
    with pytest.raises(CertificateError, match='revoked'):
        check(authority.crl(leaf), chain=(leaf, authority))


CRITICAL = [
    x509.DeltaCRLIndicator(1),
    x509.IssuingDistributionPoint(None, None, True, False, None, False, False),
]


@pytest.mark.parametrize('extension', CRITICAL)
def test_crl_is_refused_when_partial(extension: x509.ExtensionType) -> None:
    with pytest.raises(CertificateError, match='critical CRL extension'):
        RevocationList.read(CA.crl(extensions=[(extension, True)]))


def test_crl_is_refused_when_entry_has_other_issuer() -> None:
    indirect = x509.CertificateIssuer([x509.DirectoryName(ROOT.parsed.subject)])
    with pytest.raises(CertificateError, match='critical CRL extension'):
        RevocationList.read(CA.crl(LEAF, entry_extensions=[(indirect, True)]))


def test_crl_skips_other_extensions() -> None:
    RevocationList.read(CA.crl(LEAF, extensions=[(x509.CRLNumber(7), False)]))


def test_read_crl_file_accepts_pem_and_der() -> None:
    first, second = CA.crl(LEAF), ROOT.crl()
    pem = b''.join(
        x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM) for crl in (first, second)
    )
    assert read_crl_file(pem) == (RevocationList.read(first), RevocationList.read(second))
    assert read_crl_file(first) == (RevocationList.read(first),)


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'nonsense',
        b'-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n',
        LEAF.pem,
        LEAF.der,
        CA.crl()[:-1],
        bytes(5 * 1024 * 1024),
    ],
    ids=range(7),
)
def test_read_crl_file_refuses_other_content(content: bytes) -> None:
    with pytest.raises(CertificateError):
        read_crl_file(content)


@given(st.data())
def test_crl_is_refused_or_ignored_when_mutated(data: st.DataObject) -> None:
    octets = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(octets) - 1))
        octets[place] ^= data.draw(st.integers(1, 255))
    try:
        read = RevocationList.read(bytes(octets))
    except CertificateError as error:
        assert str(error).isprintable()
        return
    if read.signed.octets != RevocationList.read(SAMPLE).signed.octets:
        assert not read.signed.by(CA.certificate.key)


SAMPLE = CA.crl(LEAF, OTHER, extensions=[(x509.CRLNumber(7), False)])

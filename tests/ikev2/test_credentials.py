"""X.509 as a credential: CERT and CERTREQ, and what a peer's certificate proves.

RFC 7296, 3.6, 3.7 and 2.15; RFC 7427, 3; RFC 4945, 3.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from hashlib import sha1

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ikev2.authentication.auth import (
    CertifiedKey,
    PresharedKey,
    PrivateKey,
    TrustAnchors,
    certificate_requests,
    certificates,
    make_auth,
    verify_auth,
)
from ikev2.authentication.credentials import MOST_CERTIFICATES
from ikev2.authentication.identity import Identity
from ikev2.authentication.signatures.schemes import SUPPORTED_HASHES
from ikev2.constants import AuthMethod, CertificateEncoding, PrfId
from ikev2.errors import AuthenticationFailed, CredentialError
from ikev2.wire.payloads import AuthPayload, CertificatePayload, CertificateRequestPayload
from keymaterial import Secret
from tests.ikev2.pki import AT, DAY, KIND_NAMES, keys, root

PRF = PrfId.HMAC_SHA2_256
OCTETS = b'the signed octets'
HASHES = frozenset(SUPPORTED_HASHES)
X509 = CertificateEncoding.X509_SIGNATURE
RAW = CertificateEncoding.RAW_PUBLIC_KEY
CRL = CertificateEncoding.CRL
R1 = Identity.parse('fqdn', 'r1.lab')
R2 = Identity.parse('fqdn', 'r2.lab')

ROOT = root()
CA = ROOT.ca('ca')
LEAF = CA.leaf('CN=r1,O=lab', x509.DNSName('r1.lab'))
OURS = LEAF.credential(CA)
TRUST = ROOT.trust()


def verify(
    trust: TrustAnchors,
    credential: CertifiedKey,
    received: Sequence[CertificatePayload] | None = None,
    *,
    identity: Identity = R1,
    when: float = AT,
    auth: AuthPayload | None = None,
) -> float | None:
    return verify_auth(
        trust,
        PRF,
        OCTETS,
        auth or make_auth(credential, PRF, OCTETS, HASHES),
        certificates(credential, ()) if received is None else received,
        peer_hashes=HASHES,
        identity=identity,
        at=when,
    )


def refused(why: str, *args: object, **options: object) -> None:
    with pytest.raises(AuthenticationFailed, match=why):
        verify(*args, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize('kind', KIND_NAMES)
def test_prove_accepts_certificate_of_every_kind_of_key(kind: str) -> None:
    leaf = CA.leaf('r1', x509.DNSName('r1.lab'), kind=kind, number=1)
    assert verify(TRUST, leaf.credential(CA)) == AT + DAY


def test_prove_refuses_another_identity() -> None:
    refused('it is for CN=r1,O=lab .r1.lab., not for fqdn r2.lab', TRUST, OURS, identity=R2)


def test_prove_refuses_certificate_without_private_key() -> None:
    # Any host may send any certificate.
    thief = CA.leaf('r2', x509.DNSName('r2.lab')).credential()
    auth = make_auth(thief, PRF, OCTETS, HASHES)
    refused('signature is wrong', TRUST, OURS, auth=auth)


def test_prove_uses_only_first_certificate() -> None:
    # RFC 7296, 3.6: it holds the key that AUTH is checked with.
    mine = CA.leaf('r2', x509.DNSName('r2.lab'))
    received = [CertificatePayload(X509, holder.der) for holder in (mine, LEAF, CA)]
    auth = make_auth(mine.credential(), PRF, OCTETS, HASHES)
    refused('it is for CN=r2', TRUST, OURS, received, auth=auth)
    received = [CertificatePayload(X509, holder.der) for holder in (LEAF, mine, CA)]
    refused('signature is wrong', TRUST, OURS, received, auth=auth)


def test_prove_needs_a_certificate() -> None:
    refused('sent no certificate', TRUST, OURS, [])
    raw = CertificatePayload(RAW, OURS.key.public_key.spki)
    refused('sent no certificate', TRUST, OURS, [raw])


def test_prove_refuses_certificate_of_another_ca() -> None:
    refused('not issued by a configured trust anchor', root('CN=other').trust(), OURS)


def test_prove_refuses_expired_certificate() -> None:
    refused('CN=r1,O=lab has expired', TRUST, OURS, when=AT + 2 * DAY)


def test_prove_refuses_revoked_certificate() -> None:
    refused('CN=r1,O=lab was revoked', ROOT.trust(CA.crl(LEAF)), OURS)


def test_prove_accepts_crl_from_peer() -> None:
    # RFC 7296, 3.6: CERT encoding 7. It revokes, or is the one that is required.
    chain = certificates(OURS, ())
    lists = [CertificatePayload(CRL, crl) for crl in (CA.crl(), ROOT.crl())]
    strict = ROOT.trust(crl_required=True)
    refused('no current CRL', strict, OURS)
    assert verify(strict, OURS, [*chain, *lists]) == AT + DAY
    refused('revoked', TRUST, OURS, [*chain, CertificatePayload(CRL, CA.crl(LEAF))])


def test_prove_skips_and_tells_unreadable_certificates() -> None:
    junk = CertificatePayload(X509, b'junk')
    chain = certificates(OURS, ())
    assert verify(TRUST, OURS, [chain[0], junk, *chain[1:]]) == AT + DAY
    assert verify(TRUST, OURS, [*chain, CertificatePayload(CRL, b'junk')]) == AT + DAY
    refused('passed over: the certificate is refused', TRUST, OURS, [chain[0], junk])
    refused('the certificate is refused', TRUST, OURS, [junk, *chain])


def test_prove_reads_limited_number_of_certificates() -> None:
    chain = certificates(OURS, ())
    stuffing = [CertificatePayload(X509, b'junk')] * MOST_CERTIFICATES
    refused('not issued', TRUST, OURS, [chain[0], *stuffing, *chain[1:]])
    many = [CertificatePayload(CRL, b'junk')] * MOST_CERTIFICATES
    revoked = CertificatePayload(CRL, CA.crl(LEAF))
    assert verify(TRUST, OURS, [*chain, *many, revoked]) == AT + DAY


def test_trust_anchors_need_identity_and_time() -> None:
    auth = make_auth(OURS, PRF, OCTETS, HASHES)
    for identity, at in ((None, AT), (R1, None)):
        with pytest.raises(ValueError, match='for an identity and at a time'):
            verify_auth(TRUST, PRF, OCTETS, auth, (), identity=identity, at=at)


def test_sides_authenticate_when_methods_differ() -> None:
    # RFC 7296, 2.15.
    psk = PresharedKey(Secret(b'a secret'))
    assert verify_auth(psk, PRF, OCTETS, make_auth(psk, PRF, OCTETS, HASHES)) is None
    assert verify(TRUST, OURS) == AT + DAY


def test_verify_auth_demands_method_14_when_hashes_announced() -> None:
    # RFC 7427, 3: both sides sent SIGNATURE_HASH_ALGORITHMS, so it MUST be used.
    classic = make_auth(OURS, PRF, OCTETS, ())
    assert classic.method == AuthMethod.ECDSA_SHA256_P256
    refused('authenticates by method 9, method 14 is configured', TRUST, OURS, auth=classic)
    public = OURS.key.public_key
    with pytest.raises(AuthenticationFailed, match='method 14'):
        verify_auth(public, PRF, OCTETS, classic, peer_hashes={2})
    verify_auth(public, PRF, OCTETS, classic)


@pytest.mark.parametrize('method', [0, 2, 3, 12, 13, 255])
def test_verify_auth_refuses_method_that_is_no_signature(method: int) -> None:
    good = make_auth(OURS, PRF, OCTETS, HASHES)
    refused(
        f'method {method}, a signature is configured',
        TRUST,
        OURS,
        auth=AuthPayload(method, good.data),
    )


# --- CERTREQ and CERT ----------------------------------------------------------------------------


def test_certreq_names_anchors_by_hash_of_their_key() -> None:
    # RFC 7296, 3.7: SHA-1 of SubjectPublicKeyInfo, concatenated.
    other = root('CN=other')
    both = TrustAnchors((ROOT.certificate, other.certificate))
    hashes = b''.join(sha1(one.certificate.spki).digest() for one in (ROOT, other))
    assert certificate_requests(both) == (CertificateRequestPayload(X509, hashes),)


def sent(*requests: CertificateRequestPayload, credential: CertifiedKey = OURS) -> list[bytes]:
    return [payload.data for payload in certificates(credential, requests)]


def test_certificates_send_ours_first_then_chain() -> None:
    for requests in ([], [CertificateRequestPayload(X509, ROOT.certificate.authority)]):
        assert sent(*requests) == [LEAF.der, CA.der]
    assert all(payload.encoding == X509 for payload in certificates(OURS, []))


def test_certificates_leave_out_ca_that_peer_has() -> None:
    both = ROOT.certificate.authority + CA.certificate.authority
    assert sent(CertificateRequestPayload(X509, both)) == [LEAF.der]


def test_certificates_are_sent_when_request_names_other_ca() -> None:
    # RFC 7296, 3.7: not an error condition of the protocol.
    assert sent(CertificateRequestPayload(X509, bytes(20))) == [LEAF.der, CA.der]


def test_raw_key_is_sent_when_peer_wants_just_that() -> None:
    raw = CertificateRequestPayload(RAW)
    assert certificates(OURS, [raw]) == (CertificatePayload(RAW, OURS.key.public_key.spki),)
    assert sent(raw, CertificateRequestPayload(X509)) == [LEAF.der, CA.der]


def test_certificates_leave_out_root() -> None:
    key = PrivateKey(LEAF.key)
    loaded = CertifiedKey.load(key, LEAF.pem + CA.pem + ROOT.pem)
    assert loaded == OURS
    # A CA's new key, certified with its old one, is no root.
    rollover = root('CN=ca', kind='ecdsa-p256', number=5).ca('ca', number=6)
    assert len(CertifiedKey.load(key, LEAF.pem + rollover.pem).chain) == 2


# --- files ---------------------------------------------------------------------------------------


def test_certified_key_refuses_when_key_differs() -> None:
    with pytest.raises(CredentialError, match='not for the private key'):
        CertifiedKey.load(PrivateKey(keys('ecdsa-p256')), LEAF.pem)
    with pytest.raises(CredentialError, match='not for the private key'):
        CertifiedKey.load(PrivateKey(LEAF.key), CA.pem + LEAF.pem)


@pytest.mark.parametrize('content', [b'', b'junk'])
def test_certified_key_refuses_files_without_certificate(content: bytes) -> None:
    with pytest.raises(CredentialError):
        CertifiedKey.load(PrivateKey(LEAF.key), content)
    with pytest.raises(CredentialError):
        TrustAnchors.load(content)
    with pytest.raises(CredentialError):
        TrustAnchors.load(ROOT.pem, content or b'junk')


def test_trust_anchors_refuse_certificate_that_is_no_ca() -> None:
    with pytest.raises(CredentialError, match='CN=r1,O=lab is not a CA'):
        TrustAnchors.load(ROOT.pem + LEAF.pem)
    with pytest.raises(CredentialError, match='no trust anchor'):
        TrustAnchors(())


def test_trust_anchors_load_anchors_and_crls() -> None:
    crl = CA.crl(LEAF)
    trust = TrustAnchors.load(ROOT.pem, crl)
    assert trust == ROOT.trust(crl)
    assert not trust.crl_required
    assert TrustAnchors.load(ROOT.der, crl_required=True).crl_required


def test_certified_key_limits_chain() -> None:
    with pytest.raises(CredentialError, match='1 to 16'):
        CertifiedKey(PrivateKey(LEAF.key), ())
    with pytest.raises(CredentialError, match='1 to 16'):
        CertifiedKey(PrivateKey(LEAF.key), (LEAF.certificate,) * 17)


def test_certified_key_refuses_chain_that_fits_no_message() -> None:
    """Not when a peer asks for it: that would be our end, not the peer's."""
    ballast = x509.UnrecognizedExtension(x509.ObjectIdentifier('1.3.6.1.4.1.99999.1'), bytes(15000))
    below = [CA.ca(f'CN=large {number}', ballast) for number in range(3)]
    leaf = CA.leaf('r1', x509.DNSName('r1.lab'))
    leaf.credential(*below[:2])
    with pytest.raises(CredentialError, match='at most'):
        leaf.credential(*below)


def test_certified_credentials_are_equal_when_reread() -> None:
    assert LEAF.credential(CA) == OURS
    assert hash(LEAF.credential(CA)) == hash(OURS)
    assert ROOT.trust(CA.crl()) != TRUST
    # ExaBGP deep-copies its neighbors.
    assert copy.deepcopy(OURS) == OURS
    assert copy.deepcopy(TRUST) == TRUST


# --- hostile peers -------------------------------------------------------------------------------


@given(st.data())
def test_prove_accepts_or_blames_peer_when_certificate_mutated(
    data: st.DataObject,
) -> None:
    chain = [*certificates(OURS, ()), CertificatePayload(CRL, SAMPLE_CRL)]
    place = data.draw(st.integers(0, len(chain) - 1))
    octets = bytearray(chain[place].data)
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    chain[place] = CertificatePayload(chain[place].encoding, bytes(octets))
    try:
        verify(TRUST, OURS, chain)
    except AuthenticationFailed as error:
        assert str(error).isprintable()


@given(
    st.lists(
        st.builds(
            CertificatePayload,
            st.sampled_from([X509, RAW, CRL, 12, 255]),
            st.binary(max_size=60),
        ),
        max_size=4,
    ),
    st.integers(0, 255),
    st.binary(max_size=60),
)
def test_prove_blames_peer_when_payloads_are_arbitrary(
    received: list[CertificatePayload], method: int, data: bytes
) -> None:
    with pytest.raises(AuthenticationFailed):
        verify(TRUST, OURS, received, auth=AuthPayload(method, data))


SAMPLE_CRL = CA.crl(CA.leaf('r3'))

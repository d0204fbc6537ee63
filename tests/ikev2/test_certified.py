"""IKE SAs that rest on certificates, between two engines: RFC 7296, 2.15, 3.6 and 3.7; RFC 9593."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509

from ikev2.authentication.auth import (
    CertifiedKey,
    PeerCredential,
    PrivateKey,
    TrustAnchors,
    verify_auth,
)
from ikev2.authentication.identity import Identity
from ikev2.constants import ExchangeType, NotifyType
from ikev2.errors import LocalError
from ikev2.events import Cause, IkeMessage, IkeSaDown, IkeSaFailed, IkeSaUp
from ikev2.wire.message import Message
from ikev2.wire.payloads import AuthPayload, CertificateRequestPayload, NotifyPayload
from tests.ikev2.bench import (
    Bench,
    header_of,
    is_kind,
    peer_a,
    peer_b,
    psk,
    rp_request,
    sas_of,
)
from tests.ikev2.pki import AT, DAY, KIND_NAMES, keys, root

ROOT = root()
CA = ROOT.ca('ca')
A = CA.leaf('a', x509.DNSName('a.example')).credential(CA)
B = CA.leaf('b', x509.DNSName('b.example')).credential(CA)
TRUST = ROOT.trust()


def bench(
    a: CertifiedKey = A,
    b: CertifiedKey = B,
    trusted_by_a: TrustAnchors = TRUST,
    trusted_by_b: TrustAnchors = TRUST,
) -> Bench:
    made = Bench(b=peer_b(a, trusted_by_a), a=peer_a(b, trusted_by_b))
    made.connect()
    return made


def test_both_sides_authenticate_with_certificates() -> None:
    up = bench()
    assert up.a.last(IkeSaUp)
    assert up.b.last(IkeSaUp)
    sent, received = [m.detail for m in up.a.all(IkeMessage) if m.exchange == 'IKE_AUTH']
    assert sent == (
        'IDi, CERT, CERT, N(INITIAL_CONTACT), CERTREQ, IDr, AUTH, N(SUPPORTED_AUTH_METHODS)'
    )
    assert received == 'IDr, CERT, CERT, AUTH, N(INITIAL_CONTACT)'


@pytest.mark.parametrize('kind', KIND_NAMES)
def test_certificates_authenticate_with_every_kind_of_key(kind: str) -> None:
    # Certificates with ML-DSA keys need IKE fragmentation: more than 10,000 octets.
    authority = root('CN=top', kind=kind, number=1)
    a = authority.leaf('a', x509.DNSName('a.example'), kind=kind, number=2).credential()
    b = authority.leaf('b', x509.DNSName('b.example'), kind=kind, number=3).credential()
    up = bench(a, b, authority.trust(), authority.trust())
    assert up.b.last(IkeSaUp)
    assert max(len(datagram.data) for datagram in up.wire) <= 1252


def test_certificate_authenticates_beside_psk() -> None:
    up = Bench(b=peer_b(A, psk()), a=peer_a(psk(), TRUST))
    up.connect()
    assert up.b.last(IkeSaUp)


def test_certificate_authenticates_beside_pinned_key() -> None:
    raw = PrivateKey(keys('ed25519'))
    up = Bench(b=peer_b(A, raw.public_key.fingerprint), a=peer_a(raw, TRUST))
    up.connect()
    assert up.b.last(IkeSaUp)


@pytest.mark.parametrize('guilty', ['a', 'b'])
@pytest.mark.parametrize(
    ('why', 'credential'),
    [
        ('not issued by', lambda name: root('CN=other').leaf('x', name).credential()),
        ('it is for', lambda name: ROOT.leaf('x', x509.DNSName('c.example')).credential()),
        ('has expired', lambda name: ROOT.leaf('x', name, not_after=AT - 1).credential()),
        ('not valid yet', lambda name: ROOT.leaf('x', name, not_before=AT + 99).credential()),
    ],
    ids=['another CA', 'another name', 'expired', 'too early'],
)
def test_ike_sa_ends_at_both_sides_when_certificate_fails(
    guilty: str, why: str, credential: Callable[[x509.DNSName], CertifiedKey]
) -> None:
    bad = credential(x509.DNSName(f'{guilty}.example'))
    down = bench(bad) if guilty == 'a' else bench(b=bad)
    judge = down.b if guilty == 'a' else down.a
    down.run(30)
    failed = judge.last(IkeSaFailed)
    assert (failed.step, failed.cause) == ('IKE_AUTH', Cause.AUTHENTICATION_FAILED)
    assert why in failed.text
    down.run(60)
    assert not judge.all(IkeSaUp)
    assert not sas_of(down.a)
    assert not sas_of(down.b)
    if guilty == 'a':
        assert down.a.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED
    else:
        # The responder had it up, and is told (RFC 7296, 2.21.2).
        assert down.b.last(IkeSaDown).cause == Cause.AUTHENTICATION_FAILED


def test_peer_is_refused_when_certificate_is_revoked() -> None:
    leaf = CA.leaf('a', x509.DNSName('a.example'))
    down = bench(leaf.credential(CA), trusted_by_b=ROOT.trust(CA.crl(leaf)))
    assert 'was revoked' in down.b.last(IkeSaFailed).text
    assert down.a.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED


def test_certificates_are_judged_by_wall_clock() -> None:
    down = Bench(b=peer_b(A, TRUST), a=peer_a(B, TRUST))
    down.wall += 2 * DAY
    down.connect()
    assert 'has expired' in down.b.last(IkeSaFailed).text


def test_failure_text_names_our_own_expired_certificate() -> None:
    old = CA.leaf('a', x509.DNSName('a.example'), not_after=AT - 1).credential(CA)
    down = bench(old)
    down.run(30)
    text = down.a.last(IkeSaFailed).text
    assert text.startswith('the peer refused our identity or our proof of it: in our own chain')
    assert text.endswith('CN=a has expired, install a new one')


def test_ike_sa_ends_when_its_proof_ends() -> None:
    # The certificate ends in an hour: a new one must be shown before, or the IKE SA goes.
    short = CA.leaf('a', x509.DNSName('a.example'), not_after=AT + 3600).credential(CA)
    up = bench(short)
    (sa,) = sas_of(up.b)
    assert sa.proven_by.until == AT + 3600
    up.run(4000)
    assert not [sa for sa in sas_of(up.b) if sa.finished]


def test_responder_names_authorities_in_ike_sa_init() -> None:
    assert named_by_responder(bench()) == ROOT.certificate.authority


def named_by_responder(up: Bench) -> bytes:
    answer = next(
        Message.decode(d.data)
        for d in up.wire
        if is_kind(d, ExchangeType.IKE_SA_INIT, response=True)
    )
    return answer.require(CertificateRequestPayload).authorities


def test_certreq_names_ten_anchors_when_bundle_is_large() -> None:
    others = tuple(root(f'CN=other {n}', number=n).certificate for n in range(40))
    up = bench(trusted_by_b=TrustAnchors((*others, ROOT.certificate)))
    assert up.b.last(IkeSaUp)
    assert len(named_by_responder(up)) == 10 * 20


def test_initiator_signs_by_responders_announcement() -> None:
    # RFC 9593, 3.1: the initiator's announcement is in IKE_AUTH, and only after the responder's.
    up = bench()
    inits = [m.detail for m in up.a.all(IkeMessage) if m.exchange == 'IKE_SA_INIT']
    assert 'SUPPORTED_AUTH_METHODS' not in inits[0]
    assert 'N(SUPPORTED_AUTH_METHODS)' in inits[1]


def test_announcements_are_not_sent_when_peer_sent_none(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = NotifyPayload(40_999)
    monkeypatch.setattr('ikev2.exchanges.ike_init_responder.announce', lambda credential: silent)
    up = bench()
    assert up.b.last(IkeSaUp)
    sent = next(m.detail for m in up.a.all(IkeMessage) if m.exchange == 'IKE_AUTH')
    assert 'SUPPORTED_AUTH_METHODS' not in sent


def test_signature_changes_with_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    # An RSA key of the initiator, and a responder that takes PKCS #1 v1.5 with SHA2-512 only.
    pkcs1 = bytes.fromhex('300d06092a864886f70d01010d0500')
    notify = NotifyPayload(
        NotifyType.SUPPORTED_AUTH_METHODS, bytes([3 + len(pkcs1), 14, 0]) + pkcs1
    )
    monkeypatch.setattr('ikev2.exchanges.ike_init_responder.announce', lambda credential: notify)
    seen: list[bytes] = []

    def spy(
        credential: PeerCredential,
        prf: int,
        octets: bytes,
        auth: AuthPayload,
        *rest: Any,
        **more: Any,
    ) -> float | None:
        seen.append(auth.data)
        return verify_auth(credential, prf, octets, auth, *rest, **more)

    monkeypatch.setattr('ikev2.exchanges.ike_auth.verify_auth', spy)
    a = CA.leaf('a', x509.DNSName('a.example'), kind='rsa', number=1).credential(CA)
    assert bench(a).b.last(IkeSaUp)
    assert seen[0][1:16] == pkcs1


def test_answer_is_dropped_when_announcement_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = NotifyPayload(NotifyType.SUPPORTED_AUTH_METHODS, b'\x00')
    monkeypatch.setattr('ikev2.exchanges.ike_init_responder.announce', lambda credential: bad)
    down = bench()
    assert not down.a.all(IkeSaUp)
    assert down.a.endpoint.snapshot().peer('b').counters.malformed


def test_peer_is_refused_when_identity_fits_no_certificate() -> None:
    key_id = Identity.parse('key-id', 'r')
    with pytest.raises(LocalError, match='key-id r is in no certificate'):
        replace(peer_b(A, TRUST), remote_id=key_id)
    assert replace(peer_b(A, psk()), remote_id=key_id).remote_id == key_id


def test_rp_sa_is_negotiated_with_certificates() -> None:
    up = bench()
    up.negotiate(rp_request())
    assert up.b.accepted[0].master_key
    assert any(header_of(d).exchange_type == ExchangeType.CREATE_CHILD_SA for d in up.wire)

"""A peer's last proof, judged again by another configuration; IKE SAs that stay for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from ikev2.authentication.auth import PeerCredential, PrivateKey
from ikev2.authentication.proof import Proof, proof_of, proven_until
from ikev2.constants import CertificateEncoding
from ikev2.errors import AuthenticationFailed, LocalError
from ikev2.events import IkeSaDown, IkeSaFailed, IkeSaUp
from ikev2.wire.payloads import CertificatePayload
from tests.ikev2.bench import A_ID, Bench, peer_a, peer_b, psk, sas_of
from tests.ikev2.pki import AT, DAY, keys, root

ROOT = root()
A = ROOT.leaf('a', x509.DNSName('a.example'), not_after=AT + 3 * DAY)
B = ROOT.leaf('b', x509.DNSName('b.example'), not_after=AT + 3 * DAY)
PROOF = Proof((A.der,), ())
LATER = ROOT.crl(next_update=AT + 2 * DAY)


def bench() -> Bench:
    made = Bench(b=peer_b(A.credential(), ROOT.trust()), a=peer_a(B.credential(), ROOT.trust()))
    made.connect()
    return made


def test_what_a_peer_sent_is_kept_where_a_ca_vouches_for_it() -> None:
    received = [
        CertificatePayload(CertificateEncoding.X509_SIGNATURE, b'own'),
        CertificatePayload(CertificateEncoding.CRL, b'list'),
        CertificatePayload(CertificateEncoding.RAW_PUBLIC_KEY, b'key'),
        CertificatePayload(CertificateEncoding.X509_SIGNATURE, b'ca'),
    ]
    peer = peer_a(remote_credential=ROOT.trust())
    assert proof_of(peer.remote_credential, received) == Proof((b'own', b'ca'), (b'list',))
    assert proof_of(peer_a().remote_credential, received) is None


def test_our_user_is_told_until_when_a_proof_holds_and_what_it_was() -> None:
    up = bench()
    told = up.b.last(IkeSaUp)
    assert told.proof == PROOF
    # The trust anchor's certificate is the first to end.
    assert told.proven_until == pytest.approx(up.now + DAY, abs=60)
    assert all(sa.proof is None for sa in sas_of(up.b))


@pytest.mark.parametrize(
    ('credential', 'until'),
    [
        (ROOT.trust(), AT + DAY),
        (ROOT.trust(ROOT.crl(B, next_update=AT + 100)), AT + 100),
        (psk(), None),
        (PrivateKey(A.key).public_key, None),
        (PrivateKey(A.key).public_key.fingerprint, None),
    ],
)
def test_only_certificates_can_be_judged_again(
    credential: PeerCredential, until: float | None
) -> None:
    assert proven_until(PROOF, credential, A_ID, AT) == until
    assert proven_until(None, credential, A_ID, AT) is None


@pytest.mark.parametrize(
    ('credential', 'why'),
    [
        (ROOT.trust(ROOT.crl(A)), 'revoked'),
        (root('CN=other').trust(), 'not issued by'),
    ],
)
def test_a_proof_that_would_not_do_any_more_is_an_error(
    credential: PeerCredential, why: str
) -> None:
    with pytest.raises(AuthenticationFailed, match=why):
        proven_until(PROOF, credential, A_ID, AT)


def test_an_ike_sa_stays_and_holds_as_long_as_the_new_judgement() -> None:
    up = bench()
    (sa,) = sas_of(up.b)
    trust = ROOT.trust(LATER)
    up.b.endpoint.change_trust(peer_a(B.credential(), trust), up.now + 600, up.now)
    assert sas_of(up.b) == [sa]
    # In time, by a new proof: the old one's deadlines are gone with it.
    up.run(590)
    assert len(up.b.all(IkeSaUp)) == 2
    assert not up.b.all(IkeSaDown)
    up.run(3600)
    assert len(up.b.all(IkeSaUp)) == 2
    assert not up.b.all(IkeSaFailed)


def test_a_rekey_under_way_inherits_the_new_judgement() -> None:
    up = bench()
    up.b.endpoint.rekey_ike_sa('a', up.now)
    trust = peer_a(B.credential(), ROOT.trust(LATER))
    up.b.endpoint.change_trust(trust, up.now + 600, up.now)
    until = up.now + 600
    up.run(5)
    assert [sa.proven_until for sa in sas_of(up.b)] == [until]


def test_who_comes_afterwards_is_judged_by_the_new_one() -> None:
    up = bench()
    revoked = ROOT.trust(ROOT.crl(A))
    up.b.endpoint.change_trust(peer_a(B.credential(), revoked), up.now + 3600, up.now)
    up.a.endpoint.reauthenticate('b', up.now)
    up.run(30)
    assert 'revoked' in up.b.last(IkeSaFailed).text


def test_nothing_else_may_change_with_it() -> None:
    up = bench()
    changed = replace(peer_a(B.credential(), ROOT.trust(LATER)), ike_lifetime=600.0)
    with pytest.raises(LocalError, match='more than the credential of peer a'):
        up.b.endpoint.change_trust(changed, up.now + 600, up.now)
    other = peer_a(PrivateKey(keys('ed25519', 1)), ROOT.trust(LATER))
    with pytest.raises(LocalError, match='more than the credential'):
        up.b.endpoint.change_trust(other, up.now + 600, up.now)

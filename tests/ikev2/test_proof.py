"""A peer's last proof, judged again by another configuration; IKE SAs that stay for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from ikev2.authentication.auth import PeerCredential, PrivateKey
from ikev2.authentication.proof import Proof, SentCertificates, sent_certificates
from ikev2.constants import CertificateEncoding, ExchangeType
from ikev2.errors import AuthenticationFailed, LocalError
from ikev2.events import IkeSaDistrusted, IkeSaDown, IkeSaFailed, IkeSaUp, RpSaRequested
from ikev2.exchanges.ike_auth import Authenticate
from ikev2.exchanges.ike_rekey import rekey
from ikev2.exchanges.informational import Liveness
from ikev2.limits import Limits
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.transitions import State
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import CertificatePayload
from tests.ikev2.bench import A_ID, LATENCY, Bench, is_kind, peer_a, peer_b, psk, sas_of
from tests.ikev2.pki import AT, DAY, keys, root
from tests.ikev2.test_rp_in_auth import child

ROOT = root()
A = ROOT.leaf('a', x509.DNSName('a.example'), not_after=AT + 3 * DAY)
B = ROOT.leaf('b', x509.DNSName('b.example'), not_after=AT + 3 * DAY)
SENT = SentCertificates((A.der,), ())
OLD = ROOT.leaf('old', x509.DNSName('a.example'), not_after=AT + 3600)
LATER = ROOT.crl(next_update=AT + 2 * DAY)


def proof_of_a() -> Proof:
    return Proof(A_ID, 0.0, SENT, AT, AT + 5)


def bench() -> Bench:
    made = Bench(b=peer_b(A.credential(), ROOT.trust()), a=peer_a(B.credential(), ROOT.trust()))
    made.connect()
    return made


def test_sent_certificates_are_kept_when_ca_vouches() -> None:
    received = [
        CertificatePayload(CertificateEncoding.X509_SIGNATURE, b'own'),
        CertificatePayload(CertificateEncoding.CRL, b'list'),
        CertificatePayload(CertificateEncoding.RAW_PUBLIC_KEY, b'key'),
        CertificatePayload(CertificateEncoding.X509_SIGNATURE, b'ca'),
    ]
    peer = peer_a(remote_credential=ROOT.trust())
    assert sent_certificates(peer.remote_credential, received) == SentCertificates(
        (b'own', b'ca'), (b'list',)
    )
    assert sent_certificates(peer_a().remote_credential, received) is None


def test_user_is_told_proof_and_its_end() -> None:
    up = bench()
    told = up.b.last(IkeSaUp)
    assert told.proof.sent == SENT
    # The trust anchor's certificate is the first to end.
    assert told.proof.until == pytest.approx(up.wall + up.now + DAY, abs=60)
    assert all(sa.proof is told.proof for sa in sas_of(up.b))


@pytest.mark.parametrize(
    ('credential', 'until'),
    [
        (ROOT.trust(), AT + DAY),
        (ROOT.trust(ROOT.crl(B, next_update=AT + 100)), AT + 100),
        (psk(), AT + 5),
        (PrivateKey(A.key).public_key, AT + 5),
        (PrivateKey(A.key).public_key.fingerprint, AT + 5),
    ],
)
def test_proof_is_judged_again_only_with_certificates(
    credential: PeerCredential, until: float | None
) -> None:
    proof = proof_of_a()
    proof.judge(credential, AT)
    assert proof.until == until
    configured = Proof(A_ID, 0.0, None, AT, None)
    configured.judge(credential, AT)
    assert configured.until is None


@pytest.mark.parametrize(
    ('credential', 'why'),
    [
        (ROOT.trust(ROOT.crl(A)), 'revoked'),
        (root('CN=other').trust(), 'not issued by'),
    ],
)
def test_judge_raises_when_proof_fails_now(credential: PeerCredential, why: str) -> None:
    with pytest.raises(AuthenticationFailed, match=why):
        proof_of_a().judge(credential, AT)


def test_ike_sa_holds_as_long_as_new_judgement() -> None:
    up = bench()
    (sa,) = sas_of(up.b)
    crl = ROOT.crl(next_update=AT + 600)
    up.b.endpoint.change_trust(peer_a(B.credential(), ROOT.trust(crl)), up.now)
    assert sas_of(up.b) == [sa]
    assert sa.proven_by.until == AT + 600
    # In time it is proven anew; that no proof holds for longer ends it.
    up.run(590)
    assert len(up.b.all(IkeSaUp)) >= 2
    assert not up.b.all(IkeSaDown)
    up.run(60)
    assert up.b.all(IkeSaDown)


def test_rekey_under_way_inherits_new_judgement() -> None:
    up = bench()
    up.b.endpoint.rekey_ike_sa('a', up.now)
    crl = ROOT.crl(next_update=AT + 600)
    up.b.endpoint.change_trust(peer_a(B.credential(), ROOT.trust(crl)), up.now)
    up.run(5)
    assert [sa.proven_by.until for sa in sas_of(up.b)] == [AT + 600]


def test_revocation_ends_handshake_when_its_child_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof was good, and our user has yet to say what becomes of the child in IKE_AUTH."""
    up = Bench(b=peer_b(A.credential(), ROOT.trust()), a=peer_a(B.credential(), ROOT.trust()))
    up.b.obliging = False
    original = Authenticate.request

    def with_child(self: Authenticate, sa: IkeSa, now: float) -> list[Payload]:
        return [*(original(self, sa, now) or ()), *child()]

    monkeypatch.setattr(Authenticate, 'request', with_child)
    up.connect()
    assert [sa.state for sa in sas_of(up.b)] == [State.HALF_OPEN]
    up.b.endpoint.change_trust(peer_a(B.credential(), ROOT.trust(ROOT.crl(A))), up.now)
    assert not sas_of(up.b)
    up.b.collect(up.now)
    assert up.b.accept(up.b.last(RpSaRequested), up.now) is None
    up.run(60)
    assert not up.a.all(IkeSaUp)
    assert not up.b.all(IkeSaUp)
    assert 'revoked' in up.b.last(IkeSaFailed).text


# --- two IKE SAs with one peer ------------------------------------------------------------------


def two_proofs(monkeypatch: pytest.MonkeyPatch) -> tuple[Bench, IkeSa, IkeSa]:
    """A has proven itself twice, by the certificate OLD and then by A; B keeps both IKE SAs."""
    up = Bench(
        b=peer_b(OLD.credential(), ROOT.trust()),
        a=peer_a(B.credential(), ROOT.trust()),
        limits=Limits(redundant_idle=10_000.0),
    )
    up.connect()
    up.a.mkts = up.b.mkts = True
    (first,) = sas_of(up.b)
    association = up.a.endpoint._associations['b']
    association.peer = replace(association.peer, credential=A.credential())
    monkeypatch.setattr('ikev2.association.delete_superseded', lambda *_: None)
    up.a.endpoint.reauthenticate('b', up.now)
    up.run(0.3)
    second = next(sa for sa in sas_of(up.b) if sa is not first)
    assert first.proven_by.sent != second.proven_by.sent
    return up, first, second


def test_revocation_ends_only_what_the_revoked_proof_made(monkeypatch: pytest.MonkeyPatch) -> None:
    up, first, second = two_proofs(monkeypatch)
    until = second.proven_by.until
    up.b.endpoint.change_trust(peer_a(B.credential(), ROOT.trust(ROOT.crl(OLD))), up.now)
    up.collect()
    assert first.state == State.CLOSED
    assert second.state == State.ESTABLISHED
    assert 'CN=old was revoked' in up.b.last(IkeSaDistrusted).text
    assert up.b.last(IkeSaDistrusted).spis == first.origin.spis
    assert not up.b.all(IkeSaDown)
    assert second.proven_by.until is not None
    assert second.proven_by.until <= (until or 0)


def test_proof_prolongs_no_other_ike_sa(monkeypatch: pytest.MonkeyPatch) -> None:
    up, first, second = two_proofs(monkeypatch)
    before = first.proven_by.until
    assert before == AT + 3600
    assert second.proven_by.until != before
    up.b.endpoint.change_trust(peer_a(B.credential(), ROOT.trust(LATER)), up.now)
    assert first.proven_by.until == before
    assert second.proven_by.until != before


def test_rekey_of_revoked_ike_sa_is_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    up, first, second = two_proofs(monkeypatch)
    old = next(sa for sa in sas_of(up.a) if sa.origin.spis == first.origin.spis)
    rekey(old, up.now)
    up.run(1)
    heirs = [sa for sa in sas_of(up.b) if sa.proven_by is first.proven_by]
    assert first not in heirs
    assert heirs
    up.b.endpoint.change_trust(peer_a(B.credential(), ROOT.trust(ROOT.crl(OLD))), up.now)
    assert all(sa.state == State.CLOSED for sa in heirs)
    assert second.state == State.ESTABLISHED


def test_revoked_ike_sa_ends_though_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer could leave our request unanswered, and a Delete would wait for its turn."""
    up, first, _ = two_proofs(monkeypatch)
    first.queue(Liveness(), up.now)
    assert first.busy
    up.b.endpoint.change_trust(peer_a(B.credential(), ROOT.trust(ROOT.crl(OLD))), up.now)
    assert first.state == State.CLOSED


def test_newer_proof_wins_race_with_rekey() -> None:
    for seed in range(1, 9):
        up = Bench(seed=seed)
        up.connect()
        up.run(100)
        up.fate = lambda d: (
            [1.0] if is_kind(d, ExchangeType.IKE_AUTH, response=False) else [LATENCY]
        )
        begun = up.now
        up.a.endpoint.reauthenticate('b', up.now)
        up.run(0.2)
        up.b.endpoint.rekey_ike_sa('a', up.now)
        up.run(20)
        for node in (up.a, up.b):
            assert [sa.authenticated > begun for sa in sas_of(node)] == [True]


# --- the clock is set ---------------------------------------------------------------------------


@pytest.mark.parametrize(('step', 'stays'), [(3600, True), (2 * DAY, False), (-40 * DAY, False)])
def test_proofs_follow_clock_that_was_set(step: float, stays: bool) -> None:
    up = bench()
    (sa,) = sas_of(up.b)
    up.wall += step
    up.b.endpoint.clock_was_set(up.now)
    up.collect()
    assert sa.finished is stays
    assert bool(up.b.all(IkeSaDistrusted)) is not stays


def test_proof_ends_by_clock_as_set() -> None:
    up = bench()
    (sa,) = sas_of(up.b)
    up.wall += DAY - 100
    up.a.endpoint.remove_peer('b', up.now)
    up.fate = lambda d: []
    up.b.endpoint.clock_was_set(up.now)
    up.run(90)
    assert sa.finished
    up.run(20)
    assert sa.state in (State.DELETING, State.CLOSED)


def test_later_peer_is_judged_by_new_credential() -> None:
    up = bench()
    revoked = ROOT.trust(ROOT.crl(A))
    up.b.endpoint.change_trust(peer_a(B.credential(), revoked), up.now)
    up.a.endpoint.reauthenticate('b', up.now)
    up.run(30)
    assert 'revoked' in up.b.last(IkeSaFailed).text


def test_change_trust_refuses_other_changes() -> None:
    up = bench()
    changed = replace(peer_a(B.credential(), ROOT.trust(LATER)), ike_lifetime=600.0)
    with pytest.raises(LocalError, match='more than the credential of peer a'):
        up.b.endpoint.change_trust(changed, up.now)
    other = peer_a(PrivateKey(keys('ed25519', 1)), ROOT.trust(LATER))
    with pytest.raises(LocalError, match='more than the credential'):
        up.b.endpoint.change_trust(other, up.now)

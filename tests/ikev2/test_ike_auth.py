"""IKE_AUTH (RFC 7296, 1.2, 2.4, 2.15, 2.21.2; RFC 6023; RFC 7670): who it is, and what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ikev2.authentication.auth import PrivateKey
from ikev2.authentication.identity import Identity
from ikev2.constants import (
    EncryptionId,
    ExchangeType,
    IdType,
    NotifyType,
    ProtocolId,
    TransformType,
)
from ikev2.errors import LocalError
from ikev2.events import (
    Cause,
    Datagram,
    IkeMessage,
    IkeSaDown,
    IkeSaFailed,
    IkeSaUp,
    InitialContact,
    RpSaFailed,
    RpSaNegotiated,
    RpSaRequested,
)
from ikev2.exchanges.ike_auth import Authenticate
from ikev2.limits import Limits
from ikev2.sa.ike_sa import IkeSa
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import AuthPayload, IdiPayload, NotifyPayload, UnknownPayload
from ikev2.wire.payloads_sa import Proposal, SaPayload, Transform
from tests.ikev2.bench import (
    A_ADDRESS,
    A_ID,
    B_ADDRESS,
    LATENCY,
    Bench,
    deliver,
    is_kind,
    peer_a,
    peer_b,
    psk,
    rp_request,
    sas_of,
)


def key() -> PrivateKey:
    """A throw-away Ed25519 key."""
    return PrivateKey(Ed25519PrivateKey.generate())


def asking_with(monkeypatch: pytest.MonkeyPatch, *extra: Payload) -> None:
    """Let every initiator add payloads to its IKE_AUTH request."""
    original = Authenticate.request

    def request(self: Authenticate, sa: IkeSa, now: float) -> list[Payload] | None:
        payloads = original(self, sa, now)
        return None if payloads is None else [*payloads, *extra]

    monkeypatch.setattr(Authenticate, 'request', request)


# --- credentials -------------------------------------------------------------------------------


def test_ike_auth_succeeds_with_ed25519_keys_on_file() -> None:
    a, b = key(), key()
    bench = Bench(b=peer_b(a, b.public_key), a=peer_a(b, a.public_key))
    bench.connect()
    assert bench.a.last(IkeSaUp)
    assert bench.b.last(IkeSaUp)
    details = [m.detail for m in bench.a.all(IkeMessage) if m.exchange == 'IKE_AUTH']
    assert not any('CERT' in detail for detail in details)


def test_ike_auth_succeeds_with_fingerprints_and_cert_payloads() -> None:
    a, b = key(), key()
    bench = Bench(b=peer_b(a, b.public_key.fingerprint), a=peer_a(b, a.public_key.fingerprint))
    bench.connect()
    assert bench.a.last(IkeSaUp)
    assert bench.b.last(IkeSaUp)
    sent, received = [m.detail for m in bench.a.all(IkeMessage) if m.exchange == 'IKE_AUTH']
    assert sent == ('IDi, CERT, N(INITIAL_CONTACT), CERTREQ, IDr, AUTH, N(SUPPORTED_AUTH_METHODS)')
    assert received == 'IDr, CERT, AUTH, N(INITIAL_CONTACT)'


def test_ike_auth_succeeds_when_methods_differ() -> None:
    a = key()
    bench = Bench(b=peer_b(a, psk()), a=peer_a(psk(), a.public_key))
    bench.connect()
    assert bench.b.last(IkeSaUp)


@pytest.mark.parametrize('pinned', ['key', 'fingerprint'])
def test_ike_auth_fails_when_key_is_another(pinned: str) -> None:
    a, b, other = key(), key(), key().public_key
    credential = other if pinned == 'key' else other.fingerprint
    bench = Bench(b=peer_b(a, b.public_key), a=peer_a(b, credential))
    bench.connect()
    failed = bench.b.last(IkeSaFailed)
    assert (failed.peer, failed.step, failed.cause) == (
        'a',
        'IKE_AUTH',
        Cause.AUTHENTICATION_FAILED,
    )
    assert bench.a.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED
    assert not sas_of(bench.a)
    assert not sas_of(bench.b)


def test_ike_auth_fails_at_both_ends_when_psk_differs() -> None:
    bench = Bench(b=peer_b(psk('not what B has'), psk('not what B has')))
    number = bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.settle()
    assert bench.b.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED
    assert bench.b.endpoint.snapshot().peer('a').counters.refused_auth == 1
    failed = bench.a.last(IkeSaFailed)
    assert (failed.step, failed.cause) == ('IKE_AUTH', Cause.AUTHENTICATION_FAILED)
    assert bench.a.last(RpSaFailed).exchange == number
    assert bench.a.last(RpSaFailed).cause == Cause.AUTHENTICATION_FAILED


def test_responder_half_ends_when_its_proof_is_refused() -> None:
    bench = Bench(b=peer_b(psk(), psk('what B should have')))
    bench.connect()
    assert bench.a.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED
    assert not bench.a.all(IkeSaUp)
    assert bench.b.last(IkeSaDown).cause == Cause.AUTHENTICATION_FAILED
    assert not sas_of(bench.a)
    assert not sas_of(bench.b)


@pytest.mark.parametrize('who', ['initiator', 'responder'])
def test_ike_auth_failure_names_other_identity(who: str) -> None:
    impostor = Identity.parse('fqdn', 'impostor.example')
    if who == 'initiator':
        bench = Bench(b=replace(peer_b(), local_id=impostor))
        victim = bench.b
    else:
        bench = Bench(a=replace(peer_a(), local_id=impostor))
        victim = bench.a
    bench.connect()
    failed = victim.last(IkeSaFailed)
    assert failed.cause == Cause.UNKNOWN_IDENTITY
    assert 'impostor.example' in failed.text
    assert not victim.all(IkeSaUp)


def test_ike_auth_failure_shortens_long_identity() -> None:
    bench = Bench(b=replace(peer_b(), local_id=Identity(IdType.KEY_ID, b'x' * 20000)))
    bench.connect()
    failed = bench.b.last(IkeSaFailed)
    assert failed.cause == Cause.UNKNOWN_IDENTITY
    assert 'key-id xxx' in failed.text
    assert len(failed.text) < 400


def test_peer_with_our_own_identity_is_refused() -> None:
    with pytest.raises(LocalError, match='identity are the same'):
        replace(peer_b(), remote_id=A_ID)


def test_reflected_messages_authenticate_nobody() -> None:
    """Reflection: A's IKE_SA_INIT comes back as if B had begun one, and so on."""
    bench = Bench()

    def mirror(datagram: Datagram) -> list[float]:
        if datagram.local == A_ADDRESS and len(bench.wire) < 40:
            back = replace(datagram, local=B_ADDRESS, remote=A_ADDRESS)
            bench._air.append((bench.now + LATENCY, len(bench.wire), back))
        return []

    bench.fate = mirror
    bench.a.endpoint.connect('b', bench.now)
    bench.run(60)
    assert not bench.a.all(IkeSaUp)


# --- children in IKE_AUTH ----------------------------------------------------------------------


def test_ike_sa_stays_up_when_esp_is_refused_in_ike_auth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    esp = Proposal(
        1,
        ProtocolId.ESP,
        b'\1\2\3\4',
        (Transform.make(TransformType.ENCR, EncryptionId.AES_GCM_16, 256),),
    )
    asking_with(monkeypatch, SaPayload((esp,)))
    bench = Bench()
    bench.connect()
    answer = [m.detail for m in bench.a.all(IkeMessage) if m.exchange == 'IKE_AUTH'][1]
    assert 'N(NO_PROPOSAL_CHOSEN)' in answer
    assert 'AUTH' in answer
    bench.negotiate()
    assert bench.a.last(RpSaNegotiated)


def test_attempt_ends_when_critical_payload_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asking_with(monkeypatch, UnknownPayload(200, b'', critical=True))
    bench = Bench()
    bench.connect()
    assert 'UNSUPPORTED_CRITICAL_PAYLOAD' in bench.a.last(IkeSaFailed).text
    assert not sas_of(bench.b)


def test_ike_auth_is_invalid_syntax_with_two_id_payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    asking_with(monkeypatch, IdiPayload(A_ID.id_type, A_ID.data))
    bench = Bench()
    bench.connect()
    assert 'INVALID_SYNTAX' in bench.a.last(IkeSaFailed).text
    assert bench.b.last(IkeSaFailed).cause == Cause.MALFORMED
    assert bench.b.endpoint.snapshot().peer('a').counters.malformed == 1


# --- INITIAL_CONTACT ---------------------------------------------------------------------------


def test_initial_contact_is_sent_when_side_has_no_mkts() -> None:
    bench = Bench()
    begun = bench.now
    bench.connect()
    assert bench.b.last(InitialContact) == InitialContact('a', begun + LATENCY)
    assert bench.a.last(InitialContact) == InitialContact('b', begun)


def test_initial_contact_is_not_sent_when_side_has_mkts() -> None:
    bench = Bench()
    bench.a.mkts = True
    bench.connect()
    assert not bench.b.all(InitialContact)
    assert bench.a.all(InitialContact)


def test_initial_contact_is_not_sent_with_other_ike_sa() -> None:
    bench = Bench()
    bench.connect()
    again = bench.boot('b')
    again.endpoint.set_peer(peer_a(), bench.now)
    before = len(again.all(InitialContact))
    again.endpoint.connect('a', bench.now)
    bench.settle()
    assert len(again.all(InitialContact)) == before  # A still held its old IKE SA
    assert len(bench.a.all(InitialContact)) == 2


def test_initial_contact_ends_old_ike_sas() -> None:
    bench = Bench()
    bench.connect()
    old = bench.a.last(IkeSaUp).spis
    bench.run(10)
    bench.boot('b')
    bench.b.endpoint.set_peer(peer_a(), bench.now)
    begun = bench.now
    bench.b.endpoint.connect('a', bench.now)
    bench.settle()
    assert bench.a.last(InitialContact).before == begun + LATENCY
    assert bench.a.last(IkeSaUp).spis != old
    assert [sa.origin.spis for sa in sas_of(bench.a)] == [bench.a.last(IkeSaUp).spis]
    assert not bench.a.all(IkeSaDown)


def test_initial_contact_spares_newer_ike_sa() -> None:
    bench = Bench()
    held: list[Datagram] = []

    def hold_b(datagram: Datagram) -> list[float]:
        if datagram.local == B_ADDRESS and is_kind(datagram, ExchangeType.IKE_AUTH, response=False):
            return [0.5]
        return deliver(datagram)

    bench.fate = hold_b
    bench.a.endpoint.connect('b', bench.now)
    bench.b.endpoint.connect('a', bench.now)
    bench.run(2)
    assert not held
    assert len(bench.a.all(IkeSaUp)) == 2
    assert len(sas_of(bench.a)) == 2


# --- the two at once ---------------------------------------------------------------------------


@pytest.mark.parametrize('seed', range(8))
def test_crossing_ike_sa_with_lowest_nonce_is_deleted(
    seed: int,
) -> None:
    bench = Bench(seed=seed)
    bench.a.endpoint.connect('b', bench.now)
    bench.b.endpoint.connect('a', bench.now)
    bench.run(1)
    assert len(sas_of(bench.a)) == len(sas_of(bench.b)) == 2
    loser, winner = sorted(sas_of(bench.a), key=lambda sa: min(sa.origin.ni, sa.origin.nr))
    bench.run(30)
    assert [sa.origin.spis for sa in sas_of(bench.a)] == [winner.origin.spis]
    assert [sa.origin.spis for sa in sas_of(bench.b)] == [winner.origin.spis]
    deleted_by = [
        name
        for name, node in bench.nodes.items()
        for m in node.all(IkeMessage)
        if m.sent and not m.response and 'D(IKE' in m.detail
    ]
    assert deleted_by == ['a' if loser.origin.initiator else 'b']
    assert not bench.a.all(IkeSaDown)
    assert not bench.b.all(IkeSaDown)


def test_crossing_ike_sas_both_serve() -> None:
    bench = Bench()
    bench.a.endpoint.request('b', rp_request(1), bench.now)
    bench.b.endpoint.request('a', rp_request(1), bench.now)
    bench.settle()
    assert bench.a.last(RpSaNegotiated)
    assert bench.b.last(RpSaNegotiated)


@pytest.mark.parametrize('seed', range(6))
def test_ike_sa_ends_here_when_peer_gives_it_up(seed: int) -> None:
    """B has seen that the winner lives, and leaves the loser to A: then A gives up the winner."""
    bench = Bench(seed=seed)
    bench.a.mkts = bench.b.mkts = True
    bench.a.endpoint.connect('b', bench.now)
    bench.b.endpoint.connect('a', bench.now)
    bench.run(1)
    timer = bench.a.endpoint._associations['b'].redundant._timer
    assert timer is not None
    timer.cancel()
    bench.run(4)
    winner = max(sas_of(bench.a), key=lambda sa: sa.origin.lowest_nonce)
    winner.close(Cause.NO_ANSWER, bench.now)
    bench.run(120)
    assert [sa.origin.spis for sa in sas_of(bench.a)] == [sa.origin.spis for sa in sas_of(bench.b)]


@pytest.mark.parametrize('seed', range(8))
def test_crossing_ike_sas_stay_while_one_is_in_use(seed: int) -> None:
    bench = Bench(seed=seed)
    bench.a.endpoint.connect('b', bench.now)
    bench.b.endpoint.connect('a', bench.now)
    bench.run(1)
    bench.a.obliging = bench.b.obliging = False
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(20)
    assert len(sas_of(bench.a)) == 2
    bench.b.accept(bench.b.last(RpSaRequested), bench.now)
    bench.run(20)
    assert bench.a.last(RpSaNegotiated)
    assert len(sas_of(bench.a)) == 1


def test_own_attempt_ends_when_peers_ike_sa_is_up() -> None:
    bench = Bench()

    def a_is_slow(datagram: Datagram) -> list[float]:
        return [5.0] if datagram is bench.wire[0] else deliver(datagram)

    bench.fate = a_is_slow
    bench.a.endpoint.connect('b', bench.now)
    bench.b.endpoint.connect('a', bench.now)
    bench.run(0.3)
    assert bench.a.last(IkeSaUp)
    bench.run(60)
    assert len(bench.a.all(IkeSaUp)) == 1
    assert not bench.a.all(IkeSaFailed)


# --- loss --------------------------------------------------------------------------------------


def test_lost_ike_auth_answer_is_repeated() -> None:
    bench = Bench()
    lost: list[Datagram] = []

    def lose_first(datagram: Datagram) -> list[float]:
        if is_kind(datagram, ExchangeType.IKE_AUTH, response=True) and not lost:
            lost.append(datagram)
            return []
        return deliver(datagram)

    bench.fate = lose_first
    bench.connect()
    assert bench.a.last(IkeSaUp)
    answers = [d for d in bench.wire if is_kind(d, ExchangeType.IKE_AUTH, response=True)]
    assert answers[0] == answers[1]
    assert len(bench.b.all(IkeSaUp)) == 1


def test_lost_refusal_is_repeated_when_ike_sa_is_gone() -> None:
    bench = Bench(b=peer_b(psk('wrong'), psk('wrong')))
    lost: list[Datagram] = []

    def lose_first(datagram: Datagram) -> list[float]:
        if is_kind(datagram, ExchangeType.IKE_AUTH, response=True) and not lost:
            lost.append(datagram)
            return []
        return deliver(datagram)

    bench.fate = lose_first
    bench.connect()
    bench.settle()
    assert bench.a.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED
    assert len(bench.b.all(IkeSaFailed)) == 1


def test_half_open_ike_sa_is_forgotten_when_initiator_is_silent() -> None:
    bench = Bench()
    bench.fate = lambda d: [] if is_kind(d, ExchangeType.IKE_AUTH, response=False) else [LATENCY]
    bench.a.endpoint.connect('b', bench.now)
    bench.run(31)
    assert not sas_of(bench.b)
    failed = bench.a.last(IkeSaFailed)
    assert (failed.step, failed.cause) == ('IKE_AUTH', Cause.NO_ANSWER)
    assert not bench.b.all(IkeSaFailed)


def test_ike_auth_may_come_from_another_port() -> None:
    """strongSwan sends IKE_AUTH from and to 4500 when MOBIKE is on."""
    bench = Bench()
    original = Bench.inject

    def inject(datagram: Datagram) -> None:
        if is_kind(datagram, ExchangeType.IKE_AUTH, response=False):
            datagram = replace(datagram, local_port=4500, remote_port=4500)
        elif datagram.remote == A_ADDRESS and datagram.remote_port == 4500:
            datagram = replace(datagram, local_port=500, remote_port=500)
        original(bench, datagram)

    bench.inject = inject  # type: ignore[method-assign]
    bench.connect()
    answer = next(d for d in bench.wire if is_kind(d, ExchangeType.IKE_AUTH, response=True))
    assert (answer.local_port, answer.remote_port) == (4500, 4500)
    assert bench.a.last(IkeSaUp)


def test_unknown_status_notify_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asking_with(
        monkeypatch,
        NotifyPayload(NotifyType.MOBIKE_SUPPORTED),
        NotifyPayload(40000, b'private'),
    )
    bench = Bench()
    bench.connect()
    assert bench.b.last(IkeSaUp)


# --- odd answers -------------------------------------------------------------------------------


def answering_with(monkeypatch: pytest.MonkeyPatch, *payloads: Payload) -> None:
    """Let every responder answer IKE_AUTH with just these."""

    def serve(sa: IkeSa, message: Message, now: float) -> None:
        sa.answer(payloads, now)

    monkeypatch.setattr('ikev2.endpoint.serve_ike_auth', serve)


def test_answer_without_proof_and_error_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    answering_with(monkeypatch)
    bench = Bench()
    bench.connect()
    assert bench.a.last(IkeSaFailed).cause == Cause.MALFORMED
    assert not sas_of(bench.a)


def test_failure_names_other_error_of_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering_with(monkeypatch, NotifyPayload(NotifyType.NO_ADDITIONAL_SAS))
    bench = Bench()
    bench.connect()
    failed = bench.a.last(IkeSaFailed)
    assert failed.cause == Cause.REFUSED
    assert 'NO_ADDITIONAL_SAS' in failed.text


def test_answer_with_critical_payload_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    answering_with(monkeypatch, UnknownPayload(200, b'', critical=True))
    bench = Bench()
    bench.connect()
    assert bench.a.last(IkeSaFailed).cause == Cause.MALFORMED


def test_initiator_is_refused_when_it_wants_eap(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7296, 2.16: it leaves AUTH out."""
    original = Authenticate.request

    def request(self: Authenticate, sa: IkeSa, now: float) -> list[Payload] | None:
        payloads = original(self, sa, now) or []
        return [p for p in payloads if not isinstance(p, AuthPayload)]

    monkeypatch.setattr(Authenticate, 'request', request)
    bench = Bench()
    bench.connect()
    failed = bench.b.last(IkeSaFailed)
    assert failed.cause == Cause.AUTHENTICATION_FAILED
    assert 'EAP' in failed.text


def test_signature_is_not_made_when_peer_cannot_check_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RFC 7427, 4: only with a hash that the peer announced."""
    sha256_only = NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, b'\0\2')
    monkeypatch.setattr('ikev2.exchanges.ike_init_responder.signature_hashes', lambda: sha256_only)
    a, b = key(), key()
    bench = Bench(b=peer_b(a, b.public_key), a=peer_a(b, a.public_key))
    bench.connect()
    failed = bench.a.last(IkeSaFailed)
    assert (failed.step, failed.cause) == ('IKE_AUTH', Cause.AUTHENTICATION_FAILED)
    assert "didn't announce" in failed.text
    assert not [d for d in bench.wire if is_kind(d, ExchangeType.IKE_AUTH, response=False)]


def test_ike_sas_with_one_peer_are_limited() -> None:
    bench = Bench(limits=Limits(established_most=3))
    bench.a.mkts = bench.b.mkts = True
    for _ in range(6):
        bench.a.endpoint.replace_ike_sa('b', bench.now)
        bench.settle()
    assert len(sas_of(bench.b)) == 3
    assert sas_of(bench.a)[0].origin.spis in [sa.origin.spis for sa in sas_of(bench.b)]

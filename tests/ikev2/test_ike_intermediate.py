"""Additional key exchanges before IKE_AUTH: RFC 9242; RFC 9370, 2.2.1 to 2.2.3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ikev2.constants import ExchangeType, KeyExchangeId, NotifyType, TransformType
from ikev2.crypto.cipher import AES_256_CBC_HMAC_SHA2_256_128
from ikev2.crypto.keys import skeyseed_rekey
from ikev2.events import Cause, Datagram, IkeMessage, IkeSaFailed, IkeSaUp, RpSaNegotiated
from ikev2.exchanges.ike_auth import Authenticate
from ikev2.exchanges.ike_intermediate import Intermediate
from ikev2.peer import Peer
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.policies import POLICIES
from ikev2.sa import protection
from ikev2.sa.ike_sa import IkeSa
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import KeyExchangePayload, NotifyPayload
from ikev2.wire.payloads_sa import Transform
from keymaterial import Secret
from tests.ikev2.bench import (
    LATENCY,
    Bench,
    altered,
    header_of,
    is_kind,
    peer_a,
    peer_b,
    rp_request,
    sas_of,
    say,
)

K768, K1024 = KeyExchangeId.ML_KEM_768, KeyExchangeId.ML_KEM_1024
INTERMEDIATE = ExchangeType.IKE_INTERMEDIATE
CBC = IkePolicy(
    encryptions=(AES_256_CBC_HMAC_SHA2_256_128,), additional=(K1024,), additional_required=True
)
"""Keys of integrity of their own, and IKE_INTERMEDIATE in two fragments."""


def with_policy(peer: Peer, policy: str | IkePolicy) -> Peer:
    return replace(peer, policy=POLICIES[policy] if isinstance(policy, str) else policy)


def bench(a: str | IkePolicy = 'hybrid', b: str | IkePolicy = 'hybrid', *, seed: int = 1) -> Bench:
    """`a` is A's policy for B."""
    return Bench(b=with_policy(peer_b(), a), a=with_policy(peer_a(), b), seed=seed)


def connected(a: str | IkePolicy = 'hybrid', b: str | IkePolicy = 'hybrid') -> Bench:
    made = bench(a, b)
    made.connect()
    return made


def exchanges(made: Bench) -> list[str]:
    """Return the exchanges of A, sent and received."""
    return [message.exchange for message in made.a.all(IkeMessage)]


def suite_of(made: Bench) -> str:
    assert made.a.last(IkeSaUp).suite == made.b.last(IkeSaUp).suite
    return made.a.last(IkeSaUp).suite


@pytest.mark.parametrize(
    ('a', 'b', 'suite'),
    [
        ('hybrid', 'hybrid', 'aes-256-gcm-16/hmac-sha2-256/curve25519+ml-kem-768'),
        ('hybrid-optional', 'hybrid', 'aes-256-gcm-16/hmac-sha2-256/curve25519+ml-kem-768'),
        ('hybrid', 'hybrid-optional', 'aes-256-gcm-16/hmac-sha2-256/curve25519+ml-kem-768'),
        ('cnsa-2', 'cnsa-2', 'aes-256-gcm-16/hmac-sha2-384/ecp-384+ml-kem-1024'),
        (CBC, CBC, 'aes-256-cbc-hmac-sha2-256-128/hmac-sha2-256/curve25519+ml-kem-1024'),
    ],
)
def test_additional_exchange_precedes_ike_auth(
    a: str | IkePolicy, b: str | IkePolicy, suite: str
) -> None:
    made = connected(a, b)
    assert suite_of(made) == suite
    assert exchanges(made) == [
        'IKE_SA_INIT',
        'IKE_SA_INIT',
        'IKE_INTERMEDIATE',
        'IKE_INTERMEDIATE',
        'IKE_AUTH',
        'IKE_AUTH',
    ]
    assert sas_of(made.a)[0].keys.sk_d == sas_of(made.b)[0].keys.sk_d


@pytest.mark.parametrize(
    ('a', 'b'), [('hybrid-optional', 'default'), ('default', 'hybrid-optional')]
)
def test_handshake_succeeds_without_preferred_exchange(a: str, b: str) -> None:
    made = connected(a, b)
    assert suite_of(made) == 'aes-256-gcm-16/hmac-sha2-256/curve25519'
    assert 'IKE_INTERMEDIATE' not in exchanges(made)


@pytest.mark.parametrize(('a', 'b'), [('hybrid', 'default'), ('default', 'hybrid')])
def test_handshake_fails_without_required_exchange(a: str, b: str) -> None:
    made = connected(a, b)
    made.run(60)
    assert made.a.last(IkeSaFailed).cause == Cause.NO_PROPOSAL_CHOSEN
    assert not made.b.all(IkeSaUp)


def test_exchange_is_not_offered_when_peer_lacks_intermediate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # RFC 9370, 2.2.1: without the notify there is no ADDKE.
    monkeypatch.setattr('ikev2.exchanges.ike_init_responder.intermediate', lambda message: False)
    assert suite_of(connected('hybrid-optional', 'hybrid-optional')).endswith('/curve25519')
    made = connected('hybrid', 'hybrid')
    made.run(60)
    assert made.a.last(IkeSaFailed).cause == Cause.NO_PROPOSAL_CHOSEN


def test_answer_is_dropped_when_exchange_lacks_its_notify(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('ikev2.exchanges.ike_init_initiator.intermediate', lambda message: False)
    made = connected()
    assert not made.a.all(IkeSaUp)
    assert made.a.endpoint.snapshot().peer('b').counters.malformed


def test_intermediate_notify_is_sent_only_where_useful() -> None:
    def announced(made: Bench) -> list[bool]:
        return [
            'INTERMEDIATE_EXCHANGE_SUPPORTED' in m.detail
            for m in made.a.all(IkeMessage)
            if m.exchange == 'IKE_SA_INIT'
        ]

    assert announced(connected()) == [True, True]
    assert announced(connected('hybrid-optional', 'default')) == [True, False]
    assert announced(connected('default', 'default')) == [False, False]


def test_every_secret_changes_all_keys() -> None:
    # RFC 9370, 2.2.2: SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr).
    made = bench()
    seeds: list[tuple[bytes, bytes]] = []

    def spy(prf: int, sk_d: Secret, shared: Secret, ni: bytes, nr: bytes) -> Secret:
        seeds.append((sk_d.reveal(), shared.reveal()))
        return skeyseed_rekey(prf, sk_d, shared, ni, nr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('ikev2.exchanges.ike_intermediate.skeyseed_rekey', spy)
        made.a.endpoint.connect('b', made.now)
        while not sas_of(made.a):
            made.step()
        before = sas_of(made.a)[0].keys
        made.settle()
    after = sas_of(made.a)[0].keys
    assert seeds[0] == seeds[1]  # both sides
    assert before.sk_d.wiped
    assert before.sk_ei.wiped
    assert not after.sk_d.wiped


def test_several_additional_exchanges_take_place() -> None:
    # Ours offers one type only, but a peer may offer more (RFC 9370, 2.2.1).
    two = TwoTypes(additional=(K768, K1024), additional_required=True)
    made = connected(two, 'hybrid')
    assert suite_of(made).endswith('curve25519+ml-kem-768+ml-kem-1024')
    assert exchanges(made).count('IKE_INTERMEDIATE') == 4
    assert sas_of(made.a)[0].keys.sk_d == sas_of(made.b)[0].keys.sk_d


class TwoTypes(IkePolicy):
    """Offers ADDKE2 and ADDKE5, and insists on both."""

    @property
    def offered_additional(self) -> tuple[tuple[Transform, ...], ...]:
        return ((Transform(TransformType.ADDKE2, K768), Transform(TransformType.ADDKE5, K1024)),)


def test_long_intermediate_messages_are_fragmented() -> None:
    # RFC 9242, 1: that is what the exchange is for.
    made = connected('cnsa-2', 'cnsa-2')
    assert suite_of(made)
    longest = [len(d.data) for d in made.wire if header_of(d).exchange_type == INTERMEDIATE]
    assert len(longest) == 4  # two each way
    assert max(longest) <= 1252


def test_intermediate_is_whole_when_peer_takes_no_fragments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for role in ('initiator', 'responder'):
        monkeypatch.setattr(f'ikev2.exchanges.ike_init_{role}.fragments', lambda message: False)
    made = connected('cnsa-2', 'cnsa-2')
    assert suite_of(made)
    sent = [d for d in made.wire if header_of(d).exchange_type == INTERMEDIATE]
    assert len(sent) == 2


# --- authentication ------------------------------------------------------------------------------


@pytest.mark.parametrize('response', [False, True])
def test_auth_covers_intermediate_exchanges(
    monkeypatch: pytest.MonkeyPatch, response: bool
) -> None:
    # RFC 9242, 3.3.2: an IntAuth that differs breaks AUTH. Here one side counts another message.
    original = protection._message

    def other(header: Header, first: int, content: bytes, associated: bytes) -> Message:
        message = original(header, first, content, associated)
        if header.exchange_type == INTERMEDIATE and header.response == response:
            return replace(message, clear=message.clear + b'!')
        return message

    monkeypatch.setattr(protection, '_message', other)
    made = connected()
    made.run(60)
    assert made.a.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED
    assert not made.b.all(IkeSaUp)


def test_ike_auth_is_refused_before_the_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 9370, 2.2.2: all of them first. A proof without one is under other keys.
    monkeypatch.setattr(Intermediate, 'request', lambda self, sa, now: None)
    made = connected()
    assert 'IKE_AUTH before the additional key exchanges' in made.b.last(IkeSaFailed).text
    assert not sas_of(made.b)
    assert made.a.last(IkeSaFailed).cause == Cause.REFUSED


def asking(monkeypatch: pytest.MonkeyPatch, payloads: Sequence[Payload]) -> Bench:
    """A sends something else in IKE_INTERMEDIATE."""
    original = Intermediate.request

    def request(self: Intermediate, sa: IkeSa, now: float) -> Sequence[Payload]:
        original(self, sa, now)
        return payloads

    monkeypatch.setattr(Intermediate, 'request', request)
    made = connected()
    made.run(60)
    return made


@pytest.mark.parametrize(
    'payloads',
    [
        [],
        [NotifyPayload(40_000)],
        [KeyExchangePayload(K1024, bytes(1568))],
        [KeyExchangePayload(K768, bytes(1183))],
        [KeyExchangePayload(K768, b'\xff' * 1184)],
        [KeyExchangePayload(31, bytes(32))],
        [KeyExchangePayload(K768, bytes(1184))] * 2,
    ],
)
def test_ike_sa_ends_when_intermediate_request_is_malformed(
    monkeypatch: pytest.MonkeyPatch, payloads: list[Payload]
) -> None:
    made = asking(monkeypatch, payloads)
    assert not made.b.all(IkeSaUp)
    assert not sas_of(made.b)
    failed = made.a.last(IkeSaFailed)
    assert (failed.cause, failed.text) == (Cause.REFUSED, 'the peer answered INVALID_SYNTAX')
    assert made.b.last(IkeSaFailed).cause == Cause.MALFORMED


@pytest.mark.parametrize(
    ('payloads', 'cause'),
    [
        ([], Cause.MALFORMED),
        ([NotifyPayload(40_000)], Cause.MALFORMED),
        ([KeyExchangePayload(K1024, bytes(1568))], Cause.MALFORMED),
        ([KeyExchangePayload(K768, bytes(1087))], Cause.MALFORMED),
        ([NotifyPayload(NotifyType.TEMPORARY_FAILURE)], Cause.REFUSED),
    ],
)
def test_ike_sa_ends_when_intermediate_answer_is_malformed(
    monkeypatch: pytest.MonkeyPatch, payloads: list[Payload], cause: Cause
) -> None:
    original = IkeSa.answer

    def answer(self: IkeSa, real: Sequence[Payload], now: float) -> None:
        kind = self._request[0].exchange_type if self._request else 0
        original(self, payloads if kind == INTERMEDIATE else real, now)

    monkeypatch.setattr(IkeSa, 'answer', answer)
    made = connected()
    made.run(60)
    assert made.a.last(IkeSaFailed).cause == cause
    assert not made.a.all(IkeSaUp)
    assert not made.b.all(IkeSaUp)


def test_keys_differ_when_ciphertext_is_forged() -> None:
    # ML-KEM's implicit rejection: the next message doesn't open (and it couldn't have been
    # forged before: it was under SK_er).
    made = bench()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'ikev2.exchanges.ike_intermediate.respond',
            lambda group, value: (bytes(1088), Secret(bytes(32))),
        )
        made.connect()
    made.run(60)
    assert not made.a.all(IkeSaUp)
    assert not made.b.all(IkeSaUp)
    assert made.b.endpoint.snapshot().peer('a').counters.not_authentic


def test_exchange_is_refused_when_not_negotiated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Authenticate, 'exchange_type', INTERMEDIATE)
    made = connected('default', 'default')
    assert made.b.last(IkeSaFailed).text == 'IKE_INTERMEDIATE where none was negotiated'
    assert not sas_of(made.b)


def test_exchange_is_refused_without_handshake() -> None:
    made = connected('default', 'default')
    asked = say(made, made.a, INTERMEDIATE, [KeyExchangePayload(K768, bytes(1184))])
    assert asked.notifies() == [NotifyType.INVALID_SYNTAX]


# --- networks with faults ------------------------------------------------------------------------


@pytest.mark.parametrize('seed', range(6))
def test_handshake_survives_loss_duplication_and_reordering(seed: int) -> None:
    made = bench(seed=seed)

    def fate(datagram: Datagram) -> list[float]:
        if made.random.random() < 0.3:
            return []
        copies = 2 if made.random.random() < 0.3 else 1
        return [LATENCY * (1 + 40 * made.random.random()) for _ in range(copies)]

    made.fate = fate
    made.a.endpoint.connect('b', made.now)
    made.run(120)
    if made.a.all(IkeSaUp) and made.b.all(IkeSaUp):
        made.fate = lambda datagram: [LATENCY]
        a, b = [{sa.origin.spis: sa for sa in sas_of(n) if sa.finished} for n in (made.a, made.b)]
        for spis in a.keys() & b.keys():
            assert a[spis].keys.sk_d == b[spis].keys.sk_d
    else:
        assert made.a.all(IkeSaFailed) or not made.a.all(IkeSaUp)


@pytest.mark.parametrize('policy', ['cnsa-2', CBC], ids=['aead', 'cbc'])
def test_fragmented_request_is_answered_again_after_key_change(
    policy: str | IkePolicy,
) -> None:
    # RFC 7383, 2.6.1, and RFC 9370, 2.2.2: the repetition is under the keys from before.
    made = bench(policy, policy)
    first: list[Datagram] = []
    answers: list[Datagram] = []

    def fate(datagram: Datagram) -> list[float]:
        if is_kind(datagram, INTERMEDIATE, response=False):
            first.append(datagram)
        if is_kind(datagram, INTERMEDIATE, response=True):
            answers.append(datagram)
            return []
        return [LATENCY]

    made.fate = fate
    made.a.endpoint.connect('b', made.now)
    made.run(0.2)
    sent = len(answers)
    assert sent == 2
    made.inject(first[1])
    assert len(answers) == sent  # only the first fragment asks again
    made.inject(first[0])
    assert len(answers) == 2 * sent
    assert [a.data for a in answers[:2]] == [a.data for a in answers[2:]]
    broken = altered(first[0], first[0].data[:-1] + bytes([first[0].data[-1] ^ 1]))
    made.inject(broken)
    assert len(answers) == 2 * sent
    made.fate = lambda datagram: [LATENCY]
    made.run(10)
    assert made.a.last(IkeSaUp)
    assert made.b.last(IkeSaUp)


def test_child_is_made_under_hybrid_ike_sa() -> None:
    made = connected('hybrid-optional', 'hybrid-optional')
    made.negotiate(rp_request())
    assert made.a.last(RpSaNegotiated).keys.master_key == made.b.accepted[0].master_key

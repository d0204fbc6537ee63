"""Additional key exchanges after a CREATE_CHILD_SA: RFC 9370, 2.2.4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from ikev2.constants import ExchangeType, KeyExchangeId, NotifyType
from ikev2.crypto.keys import child_keymat, skeyseed_rekey
from ikev2.errors import LocalError
from ikev2.events import (
    Cause,
    Datagram,
    IkeMessage,
    IkeSaDown,
    IkeSaUp,
    RpSaAbandoned,
    RpSaFailed,
    RpSaNegotiated,
    RpSaPrepared,
    RpSaRequested,
)
from ikev2.exchanges.follow_up import FollowUp
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.policies import POLICIES
from ikev2.sa.expected import Expected
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.transitions import State
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import KeyExchangePayload, NoncePayload, NotifyPayload
from keymaterial import Secret
from tests.ikev2.bench import (
    A_ADDRESS,
    B_ADDRESS,
    LATENCY,
    Bench,
    header_of,
    is_kind,
    peer_a,
    peer_b,
    rp_request,
    sas_of,
    say,
)
from tests.ikev2.test_ike_intermediate import TwoTypes

K768, K1024 = KeyExchangeId.ML_KEM_768, KeyExchangeId.ML_KEM_1024
FOLLOW_UP, INFORMATIONAL = ExchangeType.IKE_FOLLOWUP_KE, ExchangeType.INFORMATIONAL
HYBRID, OPTIONAL = POLICIES['hybrid'], POLICIES['hybrid-optional']
TWO = TwoTypes(additional=(K768, K1024), additional_required=True)


def up(a: IkePolicy = HYBRID, b: IkePolicy = HYBRID, *, seed: int = 1) -> Bench:
    """`a` is A's policy."""
    bench = Bench(b=replace(peer_b(), policy=a), a=replace(peer_a(), policy=b), seed=seed)
    bench.connect()
    assert bench.a.last(IkeSaUp)
    return bench


def details(bench: Bench, exchange: str) -> list[str]:
    return [m.detail for m in bench.a.all(IkeMessage) if m.exchange == exchange]


def finished(bench: Bench) -> tuple[list[IkeSa], list[IkeSa]]:
    a, b = (
        [sa for sa in sas_of(node) if sa.state == State.ESTABLISHED] for node in (bench.a, bench.b)
    )
    return a, b


# --- routing-protocol SAs ------------------------------------------------------------------------


@pytest.mark.parametrize('policy', [HYBRID, OPTIONAL])
def test_rp_sa_is_made_with_additional_key_exchange(policy: IkePolicy) -> None:
    bench = up(policy)
    bench.negotiate()
    assert bench.a.last(RpSaNegotiated).keys.master_key == bench.b.accepted[0].master_key
    assert details(bench, 'CREATE_CHILD_SA')[1].endswith('N(ADDITIONAL_KEY_EXCHANGE)')
    # The link goes back, and the last answer has none.
    assert details(bench, 'IKE_FOLLOWUP_KE') == ['KE, N(ADDITIONAL_KEY_EXCHANGE)', 'KE']


def test_rp_sa_is_made_with_two_additional_key_exchanges() -> None:
    bench = up(TWO)
    bench.negotiate()
    assert bench.a.last(RpSaNegotiated).keys.master_key == bench.b.accepted[0].master_key
    assert details(bench, 'IKE_FOLLOWUP_KE') == [
        'KE, N(ADDITIONAL_KEY_EXCHANGE)',
        'KE, N(ADDITIONAL_KEY_EXCHANGE)',
        'KE, N(ADDITIONAL_KEY_EXCHANGE)',
        'KE',
    ]


def test_rp_sa_is_made_without_when_peer_lacks_them() -> None:
    bench = up(OPTIONAL, IkePolicy())
    bench.negotiate()
    assert bench.a.last(RpSaNegotiated)
    assert not details(bench, 'IKE_FOLLOWUP_KE')


def test_keymat_has_all_secrets_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 9370, 2.2.4: KEYMAT = prf+ (SK_d, SK(0) | Ni | Nr | SK(1) | ... | SK(n)).
    seen: list[list[bytes]] = []

    def spy(
        prf: int,
        sk_d: Secret,
        ni: bytes,
        nr: bytes,
        length: int,
        shared: Secret | None = None,
        additional: Sequence[Secret] = (),
    ) -> Secret:
        assert shared
        seen.append([sk_d.reveal(), shared.reveal(), *(one.reveal() for one in additional)])
        return child_keymat(prf, sk_d, ni, nr, length, shared, additional)

    for module in ('rp_initiator', 'rp_pending'):
        monkeypatch.setattr(f'ikev2.exchanges.{module}.child_keymat', spy)
    up(TWO).negotiate()
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4
    assert len(set(seen[0])) == 4


def waiting(policy: IkePolicy = HYBRID) -> tuple[Bench, int]:
    """B has answered CREATE_CHILD_SA and waits for A, whose next request is lost."""
    bench = up(policy)
    bench.b.obliging = False
    bench.fate = lambda d: [] if is_kind(d, FOLLOW_UP, response=False) else [LATENCY]
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(0.1)
    token = bench.b.last(RpSaRequested).token
    assert bench.b.endpoint.prepare(token, 'hmac-sha-1-96', True, 5, 60, bench.now) is None
    bench.run(0.1)
    return bench, token


def test_answer_waits_for_user_when_keys_come_in_event() -> None:
    bench, token = waiting()
    bench.fate = lambda d: [LATENCY]
    with pytest.raises(LocalError, match='prepared already'):
        bench.b.endpoint.prepare(token, 'hmac-sha-1-96', True, 5, 60, bench.now)
    with pytest.raises(LocalError, match='answer before prepare'):
        bench.b.endpoint.answer(token, bench.now)
    bench.run(2)
    prepared = bench.b.last(RpSaPrepared)
    assert (prepared.token, prepared.peer) == (token, 'a')
    assert not bench.a.all(RpSaNegotiated)
    bench.b.endpoint.answer(token, bench.now)
    bench.settle()
    assert bench.a.last(RpSaNegotiated).keys.master_key == prepared.keys.master_key
    assert prepared.keys.send_id == bench.a.last(RpSaNegotiated).keys.recv_id == 5
    with pytest.raises(LocalError, match='not the token'):
        bench.b.endpoint.answer(token, bench.now)


def test_user_may_refuse_when_keys_are_prepared() -> None:
    bench, token = waiting()
    bench.fate = lambda d: [LATENCY]
    bench.run(2)
    bench.b.last(RpSaPrepared)
    bench.b.endpoint.refuse(token, NotifyType.TEMPORARY_FAILURE, b'', bench.now)
    bench.settle()
    failed = bench.a.last(RpSaFailed)
    assert (failed.cause, failed.notify) == (Cause.REFUSED, NotifyType.TEMPORARY_FAILURE)
    assert 'TEMPORARY_FAILURE to an additional key exchange' in failed.text
    assert not bench.b.all(RpSaAbandoned)


def test_user_may_refuse_while_peer_continues() -> None:
    bench, token = waiting()
    bench.b.endpoint.refuse(token, NotifyType.TEMPORARY_FAILURE, b'', bench.now)
    bench.fate = lambda d: [LATENCY]
    bench.run(60)
    assert bench.a.last(RpSaFailed).notify == NotifyType.STATE_NOT_FOUND
    assert not bench.b.all(RpSaPrepared)
    assert not bench.b.all(RpSaAbandoned)
    assert bench.a.last(IkeSaUp)
    assert not bench.a.all(IkeSaDown)


def test_request_is_abandoned_when_peer_never_continues() -> None:
    # RFC 9370, 2.2.4: "5-20 seconds".
    bench, token = waiting()
    bench.run(18)
    assert not bench.b.all(RpSaAbandoned)
    bench.run(5)
    assert bench.b.last(RpSaAbandoned).token == token
    (sa,) = sas_of(bench.b)
    assert not sa.expected
    with pytest.raises(LocalError):
        bench.b.endpoint.refuse(token, NotifyType.TEMPORARY_FAILURE, b'', bench.now)


def test_request_is_abandoned_when_peer_is_changed() -> None:
    """While its old IKE SA waits for an answer before it can be deleted."""
    bench, token = waiting()
    bench.fate = lambda d: [] if is_kind(d, INFORMATIONAL, response=True) else [LATENCY]
    bench.b.endpoint.check_liveness('a', bench.now)
    bench.b.endpoint.set_peer(replace(peer_a(), policy=HYBRID, ike_lifetime=600), bench.now)
    bench.run(2)
    assert bench.b.last(RpSaAbandoned).token == token
    assert not bench.b.all(RpSaPrepared)
    assert bench.a.last(RpSaFailed).notify == NotifyType.TEMPORARY_FAILURE
    with pytest.raises(LocalError):
        bench.b.endpoint.answer(token, bench.now)


def test_request_is_abandoned_when_ike_sa_ends() -> None:
    bench, token = waiting()
    bench.b.endpoint.replace_ike_sa('a', bench.now)
    bench.run(30)
    assert bench.b.last(RpSaAbandoned).token == token


def test_request_ends_with_delete_when_cancelled_meanwhile() -> None:
    bench, _ = waiting()
    number = bench.a.endpoint.request('b', rp_request(2), bench.now)
    bench.fate = lambda d: [LATENCY]
    first = min(n for n in range(number) if n)
    for candidate in range(first, number):
        bench.a.endpoint.cancel('b', candidate, bench.now)
    bench.b.obliging = True
    bench.run(30)
    assert bench.a.all(RpSaFailed)[0].cause == Cause.CANCELLED
    assert 'D(TCP_AO 01)' in ' '.join(details(bench, 'INFORMATIONAL'))
    assert bench.a.last(RpSaNegotiated).exchange == number


def test_request_fails_when_ike_sa_ends() -> None:
    bench, _ = waiting()
    bench.a.endpoint.replace_ike_sa('b', bench.now)
    bench.run(0.1)
    assert bench.a.last(RpSaFailed).cause == Cause.IKE_SA_LOST


# --- what a peer may do wrong --------------------------------------------------------------------


def test_unknown_link_is_answered_with_state_not_found() -> None:
    bench = up()
    for link in ([], [NotifyPayload(NotifyType.ADDITIONAL_KEY_EXCHANGE, b'nothing')]):
        payloads: list[Payload] = [KeyExchangePayload(K768, bytes(1184)), *link]
        asked = say(bench, bench.a, FOLLOW_UP, payloads)
        assert asked.notifies() == [NotifyType.STATE_NOT_FOUND]
    assert finished(bench)[0]


def test_link_is_good_once() -> None:
    bench = up()
    bench.negotiate()
    (sa,) = sas_of(bench.b)
    assert not sa.expected


@pytest.mark.parametrize(
    'ke',
    [
        [],
        [KeyExchangePayload(K1024, bytes(1568))],
        [KeyExchangePayload(K768, bytes(1183))],
        [KeyExchangePayload(K768, b'\xff' * 1184)],
    ],
)
def test_ike_sa_ends_when_follow_up_request_is_malformed(
    monkeypatch: pytest.MonkeyPatch, ke: list[Payload]
) -> None:
    original = FollowUp.request

    def request(self: FollowUp, sa: IkeSa, now: float) -> Sequence[Payload]:
        real = original(self, sa, now) or ()
        return [*ke, *(p for p in real if isinstance(p, NotifyPayload))]

    monkeypatch.setattr(FollowUp, 'request', request)
    bench = up()
    bench.negotiate()
    assert bench.b.last(IkeSaDown).cause == Cause.MALFORMED
    assert bench.a.last(RpSaFailed)
    # A caller that was told to wait for keys is told that there will be none.
    assert bench.b.last(RpSaAbandoned).token == bench.b.last(RpSaRequested).token


@pytest.mark.parametrize(
    ('answer', 'cause'),
    [
        ([], Cause.MALFORMED),
        ([KeyExchangePayload(K1024, bytes(1568))], Cause.MALFORMED),
        ([KeyExchangePayload(K768, bytes(1087))], Cause.MALFORMED),
        ([NotifyPayload(NotifyType.STATE_NOT_FOUND)], Cause.REFUSED),
        ([NotifyPayload(40_000)], Cause.MALFORMED),
    ],
)
def test_request_fails_when_follow_up_answer_is_malformed(
    monkeypatch: pytest.MonkeyPatch, answer: list[Payload], cause: Cause
) -> None:
    swap(monkeypatch, FOLLOW_UP, answer)
    bench = up()
    bench.negotiate()
    assert bench.a.last(RpSaFailed).cause == cause
    assert not bench.a.all(RpSaNegotiated)
    assert finished(bench)[0]


def swap(
    monkeypatch: pytest.MonkeyPatch, kind: ExchangeType, answer: Sequence[Payload] | None
) -> None:
    """Answer something else; None: the true answer without its link."""
    original = IkeSa.answer

    def changed(self: IkeSa, real: Sequence[Payload], now: float) -> None:
        asked = self._request[0].exchange_type if self._request else 0
        if asked == kind and answer is None:
            real = [p for p in real if not isinstance(p, NotifyPayload)]
        elif asked == kind and answer is not None:
            real = answer
        original(self, real, now)

    monkeypatch.setattr(IkeSa, 'answer', changed)


@pytest.mark.parametrize('kind', [ExchangeType.CREATE_CHILD_SA, FOLLOW_UP])
def test_answer_is_malformed_without_link_to_next(
    monkeypatch: pytest.MonkeyPatch, kind: ExchangeType
) -> None:
    bench = up(TWO)
    swap(monkeypatch, kind, None)
    bench.negotiate()
    failed = bench.a.last(RpSaFailed)
    assert failed.cause == Cause.MALFORMED
    if kind == FOLLOW_UP:
        assert 'no link to the next one' in failed.text


def _note(into: list[int], index: int, now: float) -> None:
    into.append(index)


def test_pending_follow_ups_are_limited() -> None:
    bench = up()
    bench.b.obliging = False
    bench.fate = lambda d: [] if is_kind(d, FOLLOW_UP, response=False) else [LATENCY]
    (sa,) = sas_of(bench.b)
    limit = bench.b.endpoint._context.limits.follow_ups_most
    given_up: list[int] = []
    for index in range(limit):
        sa.expected[bytes([index])] = Expected(
            (K768,), lambda *_: None, partial(_note, given_up, index)
        )
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.run(0.1)
    # The oldest gives way: they are all the peer's own.
    assert given_up == [0]
    assert len(sa.expected) == limit


# --- the IKE SA itself ---------------------------------------------------------------------------


@pytest.mark.parametrize('policy', [HYBRID, TWO])
@pytest.mark.parametrize('by', ['a', 'b'])
def test_ike_sa_is_rekeyed_with_additional_key_exchanges(policy: IkePolicy, by: str) -> None:
    bench = up(policy, policy)
    before = sas_of(bench.a)[0].origin.spis
    node, peer = (bench.a, 'b') if by == 'a' else (bench.b, 'a')
    node.endpoint.rekey_ike_sa(peer, bench.now)
    bench.settle()
    (a,), (b,) = finished(bench)
    assert a.origin.spis == b.origin.spis != before
    assert a.keys.sk_d == b.keys.sk_d
    assert len(a.origin.suite.additional) == (2 if policy is TWO else 1)
    bench.negotiate()
    assert bench.a.last(RpSaNegotiated)


@pytest.mark.parametrize('seconds', [0.0, 0.015, 0.025, 0.035, 0.045, 0.055])
@pytest.mark.parametrize('by', ['a', 'b'])
def test_rekey_leaves_no_successor_when_peer_is_removed(seconds: float, by: str) -> None:
    bench = up(TWO, TWO)
    node, peer = (bench.a, 'b') if by == 'a' else (bench.b, 'a')
    node.endpoint.rekey_ike_sa(peer, bench.now)
    bench.run(seconds)
    bench.a.endpoint.remove_peer('b', bench.now)
    bench.run(5)
    assert finished(bench) == ([], [])


def test_skeyseed_of_rekey_has_all_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 9370, 2.2.4: SKEYSEED = prf(SK_d, SK(0) | Ni | Nr | SK(1) | ... | SK(n)).
    seen: list[list[bytes]] = []

    def spy(
        prf: int,
        sk_d: Secret,
        shared: Secret,
        ni: bytes,
        nr: bytes,
        additional: Sequence[Secret] = (),
    ) -> Secret:
        seen.append([sk_d.reveal(), shared.reveal(), *(one.reveal() for one in additional)])
        return skeyseed_rekey(prf, sk_d, shared, ni, nr, additional)

    bench = up(TWO, TWO)
    monkeypatch.setattr('ikev2.exchanges.ike_rekey.skeyseed_rekey', spy)
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.settle()
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 4


def test_rekey_is_retried_when_refused_half_way() -> None:
    bench = up()
    before = sas_of(bench.a)[0].origin.spis
    with pytest.MonkeyPatch.context() as patch:
        swap(patch, FOLLOW_UP, [NotifyPayload(NotifyType.STATE_NOT_FOUND)])
        patch.setattr(
            'ikev2.exchanges.ike_rekey._take_over', lambda sa, *args: sa.answer([], args[-1])
        )
        bench.a.endpoint.rekey_ike_sa('b', bench.now)
        bench.settle()
        (sa,) = sas_of(bench.a)
        assert sa.state == State.ESTABLISHED
        assert sa.origin.spis == before
    bench.run(30)
    assert finished(bench)[0][0].origin.spis != before
    assert not bench.a.all(IkeSaDown)


def test_rekey_begins_anew_when_answer_is_malformed() -> None:
    bench = up()
    with pytest.MonkeyPatch.context() as patch:
        swap(patch, FOLLOW_UP, [])
        bench.a.endpoint.rekey_ike_sa('b', bench.now)
        bench.settle()
    assert not sas_of(bench.a)
    bench.connect()
    a, b = finished(bench)
    assert len(a) == 1
    assert [sa.origin.spis for sa in a] == [sa.origin.spis for sa in b]


def test_ike_sa_stays_up_when_rekey_is_never_finished() -> None:
    bench = up()
    (sa,) = sas_of(bench.b)
    lost = True

    def fate(datagram: Datagram) -> list[float]:
        return [] if lost and is_kind(datagram, FOLLOW_UP, response=False) else [LATENCY]

    bench.fate = fate
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.run(0.5)
    assert len(sa.expected) == 1
    bench.run(22)
    assert not sa.expected
    assert sa.state == State.ESTABLISHED
    lost = False
    bench.run(2)
    # A finds that B has forgotten it, and tries again.
    bench.run(30)
    a, b = finished(bench)
    assert [one.origin.spis for one in a] == [one.origin.spis for one in b]
    assert a[0].origin.spis != sa.origin.spis


def test_both_sides_may_rekey_at_once() -> None:
    for seed in range(4):
        bench = up(seed=seed)
        bench.a.endpoint.rekey_ike_sa('b', bench.now)
        bench.b.endpoint.rekey_ike_sa('a', bench.now)
        bench.run(60)
        a, b = finished(bench)
        assert [sa.origin.spis for sa in a] == [sa.origin.spis for sa in b]
        assert len(a) == 1
        bench.negotiate()
        assert bench.a.last(RpSaNegotiated)


def lowest_nonces(bench: Bench) -> tuple[bytes, bytes]:
    """Return the lowest nonces of the CREATE_CHILD_SA that A began and of the one that B began."""
    messages = [m for m in bench.a.all(IkeMessage) if m.exchange == 'CREATE_CHILD_SA']
    by_a, by_b = (
        [
            p.data
            for m in messages
            if (m.sent != m.response) == ours
            for p in m.payloads
            if isinstance(p, NoncePayload)
        ]
        for ours in (True, False)
    )
    assert (len(by_a), len(by_b)) == (2, 2)
    return min(by_a), min(by_b)


@pytest.mark.parametrize('pause', [0.0, 0.05])
@pytest.mark.parametrize('seed', range(6))
def test_rekey_with_lowest_nonce_stops_when_both_rekey(seed: int, pause: float) -> None:
    """RFC 9370, 2.2.4. After a pause B has answered A's request before it asks itself."""
    bench = up(TWO, TWO, seed=seed)
    bench.fate = lambda d: [0.1 if header_of(d).response else LATENCY]
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.run(pause)
    bench.b.endpoint.rekey_ike_sa('a', bench.now)
    bench.run(5)
    by_a, by_b = lowest_nonces(bench)
    asked = {d.local for d in bench.wire if is_kind(d, FOLLOW_UP, response=False)}
    assert asked == {A_ADDRESS if by_a > by_b else B_ADDRESS}
    bench.run(60)
    (a,), (b,) = finished(bench)
    assert a.origin.spis == b.origin.spis
    assert a.origin.lowest_nonce == max(by_a, by_b)
    assert a.origin.initiator == (by_a > by_b)
    assert not bench.a.all(IkeSaDown)
    assert not bench.b.all(IkeSaDown)


def test_rekey_stops_when_answer_comes_after_successor() -> None:
    """RFC 9370, 2.2.4: the peer's is done before we learn what it answered to ours."""
    for seed in range(6):
        bench = up(seed=seed)

        def fate(datagram: Datagram) -> list[float]:
            late = is_kind(datagram, ExchangeType.CREATE_CHILD_SA, response=True)
            if datagram.local == B_ADDRESS and late:
                return [0.3]
            return [1.0] if is_kind(datagram, INFORMATIONAL, response=False) else [LATENCY]

        bench.fate = fate
        bench.a.endpoint.rekey_ike_sa('b', bench.now)
        bench.b.endpoint.rekey_ike_sa('a', bench.now)
        bench.run(0.2)
        done = [sa.state for sa in sas_of(bench.a)] == [State.REKEYED, State.ESTABLISHED]
        bench.run(60)
        by_a, by_b = lowest_nonces(bench)
        assert done == (by_a < by_b)
        asked = {d.local for d in bench.wire if is_kind(d, FOLLOW_UP, response=False)}
        assert asked == {B_ADDRESS if done else A_ADDRESS}
        (a,), (b,) = finished(bench)
        assert a.origin.spis == b.origin.spis
        assert a.origin.lowest_nonce == max(by_a, by_b)


@pytest.mark.parametrize('done', [0, 1])
def test_rekey_is_put_off_during_our_key_exchanges(
    done: int,
) -> None:
    """RFC 9370, 2.2.4: B's request was late, A is past its own CREATE_CHILD_SA."""
    bench = up(TWO, TWO)
    late: list[Datagram] = []
    asked: set[int] = set()

    def fate(datagram: Datagram) -> list[float]:
        by_b = datagram.local == B_ADDRESS
        if by_b and is_kind(datagram, ExchangeType.CREATE_CHILD_SA, response=False):
            late.append(datagram)
            return []
        if is_kind(datagram, FOLLOW_UP, response=False):
            asked.add(header_of(datagram).message_id)
            return [LATENCY] if len(asked) <= done else []
        return [LATENCY]

    bench.fate = fate
    bench.b.endpoint.rekey_ike_sa('a', bench.now)
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.run(0.2)
    (sa,) = sas_of(bench.a)
    assert isinstance(sa.asking, FollowUp)
    assert len(asked) == done + 1
    bench.fate = lambda d: [LATENCY]
    bench.inject(late[0])
    answers = [m for m in bench.a.all(IkeMessage) if m.sent and m.response]
    assert answers[-1].exchange == 'CREATE_CHILD_SA'
    assert answers[-1].detail == 'N(TEMPORARY_FAILURE)'
    assert not sa.expected
    # Ours comes to its end, and the peer's is not begun again.
    bench.run(60)
    a, b = finished(bench)
    assert [one.origin.spis for one in a] == [one.origin.spis for one in b]
    assert [one.origin.initiator for one in a] == [True]
    assert sum(is_kind(d, ExchangeType.CREATE_CHILD_SA, response=True) for d in bench.wire) == 2


@pytest.mark.parametrize('seed', range(8))
def test_follow_ups_survive_loss_duplication_and_reordering(seed: int) -> None:
    bench = up(seed=seed)

    def fate(datagram: Datagram) -> list[float]:
        if bench.random.random() < 0.25:
            return []
        copies = 2 if bench.random.random() < 0.25 else 1
        return [LATENCY * (1 + 30 * bench.random.random()) for _ in range(copies)]

    bench.fate = fate
    numbers = [bench.a.endpoint.request('b', rp_request(k), bench.now) for k in (1, 2, 3)]
    bench.run(5)
    bench.b.endpoint.rekey_ike_sa('a', bench.now)
    bench.run(200)
    negotiated, failed = bench.a.all(RpSaNegotiated), bench.a.all(RpSaFailed)
    ended = {event.exchange for event in negotiated} | {event.exchange for event in failed}
    assert ended == set(numbers)
    made = {keys.master_key.reveal() for keys in bench.b.accepted}
    assert {event.keys.master_key.reveal() for event in negotiated} <= made
    for sa in sas_of(bench.b):
        assert not sa.expected

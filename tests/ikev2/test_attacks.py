"""Attacks on the protocol itself, by name: each fails, and for the reason that RFC 7296 gives.

Hostile octets are in test_hostile.py; here the attacker knows the protocol, sees and forges
datagrams, and may be an authenticated peer that doesn't keep to the rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from itertools import count

import pytest

import ikev2.exchanges.ike_init_responder as responder
from ikev2.authentication.identity import Identity
from ikev2.constants import ExchangeType, KeyExchangeId, NotifyType, ProtocolId
from ikev2.context import Context
from ikev2.crypto.key_exchange import KeyExchange, respond
from ikev2.events import (
    Cause,
    Datagram,
    IkeSaDown,
    IkeSaFailed,
    IkeSaUp,
    RpSaFailed,
    RpSaNegotiated,
    RpSaRequested,
)
from ikev2.limits import Limits
from ikev2.proposals.ike import IkePolicy, select_ike
from ikev2.proposals.policies import policy_named
from ikev2.sa.transitions import State
from ikev2.wire.message import HEADER_LENGTH, Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import (
    DeletePayload,
    EncryptedFragmentPayload,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
)
from ikev2.wire.payloads_sa import SaPayload
from keymaterial import Secret
from tests.ikev2.bench import (
    A_ADDRESS,
    B_ADDRESS,
    LATENCY,
    Anything,
    Bench,
    altered,
    deliver,
    header_of,
    is_kind,
    peer_a,
    peer_b,
    rp_request,
    sas_of,
)

COST = 0.001
"""CPU seconds of a key exchange in these tests."""
INIT, INFORMATIONAL = ExchangeType.IKE_SA_INIT, ExchangeType.INFORMATIONAL


def up() -> Bench:
    """Two ends with an IKE SA."""
    bench = Bench()
    bench.connect()
    return bench


def from_b(data: bytes) -> Datagram:
    """Return a datagram as if B had sent it to A."""
    return Datagram(data, B_ADDRESS, 500, A_ADDRESS, 500)


def from_a(data: bytes) -> Datagram:
    """Return a datagram as if A had sent it to B."""
    return Datagram(data, A_ADDRESS, 500, B_ADDRESS, 500)


def unprotected(of: Header, *payloads: Payload, response: bool = True) -> bytes:
    """A message without protection that claims to belong to another."""
    header = replace(of, initiator=of.initiator ^ response, response=response)
    return Message(header, payloads).encode()


class Attacker:
    """Sees A's IKE_SA_INIT and is faster than B; B's true answers come, too."""

    def __init__(self, bench: Bench, forge: Callable[[Message], list[bytes]]) -> None:
        self._bench = bench
        self._forge = forge
        self.forged = 0
        bench.fate = self._look

    def _look(self, datagram: Datagram) -> list[float]:
        if is_kind(datagram, INIT, response=False) and datagram.local == A_ADDRESS:
            forged = self._forge(Message.decode(datagram.data))
            self.forged += len(forged)
            for data in forged:
                self._bench.post(from_b(data), LATENCY / 2)
        return [LATENCY]


def complete(request: Message, spi: bytes = bytes(range(8)), nonce: int = 7) -> bytes:
    """An answer with a key exchange of the attacker's own."""
    ke = request.require(KeyExchangePayload)
    choice = select_ike(request.require(SaPayload), IkePolicy(), ke.group)
    value, _ = respond(ke.group, ke.data)
    header = replace(request.header, responder_spi=spi, initiator=False, response=True)
    notify = NotifyPayload(NotifyType.CHILDLESS_IKEV2_SUPPORTED)
    nonces = NoncePayload(bytes([nonce]) * 32)
    return Message(
        header, (choice.answer(), KeyExchangePayload(ke.group, value), nonces, notify)
    ).encode()


# --- forged answers to IKE_SA_INIT (2.4, 2.6, 2.21.1) ------------------------------------------

FORGERIES: dict[str, Callable[[Message], list[bytes]]] = {
    'one complete answer': lambda m: [complete(m)],
    'several complete answers': lambda m: [complete(m, bytes([9, n] * 4)) for n in range(5)],
    'several with one SPI': lambda m: [complete(m, nonce=n) for n in range(3)],
    'cookies': lambda m: [
        unprotected(m.header, NotifyPayload(NotifyType.COOKIE, bytes([n]))) for n in range(3)
    ],
    'refusals': lambda m: [
        unprotected(m.header, NotifyPayload(kind))
        for kind in (NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.INVALID_SYNTAX)
    ],
    'another group': lambda m: [
        unprotected(m.header, NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, b'\x00\x0e'))
    ],
}


@pytest.mark.parametrize('forgery', FORGERIES)
def test_attempt_succeeds_when_answers_are_forged_first(forgery: str) -> None:
    bench = Bench()
    attacker = Attacker(bench, FORGERIES[forgery])
    bench.connect()
    bench.run(3)
    assert attacker.forged
    # Where the attacker made us ask twice, B may have another one that we have let go.
    assert bench.a.last(IkeSaUp).spis in [up.spis for up in bench.b.all(IkeSaUp)]
    assert not bench.a.all(IkeSaFailed)
    assert len([sa for sa in sas_of(bench.a) if sa.finished]) == 1


def test_attempt_succeeds_when_forged_and_true_answer_is_lost() -> None:
    bench = Bench()
    Attacker(bench, lambda m: [complete(m)])
    look, answers = bench.fate, Counter[str]()

    def fate(datagram: Datagram) -> list[float]:
        if is_kind(datagram, INIT, response=True):
            answers['true'] += 1
            return [] if answers['true'] == 1 else [LATENCY]
        return list(look(datagram))

    bench.fate = fate
    bench.connect()
    bench.run(3)
    assert bench.a.all(IkeSaUp)


def test_forged_answers_leave_no_state() -> None:
    bench = Bench()
    Attacker(bench, lambda m: [complete(m, bytes([9, n] * 4)) for n in range(4)])
    bench.connect()
    bench.run(60)
    assert sum(map(len, bench.a.endpoint._context.sas.values())) == 1
    assert not bench.a.endpoint._context.attempts


def test_tried_answers_are_limited() -> None:
    bench = Bench(limits=Limits(init_answers=3))
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    request = Message.decode(bench.wire[0].data)
    for number in range(10):
        bench.inject(from_b(complete(request, bytes([7, number] * 4))))
    assert len(sas_of(bench.a)) == 3


def small_order(request: Message, number: int) -> bytes:
    """An answer that costs a key exchange and then fails: only the attempt to try it is left."""
    message = Message.decode(complete(request, number.to_bytes(8, 'big')))
    worthless = KeyExchangePayload(KeyExchangeId.CURVE25519, bytes(32))
    payloads = (worthless if isinstance(p, KeyExchangePayload) else p for p in message.payloads)
    return Message(message.header, tuple(payloads)).encode()


def answers_that_cost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> tuple[Message, list[bytes]]:
    """A's IKE_SA_INIT request, which gets no answer; the values that A computes with."""
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    (attempt,) = bench.a.endpoint._context.attempts.values()
    exchange = attempt._asked[KeyExchangeId.CURVE25519].exchange
    finish, values = type(exchange).shared_secret, list[bytes]()

    def counted(this: KeyExchange, value: bytes) -> Secret:
        if this is exchange:
            values.append(value)
            bench.cpu += COST
        return finish(this, value)

    monkeypatch.setattr(type(exchange), 'shared_secret', counted)
    return Message.decode(bench.wire[0].data), values


def test_tried_answers_are_limited_when_key_exchange_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    request, values = answers_that_cost(bench, monkeypatch)
    for number in range(1, 501):
        bench.inject(from_b(small_order(request, number)))
    assert len(values) == pytest.approx(Limits().unproven_size / COST, abs=1)
    assert not sas_of(bench.a)


def test_repeated_answer_pushes_out_no_other_when_it_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    request, values = answers_that_cost(bench, monkeypatch)
    for _ in range(10):
        bench.inject(from_b(small_order(request, 1)))
    assert len(values) == 1
    assert bench.a.endpoint.snapshot().peer('b').counters.repeated == 9


def cost_key_exchanges(bench: Bench, cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key exchange takes its time."""
    finish = type(KeyExchange.generate(KeyExchangeId.CURVE25519)).shared_secret

    def shared_secret(this: KeyExchange, value: bytes) -> Secret:
        bench.cpu += cost
        return finish(this, value)

    def counted(group: int, value: bytes) -> tuple[bytes, Secret]:
        bench.cpu += cost
        return respond(group, value)

    kind = type(KeyExchange.generate(KeyExchangeId.CURVE25519))
    monkeypatch.setattr(kind, 'shared_secret', shared_secret)
    monkeypatch.setattr(responder, 'respond', counted)


def test_dropped_true_answer_is_taken_when_it_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of three requests brings a flood and then the true answer, always the same octets."""
    bench = Bench(limits=Limits(unproven_size=5 * COST, unproven_share=5 * COST))
    cost_key_exchanges(bench, 1.5 * COST, monkeypatch)
    floods, numbers = iter(range(3)), count(1)

    def flood(request: Message) -> list[bytes]:
        size = 10 if next(floods, None) is not None else 0
        return [small_order(request, next(numbers)) for _ in range(size)]

    attacker = Attacker(bench, flood)
    bench.connect()
    bench.run(1)
    assert not bench.a.all(IkeSaUp)
    bench.run(20)
    assert attacker.forged == 30
    assert bench.a.all(IkeSaUp)
    assert not bench.a.all(IkeSaFailed)


def test_attempt_fails_once_when_all_answers_fail() -> None:
    bench = Bench()
    bench.b.endpoint.remove_peer('a', bench.now)
    Attacker(bench, lambda m: [complete(m, bytes([9, n] * 4)) for n in range(3)])
    bench.connect()
    bench.run(60)
    (failed,) = bench.a.all(IkeSaFailed)
    assert (failed.step, failed.cause) == ('IKE_AUTH', Cause.NO_ANSWER)


def test_initiator_stays_steady_when_cookies_never_end() -> None:
    """An attacker that answers every request with a new cookie: no loop, and B gets through."""
    bench = Bench()
    counted = iter(range(10_000))
    Attacker(
        bench,
        lambda m: [
            unprotected(m.header, NotifyPayload(NotifyType.COOKIE, next(counted).to_bytes(4)))
        ],
    )
    bench.b.endpoint.remove_peer('a', bench.now)  # B doesn't answer for now
    bench.a.endpoint.connect('b', bench.now)
    bench.run(2)
    assert len(list(bench.sent_by(bench.a))) < 15
    bench.b.endpoint.set_peer(peer_a(), bench.now)
    bench.fate = deliver
    bench.run(20)
    assert bench.a.all(IkeSaUp)


# --- downgrade (1.2, 2.7, 2.15) ----------------------------------------------------------------


def test_true_answer_wins_when_weaker_group_is_demanded() -> None:
    """The initiator still takes the answer in the group that it asked for first."""
    bench = Bench()
    weaker = KeyExchangeId.MODP_2048.to_bytes(2, 'big')
    Attacker(
        bench,
        lambda m: [unprotected(m.header, NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, weaker))],
    )
    bench.connect()
    bench.run(2)
    (sa,) = [sa for sa in sas_of(bench.a) if sa.finished]
    assert sa.origin.suite.group == KeyExchangeId.CURVE25519


@pytest.mark.parametrize('name', ['default', 'compatible'])
@pytest.mark.parametrize('lets_go', [True, False])
def test_weaker_group_is_refused_when_both_want_better(name: str, lets_go: bool) -> None:
    """On the path: drops what asks in another group and demands the weak one, once or for ever."""
    policy = policy_named(name)
    bench = Bench(a=replace(peer_a(), policy=policy), b=replace(peer_b(), policy=policy))
    weak = KeyExchangeId.MODP_2048
    demand = NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, weak.to_bytes(2, 'big'))
    groups: list[int] = []

    def fate(datagram: Datagram) -> list[float]:
        if not is_kind(datagram, INIT, response=False):
            return [LATENCY]
        request = Message.decode(datagram.data)
        groups.append(request.require(KeyExchangePayload).group)
        if groups[-1] == weak or (lets_go and weak in groups):
            return [LATENCY]
        bench.post(from_b(unprotected(request.header, demand)), LATENCY / 2)
        return []

    bench.fate = fate
    bench.connect()
    bench.run(40)
    assert weak in groups
    ups = [up.suite for end in (bench.a, bench.b) for up in end.all(IkeSaUp)]
    assert not any('modp-2048' in suite for suite in ups)
    assert len(ups) == (2 if lets_go else 0)
    assert bool(bench.a.all(IkeSaFailed)) is not lets_go


def changed_offer(data: bytes) -> bytes:
    """The request with only the last proposals or transforms that still make a suite."""
    message = Message.decode(data)
    offer = message.require(SaPayload)
    proposal = offer.proposals[0]
    first = {t.transform_type: t for t in reversed(proposal.transforms)}
    last = {t.transform_type: t for t in proposal.transforms}
    kept = {**first, 1: last[1]}
    fewer = replace(
        proposal, transforms=tuple(t for t in proposal.transforms if t in kept.values())
    )
    payloads = tuple(
        replace(offer, proposals=(fewer,)) if p is offer else p for p in message.payloads
    )
    return Message(message.header, payloads).encode()


def test_ike_auth_fails_when_offer_was_reduced_on_the_way() -> None:
    """Each side signs its IKE_SA_INIT message as it sent it (RFC 7296, 2.15)."""
    bench = Bench()
    inject = bench.inject

    def tamper(datagram: Datagram) -> None:
        if is_kind(datagram, INIT, response=False):
            datagram = altered(datagram, changed_offer(datagram.data))
        inject(datagram)

    bench.inject = tamper  # type: ignore[method-assign]
    bench.connect()
    assert changed_offer(bench.wire[0].data) != bench.wire[0].data
    assert bench.b.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED
    bench.settle()
    assert bench.a.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED
    assert not bench.a.all(IkeSaUp)


def test_ike_auth_fails_when_notifies_were_removed_on_the_way() -> None:
    """The Vendor ID, SIGNATURE_HASH_ALGORITHMS and fragmentation can't be stripped either."""
    bench = Bench()
    inject = bench.inject

    def tamper(datagram: Datagram) -> None:
        if is_kind(datagram, INIT, response=True):
            message = Message.decode(datagram.data)
            kept = tuple(
                p
                for p in message.payloads
                if not isinstance(p, NotifyPayload)
                or p.notify_type == NotifyType.CHILDLESS_IKEV2_SUPPORTED
            )
            datagram = altered(datagram, Message(message.header, kept).encode())
        inject(datagram)

    bench.inject = tamper  # type: ignore[method-assign]
    bench.connect()
    bench.run(2)
    assert bench.a.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED


# --- reflection and identity of roles ----------------------------------------------------------


def test_initiator_makes_no_ike_sa_when_messages_are_reflected() -> None:
    """Every message of A comes back to A as if B had sent it, and B receives nothing."""
    bench = Bench()
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    for _ in range(40):
        bench.step()
        for datagram in bench.wire[:]:
            bench.inject(from_b(datagram.data))
        if len(bench.wire) > 200:
            break
    assert not bench.a.all(IkeSaUp)


def test_responder_gains_nothing_when_it_takes_initiators_spi(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With SPIi = SPIr a reflected message finds its own IKE SA: its keys don't fit."""
    bench = Bench()
    monkeypatch.setattr(Context, 'new_spi', lambda self: bytes([5]) * 8)
    bench.connect()
    (sa,) = sas_of(bench.a)
    assert sa.origin.spi_i == sa.origin.spi_r
    before = bench.a.endpoint.snapshot().peer('b').counters.not_authentic
    bench.a.endpoint.check_liveness('b', bench.now)
    bench.settle()
    ours = [d for d in bench.sent_by(bench.a) if is_kind(d, INFORMATIONAL, response=False)]
    assert ours
    for datagram in ours:
        sa._answers.expected = header_of(datagram).message_id
        bench.inject(from_b(datagram.data))
    after = bench.a.endpoint.snapshot().peer('b').counters.not_authentic
    assert after - before == len(ours)


# --- Message IDs and SPIs (2.2, 2.3, 2.6) --------------------------------------------------------


def test_request_is_outside_window_when_earlier_is_unanswered() -> None:
    """Else the answer to the first would go out under the Message ID of the second."""
    bench = up()
    bench.b.obliging = False
    bench.a.endpoint.request('b', rp_request(1), bench.now)
    bench.run(0.1)
    (sa,) = sas_of(bench.a)
    kept, sa._asking = sa._asking, None  # a peer that doesn't wait
    second = Anything(INFORMATIONAL, [])
    sa.ask(second, bench.now)
    bench.run(0.1)
    assert second.answer is None
    vars(sa)['_asking'].retransmission.stop()
    sa._asking = kept
    bench.b.accept(bench.b.last(RpSaRequested), bench.now)
    bench.settle()
    assert bench.a.all(RpSaNegotiated)
    answered = [
        (header_of(d).message_id, header_of(d).exchange_type)
        for d in bench.sent_by(bench.b)
        if header_of(d).response
    ]
    assert len({number for number, _ in answered}) == len(set(answered))


def test_window_separates_requests_and_answers_of_one_id() -> None:
    """Both ends use Message ID 2 and 0 at the same time: flags and keys tell them apart."""
    bench = up()
    bench.a.endpoint.check_liveness('b', bench.now)
    bench.b.endpoint.check_liveness('a', bench.now)
    bench.settle()
    for datagram in list(bench.wire):
        header = header_of(datagram)
        turned = replace(header, response=not header.response)
        data = turned.encode(datagram.data[16], len(datagram.data)) + datagram.data[28:]
        bench.inject(altered(datagram, data))
    bench.settle()
    assert len(sas_of(bench.a)) == len(sas_of(bench.b)) == 1
    bench.negotiate()
    assert bench.a.all(RpSaNegotiated)


def test_message_is_not_authentic_under_spis_of_another_ike_sa() -> None:
    bench = Bench()
    bench.a.mkts = bench.b.mkts = True
    bench.a.endpoint.connect('b', bench.now)
    bench.b.endpoint.connect('a', bench.now)
    bench.run(0.5)
    first, second = sas_of(bench.b)
    bench.a.endpoint.check_liveness('b', bench.now)
    (request,) = bench.a.endpoint.datagrams_to_send()
    header = header_of(request)
    mine = first if first.origin.spi_i == header.initiator_spi else second
    other = second if mine is first else first
    moved = replace(
        header,
        initiator_spi=other.origin.spi_i,
        responder_spi=other.origin.spi_r,
        initiator=not other.origin.initiator,
        message_id=other._answers.expected,
    )
    data = moved.encode(request.data[16], len(request.data)) + request.data[HEADER_LENGTH:]
    bench.inject(from_a(data))
    assert bench.b.endpoint.snapshot().peer('a').counters.not_authentic == 1


def test_path_stays_when_copy_overtakes_from_another_port() -> None:
    """RFC 7296, 2.11 and 2.23: answers go to where the request came from, requests don't follow."""
    bench = up()
    (sa,) = sas_of(bench.b)
    path = sa.path
    bench.a.endpoint.check_liveness('b', bench.now)
    (request,) = bench.a.endpoint.datagrams_to_send()
    bench.inject(replace(request, local_port=6666))
    assert bench.wire[-1].remote_port == 6666
    assert sa.path == path
    bench.b.endpoint.check_liveness('a', bench.now)
    bench.collect()
    assert bench.wire[-1].remote_port == 500


# --- hints and errors without protection (2.4, 2.21.4) -------------------------------------------


def lost_at_b() -> tuple[Bench, Datagram]:
    """B has lost the IKE SA; A's next request over it."""
    bench = up()
    bench.b.endpoint.replace_ike_sa('a', bench.now)
    bench.b.endpoint._context.sas.clear()
    bench.b.endpoint.datagrams_to_send()
    bench.a.endpoint.check_liveness('b', bench.now)
    (request,) = bench.a.endpoint.datagrams_to_send()
    return bench, request


def test_nat_is_looked_for_again_when_it_was_forged() -> None:
    """A copy of IKE_SA_INIT that overtook its original from another port: both ends found a NAT,
    and no session came up for as long as that IKE SA lived."""
    bench = Bench()

    def fate(datagram: Datagram) -> list[float]:
        if is_kind(datagram, INIT, response=False):
            bench.post(replace(datagram, local_port=501), LATENCY / 2)
        return [LATENCY]

    bench.fate = fate
    bench.negotiate()
    assert bench.a.last(RpSaFailed).cause == Cause.NAT
    bench.fate = deliver
    bench.run(Limits().reauthentication_retry)
    bench.negotiate(rp_request(2))
    bench.negotiate(rp_request(3))
    assert bench.a.last(RpSaNegotiated).keys.send_id == 3
    (sa,) = [sa for sa in sas_of(bench.a) if sa.finished]
    assert not sa.origin.nat


def test_request_for_unknown_ike_sa_is_answered() -> None:
    bench, request = lost_at_b()
    bench.inject(request)
    answer = Message.decode(bench.wire[-1].data)
    assert [n.notify_type for n in answer.all(NotifyPayload)] == [NotifyType.INVALID_IKE_SPI]
    asked, told = header_of(request), answer.header
    assert told.response
    assert (told.initiator_spi, told.responder_spi) == (asked.initiator_spi, asked.responder_spi)
    assert (told.message_id, told.exchange_type) == (asked.message_id, asked.exchange_type)
    assert len(bench.wire[-1].data) <= len(request.data)


def test_answer_for_unknown_ike_sa_is_not_answered() -> None:
    bench, request = lost_at_b()
    header = replace(header_of(request), response=True)
    data = header.encode(request.data[16], len(request.data)) + request.data[HEADER_LENGTH:]
    before = len(bench.wire)
    bench.inject(altered(request, data))
    assert len(bench.wire) == before


def test_errors_about_unknown_ike_sas_are_limited() -> None:
    bench, request = lost_at_b()
    before = len(bench.wire)
    for _ in range(50):
        bench.inject(request)
    assert len(bench.wire) - before == Limits().unprotected_errors_per_second


def test_cookie_answer_is_not_longer_than_request() -> None:
    bench = Bench(limits=Limits(half_open_before_cookies=0))
    header = Header(bytes([1] * 8), bytes(8), INIT, 0, True, False)
    bench.inject(from_a(Message(header, (NoncePayload(bytes(16)),)).encode()))
    assert not list(bench.sent_by(bench.b))


@pytest.mark.parametrize('kind', [0, *ExchangeType, 250])
def test_newer_version_is_answered_when_exchange_is_any(kind: int) -> None:
    """RFC 7296, 2.5; also a header alone, which the answer is nine octets longer than."""
    bench = Bench()
    header = Header(bytes([1] * 8), bytes([2] * 8), kind, 7, True, False)
    data = bytearray(header.encode(0, HEADER_LENGTH))
    data[17] = 0x30
    bench.inject(from_a(bytes(data)))
    (answer,) = bench.sent_by(bench.b)
    notify = Message.decode(answer.data).require(NotifyPayload)
    assert (notify.notify_type, notify.data) == (NotifyType.INVALID_MAJOR_VERSION, b'\x02')
    assert header_of(answer) == replace(header, initiator=False, response=True)


def test_liveness_check_is_limited_when_hints_are_many() -> None:
    bench = up()
    (sa,) = sas_of(bench.a)
    header = Header(sa.origin.spi_i, sa.origin.spi_r, INFORMATIONAL, 2, False, True)
    forged = Message(header, (NotifyPayload(NotifyType.INVALID_IKE_SPI),)).encode()
    for _ in range(20):
        bench.inject(from_b(forged))
        bench.run(0.1)
    asked = [d for d in bench.sent_by(bench.a) if is_kind(d, INFORMATIONAL, response=False)]
    assert len(asked) == 1
    assert not bench.a.all(IkeSaDown)
    assert sas_of(bench.a)


def test_unprotected_notify_is_no_hint_when_of_another_type() -> None:
    bench = up()
    (sa,) = sas_of(bench.a)
    before = len(bench.wire)
    for payload in (
        NotifyPayload(NotifyType.AUTHENTICATION_FAILED),
        DeletePayload(ProtocolId.IKE),
    ):
        header = Header(sa.origin.spi_i, sa.origin.spi_r, INFORMATIONAL, 0, False, False)
        bench.inject(from_b(Message(header, (payload,)).encode()))
    bench.settle()
    assert len(bench.wire) == before
    assert sas_of(bench.a) == [sa]


# --- exhaustion (2.6) ------------------------------------------------------------------------


def init_requests(count: int, *, ke: bytes | None = None) -> list[Datagram]:
    """IKE_SA_INIT requests of A's, each with an SPI and nonce of its own."""
    found = []
    for number in range(1, count + 1):
        header = Header(number.to_bytes(8, 'big'), bytes(8), INIT, 0, True, False)
        payloads = (
            IkePolicy().offer(),
            KeyExchangePayload(KeyExchangeId.CURVE25519, ke or bytes([9]) + bytes(31)),
            NoncePayload(number.to_bytes(32, 'big')),
        )
        found.append(from_a(Message(header, payloads).encode()))
    return found


def count_key_exchanges(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    done: list[int] = []

    def counted(group: int, value: bytes) -> object:
        done.append(group)
        bench.cpu += COST
        return respond(group, value)

    monkeypatch.setattr(responder, 'respond', counted)
    return done


def test_cookies_are_demanded_when_key_exchanges_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A public value of small order leaves no half-open IKE SA behind, but costs as much."""
    bench = Bench()
    done = count_key_exchanges(bench, monkeypatch)
    for datagram in init_requests(300, ke=bytes(32)):
        bench.inject(datagram)
    # Half of what there is, is for those who have sent a cookie back.
    assert len(done) == pytest.approx(Limits().unproven_size / 2 / COST, abs=1)
    told = [Message.decode(d.data).notify(NotifyType.COOKIE) for d in bench.sent_by(bench.b)]
    assert len([cookie for cookie in told if cookie]) == 300 - len(done)
    bench.connect()
    assert bench.a.all(IkeSaUp)


def test_initiator_with_cookies_is_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(limits=Limits(half_open_before_cookies=0, unproven_size=5 * COST))
    done = count_key_exchanges(bench, monkeypatch)
    for datagram in init_requests(20, ke=bytes(32)):
        bench.inject(datagram)
        cookie = Message.decode(bench.wire[-1].data).require(NotifyPayload)
        message = Message.decode(datagram.data)
        bench.inject(from_a(Message(message.header, (cookie, *message.payloads)).encode()))
    assert len(done) == 5
    bench.run(1)  # it fills again
    bench.connect()
    assert bench.a.all(IkeSaUp)


def test_flood_of_wrong_groups_keeps_no_answer_from_peer() -> None:
    bench = Bench(a=replace(peer_a(), policy=IkePolicy(groups=(KeyExchangeId.ECP_256,))))
    for datagram in init_requests(50):
        bench.inject(datagram)
    bench.connect()
    assert bench.a.all(IkeSaUp)


def test_half_open_ike_sas_are_counted_only_while_half_open() -> None:
    """Else, after so many good ones, every peer would be asked for a cookie for ever."""
    bench = Bench()
    for _ in range(3):
        bench.connect()
        assert bench.b.endpoint._context.half_open == 0
        bench.a.endpoint.replace_ike_sa('b', bench.now)
        bench.settle()
    assert bench.b.endpoint._context.half_open == 0


def test_budget_keeps_share_when_one_host_sends_no_cookies() -> None:
    """The limit over all peers turns cookies on for all of them, and turns no peer away."""
    bench = Bench(limits=Limits(half_open_total=2, half_open_before_cookies=100))
    for datagram in init_requests(5):
        bench.inject(datagram)
    assert bench.b.endpoint._context.half_open == 2
    bench.connect()
    assert bench.a.all(IkeSaUp)


# --- nonces ----------------------------------------------------------------------------------


def test_nonces_and_spis_are_used_once() -> None:
    """RFC 7296, 2.10; but a request repeated for a cookie keeps its own (2.6)."""
    bench = Bench()
    nonces: Counter[bytes] = Counter()
    for keyid in range(1, 6):
        bench.negotiate(rp_request(keyid))
        bench.a.endpoint.rekey_ike_sa('b', bench.now)
        bench.settle()
        (sa,) = [sa for sa in sas_of(bench.a) if sa.state == State.ESTABLISHED]
        nonces.update((sa.origin.ni, sa.origin.nr, sa.origin.spi_i, sa.origin.spi_r))
    nonces.update(event.keys.lowest_nonce for event in bench.a.all(RpSaNegotiated))
    assert set(nonces.values()) == {1}


# --- secrets ---------------------------------------------------------------------------------


def test_authentication_secrets_are_wiped_when_proven() -> None:
    bench = up()
    for node in (bench.a, bench.b):
        (sa,) = sas_of(node)
        assert sa.keys.sk_pi.wiped
        assert sa.keys.sk_pr.wiped
        assert sa.handshake is None
        assert not sa.keys.sk_d.wiped


def test_encryption_keys_are_kept_by_ciphers_only() -> None:
    bench = up()
    (sa,) = sas_of(bench.a)
    assert sa.keys.sk_ei.wiped
    assert sa.keys.sk_er.wiped


def test_lingering_ike_sa_has_no_ciphers() -> None:
    bench = up()
    (sa,) = sas_of(bench.a)
    bench.a.endpoint.remove_peer('b', bench.now)
    bench.settle()
    assert sa.state == State.CLOSED
    assert sa._channel._in is None
    assert sa._channel._out is None


def test_key_pair_goes_with_its_attempt() -> None:
    bench = up()
    assert not bench.a.endpoint._context.attempts
    association = bench.a.endpoint._associations['b']
    assert association.attempt is None


def test_configured_credentials_are_not_wiped() -> None:
    bench = Bench(a=peer_a(), b=peer_b())
    bench.connect()
    bench.a.endpoint.replace_ike_sa('b', bench.now)
    bench.settle()
    assert len(bench.a.all(IkeSaUp)) == 2


def test_ike_sa_comes_up_when_copy_reached_other_address_first() -> None:
    """An attacker copies A's IKE_SA_INIT to an address of B where another peer is configured."""
    bench = Bench()
    other = ip_address('10.0.0.3')
    local_id, addresses = Identity.parse('fqdn', 'other.example'), ((other, A_ADDRESS),)
    bench.b.endpoint.set_peer(
        replace(peer_a(), name='other', local_id=local_id, addresses=addresses), bench.now
    )

    def copy(datagram: Datagram) -> list[float]:
        if is_kind(datagram, INIT, response=False) and datagram.local == A_ADDRESS:
            bench.post(replace(from_a(datagram.data), remote=other), LATENCY / 2)
        return [LATENCY]

    bench.fate = copy
    bench.connect()
    assert bench.b.last(IkeSaUp).peer == 'a'


def test_no_iv_is_used_twice_when_answer_was_altered_too() -> None:
    """An altered copy of B's answer makes the same keys as the answer itself."""
    bench = two_exchanges()

    def copy(datagram: Datagram) -> list[float]:
        if is_kind(datagram, INIT, response=True):
            end = Message.decode(datagram.data)
            status = NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, bytes(2))
            bench.post(from_b(replace(end, payloads=(*end.payloads, status)).encode()), LATENCY / 2)
        return [LATENCY]

    bench.fate = copy
    bench.a.endpoint.connect('b', bench.now)
    bench.run(1)
    messages = {d.data: Message.decode(d.data) for d in bench.sent_by(bench.a)}.values()
    sealed = [m.payloads[-1] for m in messages if m.header.message_id == 1]
    ivs = [p.sealed[:8] for p in sealed if isinstance(p, EncryptedFragmentPayload)]
    assert len(ivs) > 2
    assert len(set(ivs)) == len(ivs)


def two_exchanges() -> Bench:
    """Two ends that make an additional key exchange, each time with a new public value."""
    policy = policy_named('hybrid')
    return Bench(a=replace(peer_a(), policy=policy), b=replace(peer_b(), policy=policy))

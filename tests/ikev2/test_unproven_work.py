"""Unknown hosts at a peer's address neither shut the peer out nor make us talk (RFC 7296, 2.6).

The attacker sees the packets between two honest ends and sends what it likes, but drops nothing.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from itertools import count

import pytest
from cryptography import x509

from ikev2.authentication.auth import TrustAnchors
from ikev2.constants import ExchangeType, KeyExchangeId, NotifyType
from ikev2.crypto.key_exchange import KeyExchange
from ikev2.events import Cause, Datagram, IkeMessage, IkeSaFailed, IkeSaUp
from ikev2.limits import Limits
from ikev2.peer import Peer
from ikev2.proposals.ike import IkePolicy
from ikev2.sa.transitions import State
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import KeyExchangePayload, NoncePayload, NotifyPayload
from tests.ikev2 import pki
from tests.ikev2.bench import (
    A_ADDRESS,
    B_ADDRESS,
    LATENCY,
    Bench,
    deliver,
    header_of,
    is_kind,
    peer_a,
    peer_b,
    psk,
    rp_request,
    sas_of,
)
from tests.ikev2.test_attacks import Attacker, complete, from_a, from_b

INIT, AUTH = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH
VALUE = KeyExchange.generate(KeyExchangeId.CURVE25519).public_value


def init_request(number: int, *extra: Payload) -> Datagram:
    header = Header(number.to_bytes(8, 'big'), bytes(8), INIT, 0, True, False)
    payloads = (
        IkePolicy().offer(),
        KeyExchangePayload(KeyExchangeId.CURVE25519, VALUE),
        NoncePayload(number.to_bytes(32, 'big')),
    )
    return from_a(Message(header, (*extra, *payloads)).encode())


class Filler:
    """Begins IKE SAs at B in A's name; sees B's cookies and sends them back."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._numbers = count(1)

    def begin(self) -> None:
        number = next(self._numbers)
        mark = len(self._bench.wire)
        self._bench.inject(init_request(number))
        for datagram in self._bench.wire[mark:]:
            cookie = Message.decode(datagram.data).notify(NotifyType.COOKIE)
            if cookie is not None:
                self._bench.inject(init_request(number, cookie))
                return


def kept(bench: Bench) -> int:
    """IKE SAs at B, those that are closed too."""
    return sum(map(len, bench.b.endpoint._context.sas.values()))


# --- half-open IKE SAs -------------------------------------------------------------------------


def test_peer_gets_in_when_half_open_sas_fill_the_table() -> None:
    """32 half-open IKE SAs, kept up by two datagrams a second, shut the true peer out."""
    bench = Bench()
    filler, limits = Filler(bench), Limits()
    for _ in range(2 * limits.half_open_most):
        filler.begin()
    assert bench.b.endpoint._context.half_open == limits.half_open_most
    # Two hundred a second all the while.
    bench.a.endpoint.connect('b', bench.now)
    for _ in range(100):
        filler.begin()
        bench.run(0.005)
    assert bench.a.all(IkeSaUp)
    assert bench.b.all(IkeSaUp)


def test_half_open_sas_leave_nothing_when_they_give_way() -> None:
    bench = Bench(limits=Limits(half_open_most=8))
    filler = Filler(bench)
    for _ in range(100):
        filler.begin()
    context = bench.b.endpoint._context
    assert (kept(bench), len(context.initials), context.half_open) == (8, 8, 8)
    bench.run(31)
    assert (kept(bench), len(context.initials), context.half_open) == (0, 0, 0)


def test_oldest_of_all_peers_gives_way_when_there_are_too_many() -> None:
    c = ip_address('10.0.0.3')
    bench = Bench(limits=Limits(half_open_in_all=4, half_open_before_cookies=9, half_open_total=9))
    bench.b.endpoint.set_peer(replace(peer_a(), name='c', addresses=((B_ADDRESS, c),)), bench.now)
    for number in range(1, 4):
        bench.inject(init_request(number))
    for number in range(4, 8):
        bench.inject(replace(init_request(number), local=c))
    spis = [sa.origin.spi_i[-1] for sa in bench.b.endpoint._context.waiting]
    assert spis == [4, 5, 6, 7]


def test_refused_sas_are_kept_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is kept for the repetition of our answer, but only so many of them."""
    bench = Bench(a=peer_a(psk(), psk('another')), limits=Limits(half_open_most=8))
    for _ in range(20):
        bench.a.endpoint.connect('b', bench.now)
        bench.run(1.1)
    assert len(bench.b.all(IkeSaFailed)) == 20
    assert kept(bench) == 8


# --- answers to our IKE_SA_INIT ----------------------------------------------------------------


@pytest.mark.parametrize('forged', [1, 8, 200])
def test_attempt_succeeds_when_answers_are_forged(forged: int) -> None:
    """Eight forged answers before the true one ended an attempt for good."""
    bench = Bench()
    spis = count(1)
    Attacker(bench, lambda m: [complete(m, next(spis).to_bytes(8, 'big')) for _ in range(forged)])
    bench.connect()
    bench.run(1)
    assert bench.a.all(IkeSaUp)
    assert not bench.a.all(IkeSaFailed)
    assert len([sa for sa in sas_of(bench.a) if sa.finished]) == 1


def test_answer_that_gave_way_is_tried_again_when_it_is_repeated() -> None:
    bench = Bench(limits=Limits(init_answers=2))
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    request = Message.decode(bench.wire[0].data)
    answers = [complete(request, bytes([9, n] * 4)) for n in range(4)]
    for answer in answers:
        bench.inject(from_b(answer))
    assert [sa.origin.spi_r[1] for sa in sas_of(bench.a)] == [2, 3]
    bench.inject(from_b(answers[0]))
    assert [sa.origin.spi_r[1] for sa in sas_of(bench.a)] == [3, 0]
    assert sum(map(len, bench.a.endpoint._context.sas.values())) == 2


def test_repetitions_of_ike_auth_are_few_when_answers_are_forged() -> None:
    bench = Bench()
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    request = Message.decode(bench.wire[0].data)
    for number in range(1, 51):
        bench.inject(from_b(complete(request, number.to_bytes(8, 'big'))))
    bench.run(29)
    sent = [d for d in bench.sent_by(bench.a) if is_kind(d, AUTH, response=False)]
    assert len(sent) <= 50 + 29 * Limits().auth_repetitions_per_second


# --- IKE_SA_INIT while IKE_AUTH is awaited -------------------------------------------------------


def test_init_is_not_repeated_while_auth_is_awaited() -> None:
    """At a peer that makes an IKE SA of each IKE_SA_INIT there were five after eight seconds."""
    bench = Bench()
    bench.fate = lambda d: [] if is_kind(d, AUTH, response=True) else [LATENCY]
    bench.a.endpoint.connect('b', bench.now)
    bench.run(29)
    assert sum(is_kind(d, INIT, response=False) for d in bench.sent_by(bench.a)) == 1
    assert sum(is_kind(d, AUTH, response=False) for d in bench.sent_by(bench.a)) > 4
    assert len(sas_of(bench.b)) == 1
    bench.run(2)
    assert bench.a.last(IkeSaFailed).cause == Cause.NO_ANSWER


def test_init_is_repeated_when_the_peer_does_not_know_the_sa() -> None:
    """A forged answer came first, and the true one was lost: INVALID_IKE_SPI tells."""
    bench = Bench()
    attacker = Attacker(bench, lambda m: [complete(m)] if not attacker.forged else [])
    look, lost = bench.fate, list[Datagram]()

    def fate(datagram: Datagram) -> list[float]:
        if is_kind(datagram, INIT, response=True) and not lost:
            lost.append(datagram)
            return []
        return list(look(datagram))

    bench.fate = fate
    bench.connect()
    assert attacker.forged == 1
    assert bench.a.all(IkeSaUp)


# --- addresses ---------------------------------------------------------------------------------

A6, B6 = ip_address('2001:db8::1'), ip_address('2001:db8::2')


def two_paths() -> Bench:
    a: Peer = replace(peer_a(), addresses=((B_ADDRESS, A_ADDRESS), (B6, A6)))
    return Bench(a=a, b=replace(peer_b(), addresses=tuple((two, one) for one, two in a.addresses)))


def test_next_attempt_uses_the_other_addresses_when_one_failed() -> None:
    bench = two_paths()
    bench.fate = lambda datagram: [] if datagram.local.version == 4 else [LATENCY]
    bench.a.endpoint.connect('b', bench.now)
    bench.run(31)
    assert bench.a.last(IkeSaFailed).cause == Cause.NO_ANSWER
    bench.connect()
    assert bench.a.all(IkeSaUp)
    assert sas_of(bench.a)[0].path.remote == B6


def test_next_attempt_uses_other_addresses_when_auth_was_lost() -> None:
    bench = two_paths()
    bench.fate = lambda d: (
        [] if d.local.version == 4 and is_kind(d, AUTH, response=False) else [LATENCY]
    )
    bench.a.endpoint.connect('b', bench.now)
    bench.run(31)
    assert bench.a.last(IkeSaFailed).step == 'IKE_AUTH'
    bench.connect()
    assert sas_of(bench.a)[0].path.remote == B6


def test_next_attempt_keeps_addresses_when_a_stranger_gave_up() -> None:
    """A half-open IKE SA that expires says nothing of a path."""
    bench = two_paths()
    bench.inject(init_request(1))
    bench.run(40)
    bench.b.endpoint.connect('a', bench.now)
    bench.settle()
    assert [sa.path.remote for sa in sas_of(bench.b)] == [A_ADDRESS]


def test_next_attempt_uses_the_addresses_that_worked() -> None:
    """At both ends, also where the peer has begun the IKE SA."""
    bench = two_paths()
    bench.fate = lambda datagram: [] if datagram.local.version == 4 else [LATENCY]
    bench.a.endpoint.connect('b', bench.now)
    bench.run(31)
    bench.connect()
    for node, other in ((bench.b, 'a'), (bench.a, 'b')):
        node.endpoint.replace_ike_sa(other, bench.now)
        bench.settle()
        assert {sa.path.remote.version for sa in sas_of(node) if sa.finished} == {6}


def test_next_attempt_uses_other_addresses_when_a_path_breaks() -> None:
    bench = two_paths()
    bench.connect()
    bench.fate = lambda datagram: [] if datagram.local.version == 4 else [LATENCY]
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(31)
    bench.connect()
    assert sas_of(bench.a)[0].path.remote == B6


# --- reflection --------------------------------------------------------------------------------


def test_init_answer_is_repeated_a_few_times_a_second() -> None:
    bench = Bench()
    for _ in range(1000):
        bench.inject(init_request(1))
    sent = list(bench.sent_by(bench.b))
    assert len(sent) == 1 + Limits().repetitions_per_second
    bench.run(1)
    bench.inject(init_request(1))
    assert len(list(bench.sent_by(bench.b))) == len(sent) + 1


@pytest.mark.parametrize('kind', [AUTH, ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL])
def test_protected_answer_is_repeated_a_few_times_a_second(kind: ExchangeType) -> None:
    bench = Bench()
    bench.connect()
    if kind != AUTH:
        bench.negotiate()
    if kind == ExchangeType.INFORMATIONAL:
        bench.a.endpoint.check_liveness('b', bench.now)
        bench.settle()
    request = [d for d in bench.sent_by(bench.a) if is_kind(d, kind, response=False)][-1]
    before = len(list(bench.sent_by(bench.b)))
    for _ in range(1000):
        bench.inject(request)
    sent = list(bench.sent_by(bench.b))[before:]
    assert len(sent) == Limits().repetitions_per_second
    assert {header_of(datagram).exchange_type for datagram in sent} == {kind}


def many_anchors(number: int) -> Bench:
    """B names so many CAs in its IKE_SA_INIT answer."""
    roots = [pki.root(f'CN=r{index}', kind='ed25519') for index in range(number)]
    trust = TrustAnchors(tuple(root.certificate for root in roots))
    a, b = (
        roots[0].leaf(name, x509.DNSName(f'{name}.example'), kind='ed25519').credential()
        for name in 'ab'
    )
    bench = Bench(a=peer_a(b, trust), b=peer_b(a, trust))
    bench.wall = pki.AT - bench.now
    return bench


def test_cookie_comes_first_when_answer_is_three_times_as_long() -> None:
    bench = many_anchors(10)
    request = init_request(1)
    bench.inject(request)
    (answer,) = bench.sent_by(bench.b)
    cookie = Message.decode(answer.data).notify(NotifyType.COOKIE)
    assert cookie is not None
    assert len(answer.data) <= len(request.data)
    assert not sas_of(bench.b)
    bench.inject(init_request(1, cookie))
    assert [sa.state for sa in sas_of(bench.b)] == [State.HALF_OPEN]


def test_no_cookie_is_asked_of_an_honest_peer() -> None:
    bench = many_anchors(10)
    bench.fate = deliver
    bench.connect()
    assert bench.a.all(IkeSaUp)
    assert sum(is_kind(d, INIT, response=False) for d in bench.sent_by(bench.a)) == 1


# --- the timeline ------------------------------------------------------------------------------


def test_few_messages_are_told_when_strangers_send_many() -> None:
    """A timeline with every cookie of a flood filled a disk."""
    bench = Bench(limits=Limits(half_open_before_cookies=0))
    for number in range(1, 1001):
        bench.inject(init_request(number))
    assert len(bench.b.all(IkeMessage)) == Limits().unproven_told_per_second
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    request = Message.decode(bench.wire[-1].data)
    header = replace(request.header, initiator=False, response=True)
    for number in range(1, 1001):
        refusal = NotifyPayload(NotifyType.NO_PROPOSAL_CHOSEN, number.to_bytes(2, 'big'))
        bench.inject(from_b(Message(header, (refusal,)).encode()))
    assert len(bench.a.all(IkeMessage)) == Limits().unproven_told_per_second


def test_few_messages_are_told_when_strangers_get_to_ike_auth() -> None:
    """Who sees the answers can have as many IKE_AUTH refused as there is CPU time for."""
    bench, wrong = Bench(), peer_b(psk('another one that is long enough'))
    begun, handshakes = bench.now, 100
    for _ in range(handshakes):
        bench.boot('a').endpoint.set_peer(wrong, bench.now)
        bench.a.endpoint.connect('b', bench.now)
        bench.run(4 * LATENCY)
    bench.settle()
    assert bench.b.endpoint.snapshot().peer('a').counters.refused_auth == handshakes
    seconds = bench.now - begun + 1
    assert len(bench.b.all(IkeMessage)) <= Limits().unproven_told_per_second * seconds


# --- CPU time ----------------------------------------------------------------------------------


def test_cpu_is_given_back_when_the_peer_proves_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A herd of honest peers is no flood."""
    bench = Bench(limits=Limits(unproven_size=0.01, unproven_share=0.0))
    ticks = count(1)
    context = bench.b.endpoint._context
    monkeypatch.setattr(context, 'cpu', lambda: next(ticks) * 0.001)
    for _ in range(50):
        bench.connect()
        assert len(bench.a.all(IkeSaUp)) == len(bench.b.all(IkeSaUp))
        bench.a.endpoint.replace_ike_sa('b', bench.now)
        bench.settle()
    assert len(bench.a.all(IkeSaUp)) == 51
    assert bench.b.endpoint.snapshot().peer('a').counters.limited == 0


def test_one_peers_strangers_leave_time_for_other_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    c = ip_address('10.0.0.3')
    bench = Bench(limits=Limits(half_open_before_cookies=1000))
    bench.b.endpoint.set_peer(replace(peer_a(), name='c', addresses=((B_ADDRESS, c),)), bench.now)
    ticks = count(1)
    monkeypatch.setattr(bench.b.endpoint._context, 'cpu', lambda: next(ticks) * 0.01)
    for number in range(1, 200):
        bench.inject(replace(init_request(number), local=c))
    assert bench.b.endpoint.snapshot().peer('c').counters.limited > 100
    bench.connect()
    assert bench.a.all(IkeSaUp)
    assert bench.b.endpoint.snapshot().peer('a').counters.limited == 0

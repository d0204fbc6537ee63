"""IKE fragmentation (RFC 7383): what is too long goes in pieces, and pieces have bounds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ikev2.constants import ExchangeType, NotifyType, PayloadType
from ikev2.crypto.cipher import Cipher
from ikev2.errors import IntegrityFailure, MalformedMessage
from ikev2.events import Cause, Datagram, IkeSaFailed, IkeSaUp, RpSaNegotiated
from ikev2.exchanges.ike_auth import Authenticate
from ikev2.limits import Limits
from ikev2.sa.fragments import Reassembly
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.protection import is_fragment, seal_fragments
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import NotifyPayload, UnknownPayload
from tests.ikev2.bench import (
    A_ADDRESS,
    LATENCY,
    Anything,
    Bench,
    deliver,
    header_of,
    is_kind,
    peer_a,
    peer_b,
    psk,
    rp_request,
    sas_of,
    say,
)

AUTH, INFORMATIONAL = ExchangeType.IKE_AUTH, ExchangeType.INFORMATIONAL
LONG = UnknownPayload(200, bytes(range(256)) * 20, False)


def up(limits: Limits | None = None) -> Bench:
    """Two ends with an IKE SA."""
    bench = Bench(limits=limits)
    bench.connect()
    return bench


def pieces(bench: Bench, kind: ExchangeType = INFORMATIONAL) -> list[Datagram]:
    """All fragments of one kind of exchange on the wire."""
    return [d for d in bench.wire if is_fragment(d.data) and header_of(d).exchange_type == kind]


def waiting(sa: IkeSa) -> bool:
    """Some fragments of a request are there, and some aren't."""
    return sa._channel.incomplete


@pytest.fixture
def long_auth(monkeypatch: pytest.MonkeyPatch) -> None:
    """IKE_AUTH requests as long as with a chain of certificates."""
    original = Authenticate.request

    def request(self: Authenticate, sa: IkeSa, now: float) -> list[Payload] | None:
        payloads = original(self, sa, now)
        return None if payloads is None else [*payloads, LONG]

    monkeypatch.setattr(Authenticate, 'request', request)


# --- sending (2.3, 2.4, 2.5) ---------------------------------------------------------------------


def test_fragmentation_is_announced_by_both_in_ike_sa_init() -> None:
    bench = up()
    for datagram in bench.wire[:2]:
        notify = Message.decode(datagram.data).notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)
        assert notify is not None
        assert (notify.protocol, notify.spi, notify.data) == (0, b'', b'')


@pytest.mark.usefixtures('long_auth')
def test_ike_sa_comes_up_when_ike_auth_is_fragmented() -> None:
    bench = up()
    sent = pieces(bench, AUTH)
    assert len(sent) > 3
    assert bench.b.all(IkeSaUp)
    assert bench.a.all(IkeSaUp)


@pytest.mark.parametrize(('a', 'b', 'headers'), [('10.0.0.1', '10.0.0.2', 28), ('::1', '::2', 48)])
@pytest.mark.parametrize('longest', [576, 1280])
def test_datagrams_stay_below_limit_of_address_family(
    a: str, b: str, headers: int, longest: int
) -> None:
    pair = ip_address(a), ip_address(b)
    bench = Bench(
        a=replace(peer_a(), addresses=((pair[1], pair[0]),)),
        b=replace(peer_b(), addresses=(pair,)),
        limits=Limits(fragment_ipv4=longest, fragment_ipv6=longest),
    )
    bench.connect()
    say(bench, bench.a, INFORMATIONAL, [LONG])
    marker = 4
    sizes = [len(d.data) + headers + marker for d in pieces(bench)]
    assert sizes
    assert max(sizes) <= longest
    assert max(sizes) > longest - 40


def test_short_message_is_not_fragmented() -> None:
    bench = up()
    bench.negotiate()
    assert bench.a.all(RpSaNegotiated)
    assert not pieces(bench, ExchangeType.CREATE_CHILD_SA)


def test_message_is_whole_when_peer_did_not_announce(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('ikev2.exchanges.ike_init_responder.fragments', lambda message: False)
    bench = up()
    exchange = say(bench, bench.a, INFORMATIONAL, [LONG])
    assert exchange.answer is not None
    assert not pieces(bench)


def test_fragment_is_dropped_when_peer_did_not_announce(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('ikev2.exchanges.ike_init_responder.fragments', lambda message: False)
    bench = up()
    (sa,) = sas_of(bench.a)
    sa._channel._fragmentation = True
    sa.queue(Anything(INFORMATIONAL, [LONG]), bench.now)
    bench.settle()
    assert pieces(bench)
    assert bench.b.endpoint.snapshot().peer('a').counters.not_authentic >= len(pieces(bench)) // 2


def test_successor_accepts_fragments_too() -> None:
    bench = up()
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.settle()
    assert say(bench, bench.a, INFORMATIONAL, [LONG]).answer is not None
    assert pieces(bench)


def test_fragments_have_ivs_of_their_own() -> None:
    bench = up()
    for _ in range(3):
        say(bench, bench.a, INFORMATIONAL, [LONG])
    ivs = Counter(d.data[36:44] for d in pieces(bench) if d.local == A_ADDRESS)
    assert len(ivs) > 9
    assert set(ivs.values()) == {1}


# --- receiving (2.6) -----------------------------------------------------------------------------


def test_fragments_are_assembled_in_any_order() -> None:
    bench = up()
    order = iter([0.09, 0.07, 0.08, 0.02, 0.05, 0.01])
    bench.fate = lambda d: [next(order, LATENCY)] if is_fragment(d.data) else [LATENCY]
    assert say(bench, bench.a, INFORMATIONAL, [LONG]).answer is not None


def test_all_fragments_are_repeated_when_one_is_lost() -> None:
    bench = up()
    lost: list[Datagram] = []

    def lose_one(datagram: Datagram) -> list[float]:
        if is_fragment(datagram.data) and not lost:
            lost.append(datagram)
            return []
        return [LATENCY]

    bench.fate = lose_one
    (sa,) = sas_of(bench.a)
    exchange = Anything(INFORMATIONAL, [LONG])
    sa.queue(exchange, bench.now)
    bench.run(3)
    assert exchange.answer is not None
    seen = Counter(d.data for d in pieces(bench))
    assert set(seen.values()) == {2}


def test_answer_is_repeated_only_for_first_fragment() -> None:
    """RFC 7383, 2.6.1."""
    bench = up()
    say(bench, bench.a, INFORMATIONAL, [LONG])
    answer = next(d for d in bench.wire if is_kind(d, INFORMATIONAL, response=True))
    first, *others = [d for d in pieces(bench) if d.local == A_ADDRESS]
    before = len(bench.wire)
    for datagram in others:
        bench.inject(datagram)
    assert len(bench.wire) == before
    bench.inject(first)
    assert [d.data for d in bench.wire[before:]] == [answer.data]


@pytest.mark.usefixtures('long_auth')
def test_refusal_of_fragmented_request_is_repeated_when_lost() -> None:
    """RFC 7296, 2.1: no keys are left to know fragment 1 by."""
    bench = Bench(b=peer_b(psk('wrong'), psk('wrong')))
    lost: list[Datagram] = []

    def lose_first(datagram: Datagram) -> list[float]:
        if is_kind(datagram, AUTH, response=True) and not lost:
            lost.append(datagram)
            return []
        return deliver(datagram)

    bench.fate = lose_first
    bench.connect()
    bench.settle()
    assert bench.a.last(IkeSaFailed).cause == Cause.AUTHENTICATION_FAILED
    assert len(bench.b.all(IkeSaFailed)) == 1
    answers = [d.data for d in bench.wire if is_kind(d, AUTH, response=True)]
    assert answers == [lost[0].data] * 2


@pytest.mark.usefixtures('long_auth')
@pytest.mark.parametrize('last', [0, 1], ids=['fragment 1 last', 'fragment 2 last'])
def test_closed_ike_sa_answers_only_very_first_fragment(last: int) -> None:
    bench = Bench(b=peer_b(psk('wrong'), psk('wrong')))
    bench.fate = lambda d: [] if is_kind(d, AUTH, response=False) else [LATENCY]
    bench.a.endpoint.connect('b', bench.now)
    bench.run(0.1)
    sent = pieces(bench, AUTH)
    first, *others = sent
    assert len(others) > 1
    for datagram in [d for d in sent if d is not sent[last]] + [sent[last]]:
        bench.inject(datagram)
    answers = [d for d in bench.wire if is_kind(d, AUTH, response=True)]
    assert len(answers) == 1
    forged = first.data[:-1] + bytes([first.data[-1] ^ 1])
    before = len(bench.wire)
    for datagram in (*others, replace(first, data=forged)):
        bench.inject(datagram)
    assert len(bench.wire) == before
    bench.inject(first)
    assert [d.data for d in bench.wire[before:]] == [answers[0].data]


def test_fragment_without_numbers_is_ignored() -> None:
    bench = up()
    say(bench, bench.a, INFORMATIONAL, [LONG])
    first, *_ = [d for d in pieces(bench) if d.local == A_ADDRESS]
    before = len(bench.wire)
    header, body = first.data[:28], first.data[28:]
    for data in (header + body[:4], header + b'\0\0\0\6' + body[4:6], header):
        bench.inject(replace(first, data=data[:24] + len(data).to_bytes(4, 'big') + data[28:]))
    assert len(bench.wire) == before


def test_answer_is_repeated_when_request_is_split_anew() -> None:
    """RFC 7383, 2.5.2: a sender that looks for the path's MTU."""
    bench = up()
    say(bench, bench.a, INFORMATIONAL, [LONG])
    answer = next(d for d in bench.wire if is_kind(d, INFORMATIONAL, response=True))
    (sa,) = sas_of(bench.a)
    channel = sa._channel
    sent = next(d for d in pieces(bench) if d.local == A_ADDRESS)
    assert channel._out is not None
    smaller = seal_fragments(header_of(sent), [LONG], channel._out, channel._make_iv, 400)
    before = len(bench.wire)
    bench.inject(replace(sent, data=smaller[1]))
    assert len(bench.wire) == before
    bench.inject(replace(sent, data=smaller[0]))
    assert [d.data for d in bench.wire[before:]] == [answer.data]


def test_assembly_survives_replayed_and_forged_fragments() -> None:
    bench = up()
    bench.fate = lambda d: [] if is_fragment(d.data) else [LATENCY]
    (sa,) = sas_of(bench.a)
    exchange = Anything(INFORMATIONAL, [LONG])
    sa.queue(exchange, bench.now)
    bench.collect()
    sent = pieces(bench)
    for datagram in sent[:-1]:
        bench.inject(datagram)
        bench.inject(datagram)
        flipped = datagram.data[:-1] + bytes([datagram.data[-1] ^ 1])
        bench.inject(replace(datagram, data=flipped))
    bench.inject(sent[-1])
    bench.fate = lambda d: [LATENCY]
    bench.run(0.1)
    assert exchange.answer is not None


def test_incomplete_request_is_forgotten_after_a_while() -> None:
    bench = up(Limits(reassembly=5))
    bench.fate = lambda d: [] if is_fragment(d.data) and d.data[33] > 2 else [LATENCY]
    (sa,) = sas_of(bench.a)
    sa.queue(Anything(INFORMATIONAL, [LONG]), bench.now)
    bench.run(0.1)
    (receiver,) = sas_of(bench.b)
    assert waiting(receiver)
    sa.close(Cause.IKE_SA_LOST, bench.now)
    bench.run(6)
    assert not waiting(receiver)
    assert receiver.finished


@pytest.mark.usefixtures('long_auth')
def test_memory_is_bounded_when_initiator_is_unproven() -> None:
    """RFC 7383, 5: it has keys, since any host may do a key exchange."""
    bench = Bench(limits=Limits(reassembled_most=2000))
    bench.connect()
    assert not sas_of(bench.b)
    bench.settle()
    assert bench.a.all(IkeSaFailed)
    assert bench.b.endpoint._context.half_open == 0


def test_memory_is_not_reserved_for_unprotected_claims() -> None:
    bench = up()
    (sa,) = sas_of(bench.a)
    header = Header(sa.origin.spi_i, sa.origin.spi_r, INFORMATIONAL, 2, True, False)
    body = b'\x00\x01\xff\xff' + bytes(40)
    data = header.encode(PayloadType.SKF, 28 + 4 + len(body))
    data += bytes([0, 0]) + (4 + len(body)).to_bytes(2, 'big') + body
    template = bench.wire[0]
    bench.inject(replace(template, data=data))
    (receiver,) = sas_of(bench.b)
    assert bench.b.endpoint.snapshot().peer('a').counters.not_authentic == 1
    assert receiver.finished


# --- one reassembly ------------------------------------------------------------------------------


def cut(size: int, *, message_id: int = 5, text: bytes = bytes(3000)) -> list[bytes]:
    """The fragments of a message under the keys of `CIPHERS`."""
    header = Header(bytes([1]) * 8, bytes([2]) * 8, INFORMATIONAL, message_id, True, False)
    payload = NotifyPayload(NotifyType.SESSION_ID, text)
    return seal_fragments(header, [payload], OUT, make_iv, size)


BENCH = up()
OUT = cast(Cipher, sas_of(BENCH.a)[0]._channel._out)
IN = cast(Cipher, sas_of(BENCH.b)[0]._channel._in)
COUNT = iter(range(1000, 10**9))


def make_iv() -> bytes:
    """Never the same."""
    return next(COUNT).to_bytes(8, 'big')


@settings(max_examples=60)
@given(st.data(), st.integers(200, 1200))
def test_assembly_gives_message_once_in_any_order(data: st.DataObject, size: int) -> None:
    sent = cut(size)
    extra = data.draw(st.lists(st.sampled_from(sent), max_size=10))
    reassembly = Reassembly(5, Limits())
    complete = []
    missing = set(sent)
    for datagram in data.draw(st.permutations([*sent, *extra])):
        if not missing:
            break
        try:
            message = reassembly.add(datagram, IN)
        except IntegrityFailure:
            assert datagram not in missing
            continue
        missing.discard(datagram)
        if message:
            complete.append(message)
    assert [m.payloads for m in complete] == [(NotifyPayload(NotifyType.SESSION_ID, bytes(3000)),)]


def test_assembly_restarts_for_smaller_pieces_only() -> None:
    large, small = cut(1200), cut(600)
    reassembly = Reassembly(5, Limits())
    assert reassembly.add(large[0], IN) is None
    assert reassembly.add(small[0], IN) is None
    with pytest.raises(IntegrityFailure):
        reassembly.add(large[1], IN)
    messages = [reassembly.add(datagram, IN) for datagram in small[1:]]
    assert messages[-1] is not None
    assert reassembly.first == small[0]


def test_first_fragment_belongs_to_assembled_pieces() -> None:
    large, small = cut(1200), cut(600)
    reassembly = Reassembly(5, Limits())
    assert reassembly.first == b''
    reassembly.add(large[0], IN)
    assert reassembly.first == large[0]
    reassembly.add(small[1], IN)
    assert reassembly.first == b''


def test_fragments_of_two_messages_are_not_mixed() -> None:
    """The same exchange can't send two; whose header differs doesn't belong here."""
    sent = cut(1200)
    header = Header(bytes([1]) * 8, bytes([2]) * 8, AUTH, 5, True, False)
    payload = NotifyPayload(NotifyType.SESSION_ID, bytes(3000))
    other = seal_fragments(header, [payload], OUT, make_iv, 1200)
    reassembly = Reassembly(5, Limits())
    reassembly.add(sent[0], IN)
    with pytest.raises(IntegrityFailure):
        reassembly.add(other[1], IN)


@pytest.mark.parametrize('limits', [Limits(fragments_most=2), Limits(reassembled_most=500)])
def test_assembly_blames_peer_when_set_is_too_large(limits: Limits) -> None:
    with pytest.raises(MalformedMessage):
        Reassembly(5, limits).add(cut(700)[0], IN)


def test_whole_message_is_no_fragment() -> None:
    with pytest.raises(IntegrityFailure):
        Reassembly(5, Limits()).add(BENCH.wire[-1].data, IN)
    with pytest.raises(IntegrityFailure):
        Reassembly(5, Limits()).add(b'', IN)


def test_long_requests_end_when_datagrams_are_lost() -> None:
    bench = up()
    drops = iter([True, False, False] * 100)
    bench.fate = lambda d: [] if next(drops, False) else [LATENCY]
    (sa,) = sas_of(bench.a)
    exchange = Anything(INFORMATIONAL, [LONG])
    sa.queue(exchange, bench.now)
    bench.run(40)
    assert (exchange.answer is None) != (exchange.cause is None)
    bench.fate = lambda d: [LATENCY]
    bench.negotiate(rp_request(3))
    assert bench.a.all(RpSaNegotiated)

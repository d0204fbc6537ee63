"""IKE_SA_INIT (RFC 7296, 1.2, 2.1, 2.6, 2.7, 2.21.1, 2.23): what proves nothing decides little."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

import ikev2.exchanges.ike_init_responder as responder
from ikev2.constants import VENDOR_ID, ExchangeType, KeyExchangeId, NotifyType
from ikev2.crypto.cipher import AES_128_GCM_16, AES_256_GCM_16
from ikev2.crypto.key_exchange import respond
from ikev2.events import (
    Cause,
    Datagram,
    IkeMessage,
    IkeSaFailed,
    IkeSaUp,
    RpSaFailed,
    RpSaNegotiated,
)
from ikev2.limits import Limits
from ikev2.proposals.ike import IkePolicy
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import (
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    UnknownPayload,
    VendorIdPayload,
)
from ikev2.wire.payloads_sa import SaPayload
from keymaterial import Secret
from tests.ikev2.bench import (
    A_ADDRESS,
    B_ADDRESS,
    LATENCY,
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

SPI = bytes.fromhex('0102030405060708')
STRANGER = ip_address('10.0.0.3')


def init_request(
    *, spi: bytes = SPI, nonce: bytes = bytes(range(32)), extra: tuple[Payload, ...] = ()
) -> Datagram:
    """An IKE_SA_INIT request that A might send."""
    ke = KeyExchangePayload(KeyExchangeId.CURVE25519, bytes([9]) + bytes(31))
    payloads = (*extra, IkePolicy().offer(), ke, NoncePayload(nonce))
    header = Header(spi, bytes(8), ExchangeType.IKE_SA_INIT, 0, True, False)
    return Datagram(Message(header, payloads).encode(), A_ADDRESS, 500, B_ADDRESS, 500)


def answers(bench: Bench) -> list[Message]:
    """Return the messages that B sent without protection."""
    return [Message.decode(d.data) for d in bench.sent_by(bench.b)]


def the_notify(message: Message) -> NotifyPayload:
    """Return the notification of a message that has no other payload."""
    (payload,) = message.payloads
    assert isinstance(payload, NotifyPayload)
    return payload


# --- who may ask -------------------------------------------------------------------------------


def test_unknown_address_is_dropped_before_key_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError('a key exchange for a stranger')

    monkeypatch.setattr(responder, 'respond', never)
    bench = Bench()
    bench.inject(replace(init_request(), local=STRANGER))
    assert not list(bench.sent_by(bench.b))
    assert bench.b.endpoint.snapshot().unknown_sources.unknown_address == 1
    assert not sas_of(bench.b)


def test_peer_is_served_only_at_its_configured_address() -> None:
    bench = Bench()
    bench.inject(replace(init_request(), remote=ip_address('10.0.0.9')))
    assert bench.b.endpoint.snapshot().unknown_sources.unknown_address == 1


def test_request_with_message_id_or_spi_is_no_ike_sa_init() -> None:
    bench = Bench()
    for octet in (8, 23):
        request = bytearray(init_request().data)
        request[octet] = 1
        bench.inject(altered(init_request(), bytes(request)))
    assert not answers(bench)
    assert bench.b.endpoint.snapshot().peer('a').counters.unexpected == 2


# --- the cookie --------------------------------------------------------------------------------


def test_initiator_returns_cookie_first() -> None:
    bench = Bench(limits=Limits(half_open_before_cookies=0))
    bench.connect()
    assert bench.a.last(IkeSaUp)
    first, again = [
        Message.decode(d.data)
        for d in bench.sent_by(bench.a)
        if is_kind(d, ExchangeType.IKE_SA_INIT, response=False)
    ]
    cookie, *rest = again.payloads
    assert isinstance(cookie, NotifyPayload)
    assert cookie.notify_type == NotifyType.COOKIE
    assert tuple(rest) == first.payloads  # RFC 7296, 2.6: "all other payloads unchanged"
    assert the_notify(answers(bench)[0]) == cookie


def test_responder_keeps_nothing_before_cookie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed: list[int] = []

    def counted(group: int, value: bytes) -> tuple[bytes, Secret]:
        computed.append(group)
        return respond(group, value)

    monkeypatch.setattr(responder, 'respond', counted)
    bench = Bench(limits=Limits(half_open_before_cookies=0))
    endpoint, context = bench.b.endpoint, bench.b.endpoint._context
    (association,) = endpoint._associations.values()

    def kept() -> list[bool]:
        """Per place for state of a peer's IKE_SA_INIT, whether there is any."""
        return [
            bool(context.sas),
            bool(association.sas),
            bool(context.initials),
            context.half_open > 0,
            endpoint.next_timer() is not None,
            bool(computed),
        ]

    for number in range(20):
        bench.inject(init_request(spi=SPI[:7] + bytes([number])))
        cookie = the_notify(answers(bench)[-1])
        assert cookie.notify_type == NotifyType.COOKIE
    assert not any(kept())
    assert not context.pending
    assert not context.attempts
    bench.inject(init_request(spi=SPI[:7] + bytes([number]), extra=(cookie,)))
    assert all(kept())


@pytest.mark.parametrize('change', ['spi', 'nonce', 'address', 'cookie'])
def test_cookie_is_good_for_one_spi_nonce_and_address(change: str) -> None:
    pair = (B_ADDRESS, STRANGER)
    a = replace(peer_a(), addresses=(*peer_a().addresses, pair))
    bench = Bench(a=a, limits=Limits(half_open_before_cookies=0))
    bench.inject(init_request())
    cookie = the_notify(answers(bench)[0])
    if change == 'cookie':
        cookie = replace(cookie, data=cookie.data[:-1] + bytes([cookie.data[-1] ^ 1]))
    spi = SPI[::-1] if change == 'spi' else SPI
    nonce = bytes(32) if change == 'nonce' else bytes(range(32))
    request = init_request(spi=spi, nonce=nonce, extra=(cookie,))
    if change == 'address':
        request = replace(request, local=STRANGER)
    bench.inject(request)
    assert the_notify(answers(bench)[1]).notify_type == NotifyType.COOKIE
    assert not sas_of(bench.b)


def test_cookie_is_good_for_last_two_secrets() -> None:
    for minutes, good in ((1.5, True), (2.5, False)):
        bench = Bench(limits=Limits(half_open_before_cookies=0, unprotected_errors_per_second=99))
        bench.inject(init_request())
        cookie = the_notify(answers(bench)[0])
        bench.run(45)
        bench.inject(init_request(spi=SPI[::-1]))  # time passes for the secrets, too
        bench.run(minutes * 60 - 45)
        bench.inject(init_request(extra=(cookie,)))
        assert bool(sas_of(bench.b)) is good


def test_oldest_half_open_is_dropped_beyond_limit() -> None:
    bench = Bench(limits=Limits(half_open_before_cookies=2, half_open_most=3))
    for number in range(3):
        bench.inject(init_request(spi=SPI[:7] + bytes([number])))
    assert len(sas_of(bench.b)) == 2
    cookie = the_notify(answers(bench)[2])
    bench.inject(init_request(spi=SPI[:7] + bytes([2]), extra=(cookie,)))
    assert len(sas_of(bench.b)) == 3
    bench.inject(init_request(spi=SPI[:7] + bytes([3]), extra=(cookie,)))
    assert len(answers(bench)) == 5
    others = sas_of(bench.b)[1:]
    bench.inject(init_request(spi=SPI[:7] + bytes([3]), extra=(the_notify(answers(bench)[4]),)))
    assert sas_of(bench.b)[:2] == others
    assert len(sas_of(bench.b)) == 3


def test_half_open_ike_sas_are_dropped_after_a_while() -> None:
    bench = Bench()
    bench.inject(init_request())
    assert len(sas_of(bench.b)) == 1
    bench.run(31)
    assert not sas_of(bench.b)
    assert bench.b.endpoint._context.half_open == 0


def test_responder_is_given_up_when_cookies_never_end() -> None:
    bench = Bench()

    def always_a_cookie(datagram: Datagram) -> list[float]:
        if datagram.local == A_ADDRESS:
            header = replace(header_of(datagram), initiator=False, response=True)
            cookie = NotifyPayload(NotifyType.COOKIE, bytes([len(bench.wire) % 256]))
            data = Message(header, (cookie,)).encode()
            answer = Datagram(data, B_ADDRESS, 500, A_ADDRESS, 500)
            bench._air.append((bench.now + LATENCY, 0, answer))
        return []

    bench.fate = always_a_cookie
    bench.a.endpoint.connect('b', bench.now)
    bench.run(40)
    assert bench.a.last(IkeSaFailed).cause == Cause.NO_ANSWER
    assert len(list(bench.sent_by(bench.a))) < 30


# --- the group ---------------------------------------------------------------------------------


def policies(a_groups: tuple[int, ...], b_groups: tuple[int, ...]) -> Bench:
    """A and B with the key exchange methods that they want, in order."""
    a_policy = IkePolicy(groups=tuple(KeyExchangeId(g) for g in a_groups))
    b_policy = IkePolicy(groups=tuple(KeyExchangeId(g) for g in b_groups))
    return Bench(b=replace(peer_b(), policy=a_policy), a=replace(peer_a(), policy=b_policy))


def test_initiator_repeats_in_responders_group() -> None:
    bench = policies((31, 19), (19,))
    bench.connect()
    assert 'ecp-256' in bench.a.last(IkeSaUp).suite
    told = [m.detail for m in bench.b.all(IkeMessage) if m.exchange == 'IKE_SA_INIT']
    assert told[0].startswith('SA(IKE)')
    assert told[1] == 'N(INVALID_KE_PAYLOAD)'
    wrong = the_notify(answers(bench)[0])
    assert (wrong.notify_type, wrong.data) == (NotifyType.INVALID_KE_PAYLOAD, b'\0\x13')
    first, again = [
        Message.decode(d.data)
        for d in bench.sent_by(bench.a)
        if is_kind(d, ExchangeType.IKE_SA_INIT, response=False)
    ]
    # RFC 7296, 1.2: the whole offer again, against a downgrade by a forged answer.
    assert first.require(SaPayload) == again.require(SaPayload)


def test_group_as_good_as_wanted_costs_no_round_trip() -> None:
    bench = policies((19, 31), (31, 19))
    bench.connect()
    assert 'ecp-256' in bench.a.last(IkeSaUp).suite
    assert answers(bench)[0].require(KeyExchangePayload).group == KeyExchangeId.ECP_256


def test_initiator_with_weaker_group_is_asked_for_better() -> None:
    bench = policies((14, 31), (31, 19, 14))
    bench.connect()
    wrong = the_notify(answers(bench)[0])
    assert (wrong.notify_type, wrong.data) == (NotifyType.INVALID_KE_PAYLOAD, b'\0\x1f')
    assert 'curve25519' in bench.a.last(IkeSaUp).suite


@pytest.mark.parametrize('asks', [(31, 19), (14, 31)])
def test_handshake_succeeds_with_cookie_and_group_together(asks: tuple[int, ...]) -> None:
    bench = policies(asks, (31, 14) if 14 in asks else (19,))
    bench.b.endpoint._context.limits = Limits(half_open_before_cookies=0)
    bench.connect()
    assert bench.a.last(IkeSaUp)


@pytest.mark.parametrize('group', [b'\0\x02', b'\0\x1f', b'\0', b''])
def test_demand_for_foreign_group_is_ignored(group: bytes) -> None:
    bench = Bench()
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    header = replace(header_of(bench.wire[0]), initiator=False, response=True)
    wrong = NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, group)
    bench.inject(Datagram(Message(header, (wrong,)).encode(), B_ADDRESS, 500, A_ADDRESS, 500))
    assert len(bench.wire) == 1


def test_both_ends_report_when_no_suite_is_common() -> None:
    b = replace(peer_b(), policy=IkePolicy(encryptions=(AES_128_GCM_16,)))
    bench = Bench(b=b)
    bench.a.endpoint.connect('b', bench.now)
    bench.run(20)
    failed = bench.a.last(IkeSaFailed)
    assert (failed.step, failed.cause) == ('IKE_SA_INIT', Cause.NO_PROPOSAL_CHOSEN)
    assert bench.b.endpoint.snapshot().peer('a').counters.refused > 0


# --- repetition and forgery --------------------------------------------------------------------


def test_repeated_request_gets_same_answer_and_no_new_ike_sa() -> None:
    bench = Bench()
    bench.inject(init_request())
    bench.inject(init_request())
    first, second = bench.sent_by(bench.b)
    assert first.data == second.data
    assert len(sas_of(bench.b)) == 1


def test_request_is_ignored_when_repeated_after_ike_auth() -> None:
    bench = Bench()
    bench.connect()
    before = len(bench.wire)
    bench.inject(bench.wire[0])
    assert len(bench.wire) == before
    assert len(sas_of(bench.b)) == 1


def test_initiator_continues_when_refusal_is_forged() -> None:
    bench = Bench()
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    header = replace(header_of(bench.wire[0]), initiator=False, response=True)
    refusal = Message(header, (NotifyPayload(NotifyType.NO_PROPOSAL_CHOSEN),))
    bench.inject(Datagram(refusal.encode(), B_ADDRESS, 500, A_ADDRESS, 500))
    bench.fate = deliver
    bench.run(5)
    assert bench.a.last(IkeSaUp)


@pytest.mark.parametrize('octet', [18, 20, 40, 50])
def test_initiator_continues_when_answer_is_garbled(octet: int) -> None:
    bench = Bench()
    garbled: list[Datagram] = []

    def garble(datagram: Datagram) -> list[float]:
        if datagram.local == B_ADDRESS and not garbled:
            data = bytearray(datagram.data)
            data[octet] ^= 0xFF
            garbled.append(altered(datagram, bytes(data)))
            return []
        return [LATENCY]

    bench.fate = garble
    bench.a.endpoint.connect('b', bench.now)
    bench.run(0.1)
    bench.inject(garbled[0])
    bench.run(20)
    assert bench.a.last(IkeSaUp)


def test_answer_is_dropped_when_it_comes_from_elsewhere() -> None:
    bench = Bench()

    def from_elsewhere(datagram: Datagram) -> list[float]:
        return [LATENCY] if datagram.local == A_ADDRESS else []

    bench.fate = from_elsewhere
    bench.a.endpoint.connect('b', bench.now)
    bench.settle()
    answer = next(bench.sent_by(bench.b))
    bench.inject(replace(answer, local_port=501))
    assert bench.a.endpoint.snapshot().peer('b').counters.unexpected == 1
    assert not bench.a.all(IkeSaUp)


def test_attempt_fails_when_nobody_answers() -> None:
    bench = Bench()
    bench.fate = lambda datagram: []
    number = bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(31)
    failed = bench.a.last(IkeSaFailed)
    assert (failed.step, failed.cause) == ('IKE_SA_INIT', Cause.NO_ANSWER)
    assert '10.0.0.2' in failed.text
    lost = bench.a.last(RpSaFailed)
    assert (lost.exchange, lost.cause) == (number, Cause.NO_ANSWER)
    assert bench.a.endpoint.next_timer() is None


# --- form --------------------------------------------------------------------------------------


def test_unknown_critical_payload_is_refused_by_number() -> None:
    bench = Bench()
    bench.inject(init_request(extra=(UnknownPayload(200, b'x', critical=True),)))
    refusal = the_notify(answers(bench)[0])
    assert refusal.notify_type == NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD
    assert refusal.data == bytes([200])


def test_unknown_payload_is_skipped_when_not_critical() -> None:
    bench = Bench()
    bench.inject(init_request(extra=(UnknownPayload(200, b'x'),)))
    assert len(sas_of(bench.b)) == 1


def test_newer_major_version_is_answered_with_ours() -> None:
    bench = Bench()
    request = bytearray(init_request().data)
    request[17] = 0x30
    bench.inject(altered(init_request(), bytes(request)))
    (answer,) = answers(bench)
    assert answer.header.initiator_spi == SPI
    assert the_notify(answer) == NotifyPayload(NotifyType.INVALID_MAJOR_VERSION, b'\x02')


def test_unprotected_errors_are_limited() -> None:
    bench = Bench()
    for number in range(50):
        request = bytearray(init_request(spi=SPI[:7] + bytes([number])).data)
        request[17] = 0x30
        bench.inject(altered(init_request(), bytes(request)))
    assert len(answers(bench)) == Limits().unprotected_errors_per_second


def test_malformed_requests_are_counted_and_not_answered() -> None:
    bench = Bench()
    bench.inject(altered(init_request(), init_request().data[:-1]))
    bench.inject(altered(init_request(), b'not IKE'))
    bench.inject(altered(init_request(), b''))
    assert not answers(bench)
    assert bench.b.endpoint.snapshot().peer('a').counters.malformed == 3


def test_profile_is_known_by_vendor_id() -> None:
    assert VENDOR_ID.hex() == '666dabb99f967d6741fdf6774d5f6084'
    bench = Bench()
    bench.connect()
    for message in (Message.decode(d.data) for d in bench.wire[:2]):
        assert VendorIdPayload(VENDOR_ID) in message.payloads
    assert bench.a.last(IkeSaUp).profile
    assert bench.b.last(IkeSaUp).profile


# --- NAT detection -----------------------------------------------------------------------------


class NattingBench(Bench):
    """B sees A at another port and A's messages pass a box that changes it."""

    def inject(self, datagram: Datagram) -> None:
        if datagram.remote == B_ADDRESS:
            datagram = replace(datagram, local_port=datagram.local_port + 10000)
        else:
            datagram = replace(datagram, remote_port=datagram.remote_port - 10000)
        super().inject(datagram)


def test_nat_is_not_found_without_one() -> None:
    bench = Bench()
    bench.connect()
    assert not bench.a.last(IkeSaUp).nat
    assert not bench.b.last(IkeSaUp).nat


def test_ike_moves_to_port_4500_when_nat_is_found() -> None:
    bench = NattingBench()
    bench.connect()
    assert bench.a.last(IkeSaUp).nat
    assert bench.b.last(IkeSaUp).nat
    auth = next(d for d in bench.wire if is_kind(d, ExchangeType.IKE_AUTH, response=False))
    assert (auth.local_port, auth.remote_port) == (4500, 4500)


def test_rp_sa_is_not_requested_through_nat() -> None:
    bench = NattingBench()
    bench.negotiate()
    assert bench.a.last(RpSaFailed).cause == Cause.NAT


def test_nat_is_looked_for_again_when_a_minute_is_over() -> None:
    bench = NattingBench()
    minutes = 5
    for second in range(60 * minutes):
        bench.negotiate(rp_request(1 + second % 200))
    assert not bench.a.all(RpSaNegotiated)
    assert len(bench.a.all(IkeSaUp)) == 1 + minutes
    assert len([sa for sa in sas_of(bench.a) if sa.finished]) == 1


def test_attempt_fails_when_responder_needs_a_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()

    def strip(datagram: Datagram) -> list[float]:
        return [LATENCY]

    original = Bench.inject

    def inject(self: Bench, datagram: Datagram) -> None:
        if is_kind(datagram, ExchangeType.IKE_SA_INIT, response=True):
            message = Message.decode(datagram.data)
            kept = tuple(
                p
                for p in message.payloads
                if p != NotifyPayload(NotifyType.CHILDLESS_IKEV2_SUPPORTED)
            )
            datagram = altered(datagram, Message(message.header, kept).encode())
        original(self, datagram)

    monkeypatch.setattr(Bench, 'inject', inject)
    bench.fate = strip
    bench.a.endpoint.connect('b', bench.now)
    bench.run(20)
    failed = bench.a.last(IkeSaFailed)
    assert failed.step == 'IKE_SA_INIT'
    assert 'RFC 6023' in failed.text


@pytest.mark.parametrize('cookie', [b'', bytes(65)])
def test_cookie_of_impossible_length_is_ignored(cookie: bytes) -> None:
    bench = Bench()
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    header = replace(header_of(bench.wire[0]), initiator=False, response=True)
    answer = Message(header, (NotifyPayload(NotifyType.COOKIE, cookie),)).encode()
    bench.inject(Datagram(answer, B_ADDRESS, 500, A_ADDRESS, 500))
    assert len(bench.wire) == 1


@pytest.mark.parametrize('wrong', ['spi', 'group', 'chosen group', 'nothing'])
def test_answer_is_dropped_when_it_does_not_fit(wrong: str) -> None:
    bench = Bench()
    bench.fate = lambda d: [LATENCY] if d.local == A_ADDRESS else []
    bench.a.endpoint.connect('b', bench.now)
    bench.run(0.1)
    genuine = next(bench.sent_by(bench.b))
    message = answers(bench)[0]
    header, payloads = message.header, message.payloads
    if wrong == 'spi':
        header = replace(header, responder_spi=bytes(8))
    elif wrong == 'group':
        other = KeyExchangePayload(KeyExchangeId.ECP_256, bytes(64))
        payloads = tuple(other if isinstance(p, KeyExchangePayload) else p for p in payloads)
    elif wrong == 'chosen group':
        policy = IkePolicy(encryptions=(AES_256_GCM_16,), groups=(KeyExchangeId.ECP_256,))
        payloads = tuple(policy.offer() if isinstance(p, SaPayload) else p for p in payloads)
    else:
        payloads = (VendorIdPayload(VENDOR_ID),)
    bench.inject(altered(genuine, Message(header, payloads).encode()))
    assert bench.a.endpoint.snapshot().peer('b').counters.malformed == 1
    bench.fate = deliver
    bench.inject(genuine)
    bench.settle()
    assert bench.a.last(IkeSaUp)


def test_cookies_go_on_when_errors_are_limited() -> None:
    """Else a flood from a forged address would keep the true peer from ever getting one."""
    bench = Bench(limits=Limits(half_open_before_cookies=0))
    for number in range(50):
        bench.inject(init_request(spi=SPI[:7] + bytes([number])))
    assert len(answers(bench)) == 50


def test_new_spi_never_begins_like_non_esp_marker() -> None:
    """RFC 7296, 2.23: four zero octets in front of a message mean something else."""
    drawn = iter([bytes(8), bytes(4) + b'spi!', b'good spi'])
    bench = Bench()
    bench.a.endpoint._context.random = lambda length: next(drawn, bytes(length))
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    assert header_of(bench.wire[0]).initiator_spi == b'good spi'

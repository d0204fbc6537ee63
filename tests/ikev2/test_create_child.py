"""CREATE_CHILD_SA for routing-protocol SAs (RFC 7296, 1.3, 2.9, 2.17, 2.25): what may go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from ikev2.authentication.identity import Identity
from ikev2.constants import (
    ExchangeType,
    IpProtocol,
    KeyExchangeId,
    NotifyType,
    ProtocolId,
)
from ikev2.crypto.key_exchange import KeyExchange
from ikev2.crypto.keys import child_keymat
from ikev2.errors import LocalError, WrongKeyExchangeGroup
from ikev2.events import (
    Cause,
    Datagram,
    DeleteAnswered,
    IkeMessage,
    IkeSaDown,
    IkeSaUp,
    KeysDeleted,
    RpSaAbandoned,
    RpSaFailed,
    RpSaNegotiated,
    RpSaRequested,
    Selector,
)
from ikev2.exchanges.rp_pending import lifetime_notify
from ikev2.limits import Limits
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.rp import offer_rp
from ikev2.sa.ike_sa import IkeSa
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import KeyExchangePayload, NoncePayload, NotifyPayload, UnknownPayload
from ikev2.wire.payloads_sa import Proposal, SaPayload
from ikev2.wire.payloads_ts import TrafficSelector, TrafficSelectorsPayload, TsiPayload, TsrPayload
from keymaterial import Secret
from tests.ikev2.bench import (
    A_ADDRESS,
    B_ADDRESS,
    LATENCY,
    SESSION_ID,
    Anything,
    Bench,
    deliver,
    is_kind,
    peer_a,
    peer_b,
    rp_request,
    sas_of,
    say,
)

CHILD, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL


def request_payloads(
    *,
    offer: SaPayload | None = None,
    ke: KeyExchangePayload | None = None,
    tsi: TsiPayload | None = None,
    extra: tuple[Payload, ...] = (),
    leave_out: type[object] | None = None,
) -> list[Payload]:
    """A well-formed request for an RP SA, but for what a test changes."""
    exchange = KeyExchange.generate(KeyExchangeId.CURVE25519)
    payloads: list[Payload] = [
        offer or offer_rp(1, ['hmac-sha-1-96'], [True], [KeyExchangeId.CURVE25519]),
        NoncePayload(bytes(32)),
        ke or KeyExchangePayload(exchange.group, exchange.public_value),
        tsi or TsiPayload.of(Selector(A_ADDRESS, 40001)),
        TsrPayload.of(Selector(B_ADDRESS, 179)),
        NotifyPayload(NotifyType.SESSION_ID, SESSION_ID),
        *extra,
    ]
    return [p for p in payloads if leave_out is None or not isinstance(p, leave_out)]


def up(**peers: object) -> Bench:
    """An IKE SA is up."""
    bench = Bench(**peers)  # type: ignore[arg-type]
    bench.connect()
    return bench


# --- the keys ----------------------------------------------------------------------------------


def test_master_key_is_keymat_of_sk_d_secret_and_nonces() -> None:
    bench = up()
    bench.b.obliging = False
    exchange = KeyExchange.generate(KeyExchangeId.CURVE25519)
    ke = KeyExchangePayload(exchange.group, exchange.public_value)
    (sa,) = sas_of(bench.a)
    sk_d = Secret(sa.keys.sk_d.reveal())
    asked = say(bench, bench.a, CHILD, request_payloads(ke=ke))
    keys = bench.b.accept(bench.b.last(RpSaRequested), bench.now)
    bench.settle()
    assert asked.answer is not None
    nr = asked.answer.require(NoncePayload).data
    shared = exchange.shared_secret(asked.answer.require(KeyExchangePayload).data)
    expected = child_keymat(sa.origin.suite.prf, sk_d, bytes(32), nr, 20, shared)
    assert keys
    assert keys.master_key == expected


@pytest.mark.parametrize(
    ('suite', 'length'), [('hmac-sha-1-96', 20), ('aes-128-cmac-96', 16), ('hmac-sha-256-128', 32)]
)
def test_master_key_has_length_of_its_suite(suite: str, length: int) -> None:
    bench = up()
    bench.negotiate(rp_request(suites=(suite,)))
    done = bench.a.last(RpSaNegotiated)
    assert (done.keys.suite, len(done.keys.master_key)) == (suite, length)
    assert done.keys.master_key == bench.b.accepted[0].master_key


def test_tcp_options_flag_is_that_of_the_request() -> None:
    bench = up()
    bench.negotiate(replace(rp_request(), tcp_options=False))
    assert bench.a.last(RpSaNegotiated).keys.tcp_options is False
    assert bench.b.accepted[0].tcp_options is False


def test_keys_are_ready_before_answer_is_sent() -> None:
    bench = up()
    bench.b.obliging = False
    bench.negotiate()
    event = bench.b.last(RpSaRequested)
    before = len(bench.wire)
    keys = bench.b.endpoint.prepare(event.token, 'hmac-sha-1-96', True, 5, 60, bench.now)
    assert keys
    bench.collect()
    assert len(bench.wire) == before
    bench.b.endpoint.answer(event.token, bench.now)
    bench.settle()
    assert bench.a.last(RpSaNegotiated).keys.master_key == keys.master_key


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('notify', 'data', 'cause'),
    [
        (NotifyType.TS_UNACCEPTABLE, b'', Cause.REFUSED),
        (NotifyType.NO_PROPOSAL_CHOSEN, b'', Cause.NO_PROPOSAL_CHOSEN),
        (NotifyType.TEMPORARY_FAILURE, b'', Cause.REFUSED),
        (NotifyType.NO_ADDITIONAL_SAS, b'', Cause.REFUSED),
        (NotifyType.KEYID_IN_USE, b'\x01\x05', Cause.REFUSED),
    ],
)
def test_refusal_reaches_initiator_with_its_data(
    notify: NotifyType, data: bytes, cause: Cause
) -> None:
    bench = up()
    bench.b.obliging = False
    number = bench.negotiate()
    bench.b.endpoint.refuse(bench.b.last(RpSaRequested).token, notify, data, bench.now)
    bench.settle()
    failed = bench.a.last(RpSaFailed)
    assert (failed.exchange, failed.cause, failed.notify, failed.data) == (
        number,
        cause,
        notify,
        data,
    )
    assert notify.name in failed.text
    assert not bench.a.all(IkeSaDown)


def test_child_sa_not_found_names_protocol_and_keyid() -> None:
    bench = up()
    bench.b.obliging = False
    rekey = NotifyPayload(NotifyType.REKEY_SA, b'', ProtocolId.TCP_AO, b'\x2a')
    asked = say(bench, bench.a, CHILD, request_payloads(extra=(rekey,)))
    event = bench.b.last(RpSaRequested)
    assert event.offer.rekey_keyid == 0x2A
    bench.b.endpoint.refuse(event.token, NotifyType.CHILD_SA_NOT_FOUND, b'', bench.now)
    bench.settle()
    assert asked.answer is not None
    (notify,) = asked.answer.payloads
    assert notify == NotifyPayload(NotifyType.CHILD_SA_NOT_FOUND, b'', ProtocolId.TCP_AO, b'\x2a')


def test_keyids_in_use_reach_responder() -> None:
    bench = up()
    bench.negotiate(replace(rp_request(), keyids_in_use=(0x11, 0x12)))
    assert bench.b.last(RpSaRequested).offer.keyids_in_use == (0x11, 0x12)


def test_keyids_in_use_are_told_once_when_repeated() -> None:
    bench = up()
    bench.b.obliging = False
    notify = NotifyPayload(NotifyType.KEYID_IN_USE, b'\x12\x11' * 1000)
    say(bench, bench.a, CHILD, request_payloads(extra=(notify,)))
    assert bench.b.last(RpSaRequested).offer.keyids_in_use == (0x12, 0x11)


@pytest.mark.parametrize(
    ('payloads', 'notify'),
    [
        (lambda: request_payloads(leave_out=KeyExchangePayload), NotifyType.NO_PROPOSAL_CHOSEN),
        (
            lambda: request_payloads(offer=offer_rp(1, ['hmac-sha-1-96'], [True], [])),
            NotifyType.NO_PROPOSAL_CHOSEN,
        ),
        (
            lambda: request_payloads(
                offer=SaPayload((Proposal(1, ProtocolId.ESP, b'\1\2\3\4', ()),))
            ),
            NotifyType.NO_PROPOSAL_CHOSEN,
        ),
        (
            lambda: request_payloads(
                offer=SaPayload(
                    (
                        Proposal(1, ProtocolId.TCP_AO, b'', ()),
                        *offer_rp(1, ['hmac-sha-1-96'], [True], [31]).proposals,
                    )
                ),
            ),
            None,
        ),
        (lambda: request_payloads(tsi=selectors(ports=(1024, 65535))), NotifyType.TS_UNACCEPTABLE),
        (lambda: request_payloads(tsi=selectors(protocol=17)), NotifyType.TS_UNACCEPTABLE),
        (lambda: request_payloads(tsi=selectors(count=2)), NotifyType.TS_UNACCEPTABLE),
        (
            lambda: request_payloads(extra=(UnknownPayload(201, b'', critical=True),)),
            NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD,
        ),
    ],
    ids=[
        'no KE payload',
        'no KE transform',
        'ESP',
        'one proposal is unusable, the other good',
        'port range',
        'UDP',
        'two selectors',
        'critical payload',
    ],
)
def test_ike_sa_stays_up_when_ike_refuses_request(
    payloads: Callable[[], list[Payload]], notify: NotifyType | None
) -> None:
    bench = up()
    asked = say(bench, bench.a, CHILD, payloads())
    assert asked.notifies()[:1] == [notify or NotifyType.MKT_LIFETIME]
    assert bool(bench.b.all(RpSaRequested)) is (notify is None)
    bench.negotiate()
    assert bench.a.last(RpSaNegotiated)


def selectors(
    *, protocol: int = IpProtocol.TCP, ports: tuple[int, int] = (40001, 40001), count: int = 1
) -> TsiPayload:
    """TSi as this profile doesn't have it."""
    one = TrafficSelector(protocol, *ports, A_ADDRESS.packed, A_ADDRESS.packed)
    return TsiPayload((one,) * count)


@pytest.mark.parametrize(
    'payloads',
    [
        lambda: request_payloads(leave_out=NoncePayload),
        lambda: request_payloads(leave_out=SaPayload),
        lambda: request_payloads(leave_out=TrafficSelectorsPayload),
        lambda: request_payloads(extra=(NotifyPayload(NotifyType.MKT_LIFETIME, b'\0\0\1'),)),
        lambda: request_payloads(
            extra=(NotifyPayload(NotifyType.REKEY_SA, b'', ProtocolId.TCP_AO, b'\0\1'),)
        ),
        lambda: request_payloads(ke=KeyExchangePayload(KeyExchangeId.CURVE25519, bytes(32))),
        lambda: request_payloads(ke=KeyExchangePayload(KeyExchangeId.CURVE25519, b'short')),
    ],
    ids=['no nonce', 'no SA', 'no selectors', 'lifetime', 'REKEY_SA', 'zero point', 'short KE'],
)
def test_ike_sa_ends_at_both_sides_when_syntax_is_bad(
    payloads: Callable[[], list[Payload]],
) -> None:
    """RFC 7296, 2.21.3: INVALID_SYNTAX is fatal, without a Delete."""
    bench = up()
    asked = say(bench, bench.a, CHILD, payloads())
    assert asked.notifies() == [NotifyType.INVALID_SYNTAX]
    assert not sas_of(bench.a)
    assert not sas_of(bench.b)
    assert bench.b.last(IkeSaDown)
    assert not bench.b.all(RpSaRequested)


def test_unknown_exchange_is_answered() -> None:
    bench = up()
    asked = say(bench, bench.a, ExchangeType.IKE_SESSION_RESUME, [])
    assert asked.notifies() == [NotifyType.INVALID_SYNTAX]


def test_requests_are_put_off_when_beyond_limit() -> None:
    bench = up(limits=Limits(child_requests=10, child_requests_within=1.0))
    bench.run(2)
    for keyid in range(1, 13):
        bench.a.endpoint.request('b', rp_request(keyid), bench.now)
    bench.run(0.5)
    assert len(bench.a.all(RpSaNegotiated)) == 10
    refused = bench.a.all(RpSaFailed)
    assert [f.notify for f in refused] == [NotifyType.TEMPORARY_FAILURE] * 2
    bench.run(1)
    bench.negotiate(rp_request(20))
    assert len(bench.a.all(RpSaNegotiated)) == 11


# --- the group ---------------------------------------------------------------------------------


def test_request_is_repeated_when_responder_wants_other_group() -> None:
    both = IkePolicy(groups=(KeyExchangeId.CURVE25519, KeyExchangeId.ECP_256))
    bench = Bench(b=replace(peer_b(), policy=both), a=replace(peer_a(), policy=both))
    bench.connect()
    (association,) = bench.b.endpoint._associations.values()
    association.peer = replace(association.peer, policy=IkePolicy(groups=(KeyExchangeId.ECP_256,)))
    number = bench.negotiate()
    done = bench.a.last(RpSaNegotiated)
    assert done.exchange == number
    assert done.keys.master_key == bench.b.accepted[0].master_key
    details = [m.detail for m in bench.a.all(IkeMessage) if m.exchange == 'CREATE_CHILD_SA']
    assert details[1] == 'N(INVALID_KE_PAYLOAD)'
    assert len(details) == 4


def test_request_fails_when_group_demands_never_end() -> None:
    bench = up()
    (association,) = bench.b.endpoint._associations.values()
    association.peer = replace(association.peer, policy=IkePolicy(groups=(KeyExchangeId.ECP_384,)))
    bench.negotiate()
    assert bench.a.last(RpSaFailed).notify == NotifyType.NO_PROPOSAL_CHOSEN


def test_peer_is_given_up_when_no_group_suits(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(sa: IkeSa, message: Message, now: float) -> None:
        group = message.require(KeyExchangePayload).group
        raise WrongKeyExchangeGroup(19 if group == 31 else 31)

    monkeypatch.setattr('ikev2.exchanges.create_child.serve_rp_sa', serve)
    bench = up()
    bench.negotiate()
    assert bench.a.last(RpSaFailed).notify == NotifyType.INVALID_KE_PAYLOAD
    requests = [d for d in bench.wire if is_kind(d, CHILD, response=False)]
    assert len(requests) == 1 + Limits().group_retries


# --- a strange answer --------------------------------------------------------------------------


def answering(bench: Bench, change: Callable[[list[Payload]], list[Payload]]) -> None:
    """Let B change the answer that it prepared."""
    bench.b.obliging = False
    bench.negotiate()
    event = bench.b.last(RpSaRequested)
    bench.b.endpoint.prepare(event.token, 'hmac-sha-1-96', True, 0x33, 60, bench.now)
    pending = bench.b.endpoint._request(event.token)
    pending.prepared = change(pending.prepared)
    bench.b.endpoint.answer(event.token, bench.now)
    bench.b.obliging = True
    bench.settle()


def swap(old: type[object], new: Payload | None) -> Callable[[list[Payload]], list[Payload]]:
    """Replace, or take out, a payload."""

    def change(payloads: list[Payload]) -> list[Payload]:
        found = [new if isinstance(p, old) else p for p in payloads]
        return [p for p in found if p is not None]

    return change


@pytest.mark.parametrize(
    ('change', 'cause'),
    [
        (
            swap(TsiPayload, TsiPayload.of(Selector(A_ADDRESS, 40002))),
            Cause.SELECTORS_CHANGED,
        ),
        (
            swap(TsrPayload, TsrPayload.of(Selector(ip_address('10.9.9.9'), 179))),
            Cause.SELECTORS_CHANGED,
        ),
        (swap(TsrPayload, None), Cause.MALFORMED),
        (swap(NoncePayload, None), Cause.MALFORMED),
        (swap(KeyExchangePayload, None), Cause.MALFORMED),
        (
            swap(KeyExchangePayload, KeyExchangePayload(KeyExchangeId.CURVE25519, bytes(32))),
            Cause.MALFORMED,
        ),
        (
            swap(SaPayload, offer_rp(0x33, ['kmac256-128'], [True], [31])),
            Cause.MALFORMED,
        ),
        (
            swap(SaPayload, offer_rp(0x33, ['hmac-sha-1-96'], [False], [31])),
            Cause.MALFORMED,
        ),
        (
            swap(SaPayload, offer_rp(0x33, ['hmac-sha-1-96'], [True], [19])),
            Cause.MALFORMED,
        ),
    ],
    ids=['TSi', 'TSr', 'no TSr', 'no nonce', 'no KE', 'zero KE', 'suite', 'options', 'group'],
)
def test_request_is_undone_when_answer_does_not_fit(
    change: Callable[[list[Payload]], list[Payload]], cause: Cause
) -> None:
    bench = up()
    answering(bench, change)
    assert bench.a.last(RpSaFailed).cause == cause
    assert not bench.a.all(RpSaNegotiated)
    assert bench.b.last(KeysDeleted).recv_ids == (1,)
    assert not bench.a.all(DeleteAnswered)


# --- cancelling --------------------------------------------------------------------------------


def test_request_is_cancelled_without_trace_when_unsent() -> None:
    bench = Bench()
    number = bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.a.endpoint.cancel('b', number, bench.now)
    bench.settle()
    assert bench.a.last(RpSaFailed).cause == Cause.CANCELLED
    assert not bench.b.all(RpSaRequested)


def test_request_is_cancelled_by_delete_when_on_its_way() -> None:
    bench = up()
    number = bench.a.endpoint.request('b', rp_request(6), bench.now)
    bench.a.endpoint.cancel('b', number, bench.now)
    assert not bench.a.all(RpSaFailed)
    bench.settle()
    assert bench.a.last(RpSaFailed).cause == Cause.CANCELLED
    assert bench.b.last(KeysDeleted).recv_ids == (6,)
    assert not bench.a.all(RpSaNegotiated)


def test_delete_of_cancelled_request_precedes_next_request() -> None:
    bench = up()
    number = bench.a.endpoint.request('b', rp_request(6), bench.now)
    again = bench.a.endpoint.request('b', rp_request(6), bench.now)
    bench.a.endpoint.cancel('b', number, bench.now)
    bench.settle()
    story = [type(e) for e in bench.b.story() if isinstance(e, RpSaRequested | KeysDeleted)]
    assert story == [RpSaRequested, KeysDeleted, RpSaRequested]
    assert bench.a.last(RpSaNegotiated).exchange == again


def test_cancel_does_nothing_when_request_has_ended() -> None:
    bench = up()
    number = bench.negotiate()
    bench.a.endpoint.cancel('b', number, bench.now)
    bench.settle()
    assert not bench.a.all(RpSaFailed)


# --- loss --------------------------------------------------------------------------------------


def test_repeated_request_is_answered_once_when_user_is_slow() -> None:
    bench = up()
    bench.b.obliging = False
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(5)
    assert len(bench.b.all(RpSaRequested)) == 1
    requests = [d for d in bench.wire if is_kind(d, CHILD, response=False)]
    assert len(requests) > 2
    assert len({d.data for d in requests}) == 1
    bench.b.accept(bench.b.last(RpSaRequested), bench.now)
    bench.settle()
    assert bench.a.last(RpSaNegotiated)
    assert len([d for d in bench.wire if is_kind(d, CHILD, response=True)]) == 1


def test_lost_answer_is_repeated_without_second_effect() -> None:
    bench = up()
    lost: list[Datagram] = []

    def lose(datagram: Datagram) -> list[float]:
        if is_kind(datagram, CHILD, response=True) and len(lost) < 3:
            lost.append(datagram)
            return []
        return deliver(datagram)

    bench.fate = lose
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(10)
    assert bench.a.last(RpSaNegotiated).keys.master_key == bench.b.accepted[0].master_key
    assert len(bench.b.accepted) == 1
    assert len({d.data for d in bench.wire if is_kind(d, CHILD, response=True)}) == 1
    assert bench.b.endpoint.snapshot().peer('a').counters.repeated == 3


def test_requests_wait_for_window_of_one() -> None:
    bench = up()
    bench.b.obliging = False
    for keyid in (1, 2, 3):
        bench.a.endpoint.request('b', rp_request(keyid), bench.now)
    bench.settle()
    assert [e.offer.keyid for e in bench.b.all(RpSaRequested)] == [1]
    bench.b.accept(bench.b.last(RpSaRequested), bench.now)
    bench.settle()
    assert [e.offer.keyid for e in bench.b.all(RpSaRequested)] == [1, 2]


def test_request_and_ike_sa_end_without_answer() -> None:
    bench = up()
    bench.fate = lambda datagram: []
    number = bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(31)
    failed = bench.a.last(RpSaFailed)
    assert (failed.exchange, failed.cause) == (number, Cause.NO_ANSWER)
    assert bench.a.last(IkeSaDown).cause == Cause.NO_ANSWER
    # Our user decides when to begin again: what there is to clear up doesn't.
    assert not is_kind(bench.wire[-1], ExchangeType.IKE_SA_INIT, response=False)


def test_lost_request_is_undone_before_next_one() -> None:
    """The peer may have made an MKT whose answer never came."""
    bench = up()
    bench.fate = lambda d: [] if d.local == B_ADDRESS else deliver(d)
    bench.a.endpoint.request('b', rp_request(9), bench.now)
    bench.run(31)
    bench.fate = deliver
    bench.negotiate(rp_request(9))
    story = [type(e) for e in bench.b.story() if isinstance(e, RpSaRequested | KeysDeleted)]
    assert story == [RpSaRequested, KeysDeleted, RpSaRequested]
    assert bench.b.last(KeysDeleted).recv_ids == (9,)
    assert bench.a.last(RpSaNegotiated)


def undone_in_vain() -> Bench:
    """A's DELETE for a cancelled request goes over an IKE SA that B has lost, and has replaced."""
    bench = up()
    bench.b.mkts = True  # no INITIAL_CONTACT
    number = bench.a.endpoint.request('b', rp_request(9), bench.now)
    bench.run(1.5 * LATENCY)
    bench.a.endpoint.cancel('b', number, bench.now)
    bench.b.endpoint.replace_ike_sa('a', bench.now)
    bench.settle()
    assert not bench.b.all(KeysDeleted)
    assert bench.a.all(RpSaFailed)
    return bench


def test_delete_goes_over_other_ike_sa_when_its_own_is_lost() -> None:
    """An MKT belongs to the two identities, not to an IKE SA."""
    bench = undone_in_vain()
    bench.run(40)
    assert [e.recv_ids for e in bench.b.all(KeysDeleted)] == [(9,)]


def test_keyid_is_withheld_while_its_delete_is_in_flight() -> None:
    """A repetition that comes late would hit the new MKT, of either side's making."""
    bench = undone_in_vain()
    assert bench.a.endpoint.send_ids_in_flight('b') == {9}
    with pytest.raises(LocalError, match='a DELETE of KeyID 9 is under way'):
        bench.a.endpoint.request('b', rp_request(9), bench.now)
    bench.a.obliging = False
    bench.b.endpoint.request('a', rp_request(1), bench.now)
    bench.settle()
    asked = bench.a.last(RpSaRequested)
    with pytest.raises(LocalError, match='a DELETE of KeyID 9 is under way'):
        bench.a.endpoint.prepare(
            asked.token, *asked.offer.proposals[0], keyid=9, lifetime=1800, now=bench.now
        )
    bench.a.endpoint.refuse(asked.token, NotifyType.TEMPORARY_FAILURE, b'', bench.now)
    bench.run(40)
    assert bench.a.endpoint.send_ids_in_flight('b') == set()
    bench.negotiate(rp_request(9))
    bench.run(40)
    assert len(bench.b.all(KeysDeleted)) == 1


def test_keyid_is_withheld_when_peer_was_changed() -> None:
    """The DELETE goes on over the IKE SA of before until that has ended."""
    bench = up()
    bench.run(2)
    number = bench.a.endpoint.request('b', rp_request(9), bench.now)
    bench.run(1.5 * LATENCY)
    bench.a.endpoint.cancel('b', number, bench.now)
    bench.fate = lambda d: (
        [] if is_kind(d, ExchangeType.INFORMATIONAL, response=False) else [LATENCY]
    )
    bench.settle()
    bench.a.endpoint.set_peer(replace(peer_b(), ike_lifetime=600), bench.now)
    assert bench.a.endpoint.send_ids_in_flight('b') == {9}
    bench.fate = deliver
    bench.run(40)
    assert bench.a.endpoint.send_ids_in_flight('b') == set()


def test_waiting_deletes_go_together() -> None:
    bench = up()
    bench.run(2)
    before = len(bench.wire)
    numbers = [bench.a.endpoint.delete('b', [keyid], bench.now) for keyid in (1, 2, 3)]
    bench.run(1)
    assert [e.recv_ids for e in bench.b.all(KeysDeleted)] == [(1,), (2, 3)]
    answered = bench.a.all(DeleteAnswered)
    assert {e.exchange for e in answered} == set(numbers)
    assert all(e.answered for e in answered)
    assert len(bench.wire) - before == 4


def test_lost_delete_is_repeated_to_changed_peer() -> None:
    bench = undone_in_vain()
    bench.a.endpoint.set_peer(replace(peer_b(), ike_lifetime=600), bench.now)
    bench.run(5)
    bench.a.endpoint.connect('b', bench.now)
    bench.settle()
    assert [e.recv_ids for e in bench.b.all(KeysDeleted)] == [(9,)]


def test_lost_delete_is_not_sent_to_another_identity() -> None:
    bench = undone_in_vain()
    other = replace(peer_b(), local_id=Identity.parse('fqdn', 'other.example'))
    bench.a.endpoint.set_peer(other, bench.now)
    bench.b.endpoint.set_peer(replace(peer_a(), remote_id=other.local_id), bench.now)
    bench.run(5)
    bench.a.endpoint.connect('b', bench.now)
    bench.run(5)
    assert bench.a.last(IkeSaUp)
    assert not bench.b.all(KeysDeleted)


def test_request_is_undone_when_peer_is_changed() -> None:
    bench = up()
    bench.fate = lambda d: [] if d.local == B_ADDRESS else deliver(d)
    bench.a.endpoint.request('b', rp_request(9), bench.now)
    bench.run(0.1)
    bench.fate = deliver
    bench.a.endpoint.set_peer(replace(peer_b(), ike_lifetime=600), bench.now)
    bench.run(5)
    assert bench.a.last(RpSaFailed).cause == Cause.STOPPED
    bench.a.endpoint.connect('b', bench.now)
    bench.settle()
    assert [e.recv_ids for e in bench.b.all(KeysDeleted)] == [(9,)]


def test_undo_ends_with_the_peer() -> None:
    bench = undone_in_vain()
    bench.a.endpoint.remove_peer('b', bench.now)
    bench.a.endpoint.cancel('b', 1, bench.now)  # the end that still waits for something may say so
    bench.run(100)
    assert not bench.b.all(KeysDeleted)
    assert bench.a.endpoint.next_timer() is None


# --- a peer without this profile ---------------------------------------------------------------


def without_vendor_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither end recognises the Vendor ID."""
    for module in ('ikev2.exchanges.ike_init_initiator', 'ikev2.exchanges.ike_init_responder'):
        monkeypatch.setattr(f'{module}.speaks_profile', lambda message: False)


def test_peer_without_vendor_id_gets_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    without_vendor_id(monkeypatch)
    bench = up()
    bench.negotiate()
    assert bench.a.last(RpSaFailed).cause == Cause.NO_PROFILE
    assert not [d for d in bench.wire if is_kind(d, CHILD, response=False)]


def test_probe_request_is_refused_when_peer_lacks_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    without_vendor_id(monkeypatch)
    bench = up()
    bench.a.endpoint.request('b', rp_request(), bench.now, without_profile=True)
    bench.settle()
    failed = bench.a.last(RpSaFailed)
    assert (failed.cause, failed.notify) == (Cause.NO_PROFILE, NotifyType.NO_PROPOSAL_CHOSEN)
    assert sas_of(bench.a)
    assert not bench.b.all(RpSaRequested)


@pytest.mark.parametrize(
    ('notify', 'cause'),
    [
        # libreswan looks at the selectors before the protocol that it doesn't know.
        (NotifyType.TS_UNACCEPTABLE, Cause.NO_PROFILE),
        # That says nothing of the profile.
        (NotifyType.TEMPORARY_FAILURE, Cause.REFUSED),
    ],
)
def test_refusal_tells_whether_peer_lacks_profile(
    monkeypatch: pytest.MonkeyPatch, notify: NotifyType, cause: Cause
) -> None:
    monkeypatch.setattr('ikev2.exchanges.ike_init_initiator.speaks_profile', lambda message: False)
    bench = up()
    bench.b.obliging = False
    bench.a.endpoint.request('b', rp_request(), bench.now, without_profile=True)
    bench.settle()
    bench.b.endpoint.refuse(bench.b.last(RpSaRequested).token, notify, b'', bench.now)
    bench.settle()
    failed = bench.a.last(RpSaFailed)
    assert (failed.cause, failed.notify) == (cause, notify)


def test_peer_without_vendor_id_gets_no_delete(monkeypatch: pytest.MonkeyPatch) -> None:
    without_vendor_id(monkeypatch)
    bench = up()
    bench.a.endpoint.delete('b', (1,), bench.now)
    bench.settle()
    assert bench.a.last(DeleteAnswered).answered is False


# --- our own mistakes --------------------------------------------------------------------------


def test_request_is_refused_unchanged_when_arguments_are_wrong() -> None:
    bench = up()
    endpoint = bench.a.endpoint
    for call in (
        lambda: endpoint.request('nobody', rp_request(), bench.now),
        lambda: endpoint.request('b', rp_request(0), bench.now),
        lambda: endpoint.request('b', rp_request(suites=('md5',)), bench.now),
        lambda: endpoint.request('b', rp_request(suites=()), bench.now),
        lambda: endpoint.delete('b', (), bench.now),
        lambda: endpoint.delete('b', (0,), bench.now),
        lambda: endpoint.prepare(99, 'hmac-sha-1-96', True, 1, 60, bench.now),
        lambda: endpoint.answer(99, bench.now),
        lambda: endpoint.refuse(99, NotifyType.TEMPORARY_FAILURE, b'', bench.now),
        lambda: endpoint.answer_delete(99, (), bench.now),
    ):
        with pytest.raises(LocalError):
            call()
    before = len(bench.wire)
    bench.settle()
    assert len(bench.wire) == before


def test_prepare_refuses_suite_that_was_not_offered() -> None:
    bench = up()
    bench.b.obliging = False
    bench.negotiate(rp_request(suites=('hmac-sha-1-96',)))
    token = bench.b.last(RpSaRequested).token
    with pytest.raises(LocalError):
        bench.b.endpoint.prepare(token, 'aes-128-cmac-96', True, 1, 60, bench.now)
    with pytest.raises(LocalError):
        bench.b.endpoint.answer(token, bench.now)
    bench.b.endpoint.prepare(token, 'hmac-sha-1-96', True, 1, 60, bench.now)
    bench.b.endpoint.answer(token, bench.now)
    bench.settle()
    assert bench.a.last(RpSaNegotiated)


def test_prepare_makes_no_keys_when_ike_sa_is_gone() -> None:
    bench = up()
    bench.b.obliging = False
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(0.1)
    bench.b.endpoint.replace_ike_sa('a', bench.now)
    event = bench.b.last(RpSaRequested)
    assert bench.b.accept(event, bench.now) is None
    bench.settle()
    assert bench.b.last(RpSaAbandoned).token == event.token
    assert not bench.a.all(RpSaNegotiated)


def test_answer_returns_false_when_ike_sa_is_gone() -> None:
    bench = up()
    bench.b.obliging = False
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(0.1)
    token = bench.b.last(RpSaRequested).token
    assert bench.b.endpoint.prepare(token, 'hmac-sha-1-96', True, 5, 60, bench.now)
    bench.b.endpoint.replace_ike_sa('a', bench.now)
    assert not bench.b.endpoint.answer(token, bench.now)
    bench.settle()
    assert not bench.a.all(RpSaNegotiated)


def test_open_request_is_abandoned_when_peer_is_changed() -> None:
    bench = up()
    bench.b.obliging = False
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(0.1)
    bench.b.endpoint.set_peer(replace(peer_a(), ike_lifetime=600), bench.now)
    bench.settle()
    event = bench.b.last(RpSaRequested)
    assert bench.b.accept(event, bench.now) is None
    bench.b.collect(bench.now)
    assert bench.b.last(RpSaAbandoned).token == event.token


@pytest.mark.parametrize('prepared', [False, True])
def test_open_request_is_declined_while_old_ike_sa_waits(prepared: bool) -> None:
    bench = up()
    bench.b.obliging = False
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(0.1)
    event = bench.b.last(RpSaRequested)
    if prepared:
        assert bench.b.endpoint.prepare(event.token, 'hmac-sha-1-96', True, 5, 60, bench.now)
    bench.fate = lambda d: [] if is_kind(d, INFORMATIONAL, response=False) else deliver(d)
    bench.b.endpoint.set_peer(replace(peer_a(), ike_lifetime=600), bench.now)
    bench.run(0.1)
    if prepared:
        assert not bench.b.endpoint.answer(event.token, bench.now)
    else:
        assert bench.b.accept(event, bench.now) is None
    bench.settle()
    assert bench.a.last(RpSaFailed).notify == NotifyType.TEMPORARY_FAILURE


def test_crossing_requests_are_both_answered() -> None:
    """The windows of the two directions are two: each may ask while it is asked."""
    bench = up()
    bench.negotiate(rp_request(1))
    first = bench.a.endpoint.request('b', rp_request(2, rekey=1), bench.now)
    second = bench.b.endpoint.request('a', rp_request(0x21, rekey=0x11), bench.now)
    bench.settle()
    assert bench.a.last(RpSaNegotiated).exchange == first
    assert bench.b.last(RpSaNegotiated).exchange == second
    ours = {bench.a.last(RpSaNegotiated).keys.lowest_nonce, bench.a.accepted[0].lowest_nonce}
    theirs = {bench.b.last(RpSaNegotiated).keys.lowest_nonce, bench.b.accepted[1].lowest_nonce}
    assert ours == theirs
    assert len(ours) == 2


def test_request_is_undone_when_answer_is_unreadable() -> None:
    bench = up()
    answering(bench, lambda payloads: [UnknownPayload(200, b'', critical=True)])
    assert bench.a.last(RpSaFailed).cause == Cause.MALFORMED
    assert bench.b.last(KeysDeleted).recv_ids == (1,)


def test_request_is_undone_when_answer_has_no_sa_and_no_error() -> None:
    bench = up()
    answering(bench, lambda payloads: [lifetime_notify(60)])
    assert bench.a.last(RpSaFailed).cause == Cause.MALFORMED
    assert bench.b.last(KeysDeleted).recv_ids == (1,)


def test_request_is_undone_when_answer_has_other_group() -> None:
    bench = up()
    wrong = KeyExchangePayload(KeyExchangeId.ECP_256, bytes(64))
    answering(bench, swap(KeyExchangePayload, wrong))
    assert bench.a.last(RpSaFailed).cause == Cause.MALFORMED


def test_request_is_refused_when_nat_is_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        'ikev2.exchanges.ike_init_responder.on_path', lambda message, datagram: True
    )
    bench = up()
    bench.negotiate()
    assert bench.a.last(RpSaFailed).notify == NotifyType.TS_UNACCEPTABLE
    assert not bench.b.all(RpSaRequested)


def test_request_is_prepared_once_and_with_possible_keyid() -> None:
    bench = up()
    bench.b.obliging = False
    bench.negotiate()
    token = bench.b.last(RpSaRequested).token
    for keyid in (0, 256):
        with pytest.raises(LocalError):
            bench.b.endpoint.prepare(token, 'hmac-sha-1-96', True, keyid, 60, bench.now)
    bench.b.endpoint.prepare(token, 'hmac-sha-1-96', True, 1, 60, bench.now)
    with pytest.raises(LocalError):
        bench.b.endpoint.prepare(token, 'hmac-sha-1-96', True, 2, 60, bench.now)


def test_ike_sa_refuses_second_request_in_window() -> None:
    bench = up()
    bench.a.endpoint.request('b', rp_request(), bench.now)
    (sa,) = sas_of(bench.a)
    assert sa.busy
    with pytest.raises(ValueError, match='one request'):
        sa.ask(Anything(CHILD, []), bench.now)


def test_cancelled_request_is_not_repeated_in_other_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def serve(sa: IkeSa, message: Message, now: float) -> None:
        raise WrongKeyExchangeGroup(19)

    monkeypatch.setattr('ikev2.exchanges.create_child.serve_rp_sa', serve)
    bench = up()
    number = bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.a.endpoint.cancel('b', number, bench.now)
    bench.settle()
    assert [f.cause for f in bench.a.all(RpSaFailed)] == [Cause.CANCELLED]
    assert len([d for d in bench.wire if is_kind(d, CHILD, response=False)]) == 1

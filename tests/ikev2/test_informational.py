"""INFORMATIONAL (RFC 7296, 1.4, 2.4, 2.21), and the life of an IKE SA after IKE_AUTH."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ikev2.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from ikev2.endpoint import Endpoint
from ikev2.errors import LocalError
from ikev2.events import (
    Cause,
    Datagram,
    DeleteAnswered,
    IkeMessage,
    IkeSaDown,
    IkeSaFailed,
    IkeSaUp,
    KeysDeleted,
    RpSaFailed,
    RpSaNegotiated,
    RpSaRequested,
)
from ikev2.exchanges.informational import DeleteIkeSa, UndoKeys
from ikev2.sa.ike_sa import IkeSa
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import DeletePayload, NotifyPayload, UnknownPayload
from tests.ikev2.bench import (
    A_ADDRESS,
    B_ADDRESS,
    LATENCY,
    Bench,
    altered,
    deliver,
    is_kind,
    peer_a,
    peer_b,
    psk,
    rp_request,
    sas_of,
    say,
)

INFORMATIONAL = ExchangeType.INFORMATIONAL


def up(bench: Bench | None = None) -> Bench:
    """An IKE SA is up."""
    bench = bench or Bench()
    bench.connect()
    return bench


# --- Delete ------------------------------------------------------------------------------------


def test_delete_answer_names_peers_ids() -> None:
    bench = up()
    bench.b.obliging = False
    asked_payload = DeletePayload(ProtocolId.TCP_AO, (b'\x01', b'\x02'))
    asked = say(bench, bench.a, INFORMATIONAL, [asked_payload])
    event = bench.b.last(KeysDeleted)
    assert event.recv_ids == (1, 2)
    bench.b.endpoint.answer_delete(event.token, (0x11,), bench.now)
    bench.settle()
    assert asked.answer is not None
    assert asked.answer.payloads == (DeletePayload(ProtocolId.TCP_AO, (b'\x11',)),)


def test_delete_reports_repeated_keyid_once() -> None:
    bench = up()
    bench.b.obliging = False
    payloads = [DeletePayload(ProtocolId.TCP_AO, (b'\x02', b'\x01', b'\x02') * 100)] * 2
    say(bench, bench.a, INFORMATIONAL, payloads)
    assert bench.b.last(KeysDeleted).recv_ids == (2, 1)


def test_delete_answer_is_empty_without_names() -> None:
    bench = up()
    bench.b.obliging = False
    asked = say(bench, bench.a, INFORMATIONAL, [DeletePayload(ProtocolId.TCP_AO, (b'\x01',))])
    bench.b.endpoint.answer_delete(bench.b.last(KeysDeleted).token, (), bench.now)
    bench.settle()
    assert asked.answer is not None
    assert asked.answer.payloads == ()


def test_crossing_deletes_are_both_answered() -> None:
    bench = up()
    bench.negotiate()
    first = bench.a.endpoint.delete('b', (1,), bench.now)
    second = bench.b.endpoint.delete('a', (0x11,), bench.now)
    bench.settle()
    assert bench.a.last(DeleteAnswered) == DeleteAnswered(first, 'b', True)
    assert bench.b.last(DeleteAnswered) == DeleteAnswered(second, 'a', True)


@pytest.mark.parametrize('protocol', [ProtocolId.ESP, ProtocolId.AH, 77])
def test_delete_of_other_protocol_is_answered_and_ignored(protocol: int) -> None:
    bench = up()
    asked = say(bench, bench.a, INFORMATIONAL, [DeletePayload(protocol, (b'\1\2\3\4',))])
    assert asked.answer is not None
    assert asked.answer.payloads == ()
    assert not bench.b.all(KeysDeleted)


def test_delete_with_no_keyids_is_bad_syntax() -> None:
    bench = up()
    asked = say(bench, bench.a, INFORMATIONAL, [DeletePayload(ProtocolId.TCP_AO, (b'\1\2',))])
    assert asked.notifies() == [NotifyType.INVALID_SYNTAX]
    assert not sas_of(bench.b)


def test_delete_goes_over_other_ike_sa_when_its_is_lost() -> None:
    """There may be none to come up for hours that its user could wait for."""
    bench = up()
    bench.b.mkts = True  # no INITIAL_CONTACT
    bench.b.endpoint.replace_ike_sa('a', bench.now)
    number = bench.a.endpoint.delete('b', (7,), bench.now)
    bench.run(40)
    assert [(e.exchange, e.answered) for e in bench.a.all(DeleteAnswered)] == [(number, True)]
    assert [e.recv_ids for e in bench.b.all(KeysDeleted)] == [(7,)]


def test_delete_is_unanswered_when_peer_was_changed() -> None:
    bench = up()
    bench.a.endpoint.set_peer(replace(peer_b(), ike_lifetime=7200), bench.now)
    number = bench.b.endpoint.delete('a', (7,), bench.now)
    bench.settle()
    assert [(e.exchange, e.answered) for e in bench.b.all(DeleteAnswered)] == [(number, False)]
    assert not bench.a.all(KeysDeleted)


def test_delete_ends_unanswered_without_answer() -> None:
    bench = up()
    bench.fate = lambda datagram: []
    number = bench.a.endpoint.delete('b', (1,), bench.now)
    bench.run(31)
    assert bench.a.last(DeleteAnswered) == DeleteAnswered(number, 'b', False)


def test_ike_sa_is_deleted_with_its_peer() -> None:
    bench = up()
    bench.a.endpoint.remove_peer('b', bench.now)
    bench.settle()
    assert bench.b.last(IkeSaDown).cause == Cause.DELETED
    assert bench.a.last(IkeSaDown).cause == Cause.STOPPED
    assert not sas_of(bench.a)
    assert not sas_of(bench.b)


def test_lost_delete_is_repeated_when_peer_was_removed() -> None:
    bench = up()
    bench.fate = lambda datagram: []
    bench.a.endpoint.remove_peer('b', bench.now)
    bench.settle()
    bench.fate = deliver
    bench.run(5)
    assert bench.b.last(IkeSaDown).cause == Cause.DELETED
    assert not sas_of(bench.a)


def test_lost_answer_to_ike_sa_delete_is_repeated() -> None:
    bench = up()
    lost: list[Datagram] = []

    def lose(datagram: Datagram) -> list[float]:
        if is_kind(datagram, INFORMATIONAL, response=True) and not lost:
            lost.append(datagram)
            return []
        return deliver(datagram)

    bench.fate = lose
    bench.a.endpoint.remove_peer('b', bench.now)
    bench.run(3)
    assert not sas_of(bench.a)
    answers = [d.data for d in bench.wire if is_kind(d, INFORMATIONAL, response=True)]
    assert len(answers) == 2
    assert len(set(answers)) == 1


def test_crossing_ike_sa_deletes_end_it_at_both_ends() -> None:
    bench = up()
    bench.a.endpoint.close(bench.now)
    bench.b.endpoint.close(bench.now)
    bench.settle()
    assert not sas_of(bench.a)
    assert not sas_of(bench.b)


def test_ike_sa_is_deleted_after_pending_answer() -> None:
    bench = up()
    bench.a.endpoint.delete('b', (1,), bench.now)
    bench.a.endpoint.close(bench.now)
    assert bench.a.endpoint.is_parting()
    bench.settle()
    assert not bench.a.endpoint.is_parting()
    assert bench.b.last(IkeSaDown).cause == Cause.DELETED


def test_child_is_put_off_while_we_delete_ike_sa() -> None:
    bench = up()
    bench.fate = lambda d: [] if is_kind(d, INFORMATIONAL, response=False) else deliver(d)
    bench.a.endpoint.remove_peer('b', bench.now)
    bench.b.endpoint.request('a', rp_request(), bench.now)
    bench.settle()
    answer = next(
        m for m in bench.b.all(IkeMessage) if m.exchange == 'CREATE_CHILD_SA' and m.response
    )
    assert answer.detail == 'N(TEMPORARY_FAILURE)'


def test_waiting_requests_fail_when_peer_is_removed() -> None:
    bench = up()
    first = bench.a.endpoint.request('b', rp_request(1), bench.now)
    second = bench.a.endpoint.request('b', rp_request(2), bench.now)
    bench.a.endpoint.remove_peer('b', bench.now)
    bench.collect()
    assert [(f.exchange, f.cause) for f in bench.a.all(RpSaFailed)] == [
        (first, Cause.STOPPED),
        (second, Cause.STOPPED),
    ]
    told = len(bench.a.events)
    bench.run(60)
    assert len(bench.a.events) == told
    assert not sas_of(bench.a)
    assert not sas_of(bench.b)


# --- liveness ----------------------------------------------------------------------------------


def test_empty_request_is_answered_empty() -> None:
    bench = up()
    bench.a.endpoint.check_liveness('b', bench.now)
    bench.settle()
    messages = [m for m in bench.a.all(IkeMessage) if m.exchange == 'INFORMATIONAL']
    assert [(m.sent, m.response, m.detail) for m in messages] == [
        (True, False, ''),
        (False, True, ''),
    ]


def test_ike_sa_is_lost_when_peer_does_not_answer() -> None:
    bench = up()
    bench.fate = lambda datagram: []
    bench.a.endpoint.check_liveness('b', bench.now)
    bench.run(31)
    assert bench.a.last(IkeSaDown) == IkeSaDown('b', Cause.NO_ANSWER)
    assert not sas_of(bench.a)


def test_silence_is_noticed_when_configured() -> None:
    bench = up(Bench(b=replace(peer_b(), liveness_idle=60)))
    bench.run(59)
    sent = len(bench.wire)
    bench.run(2)
    assert len(bench.wire) == sent + 2
    bench.fate = lambda datagram: []
    bench.run(95)
    assert bench.a.last(IkeSaDown).cause == Cause.NO_ANSWER


def test_silent_ike_sa_has_no_timer_when_not_configured() -> None:
    bench = up()
    bench.run(100)
    sent = len(bench.wire)
    timer = bench.a.endpoint.next_timer()
    assert timer is not None
    assert timer > bench.now + 3600
    bench.run(3600)
    assert len(bench.wire) == sent


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize('notify', [NotifyType.INVALID_SYNTAX, NotifyType.AUTHENTICATION_FAILED])
def test_ike_sa_ends_when_request_has_fatal_notify(notify: NotifyType) -> None:
    bench = up()
    asked = say(bench, bench.a, INFORMATIONAL, [NotifyPayload(notify)])
    assert asked.answer is not None
    assert not sas_of(bench.b)
    assert bench.b.last(IkeSaDown)


def test_ike_sa_stays_when_request_has_other_notify() -> None:
    bench = up()
    payloads: list[Payload] = [NotifyPayload(NotifyType.INVALID_SPI, b'\1\2\3\4')]
    asked = say(bench, bench.a, INFORMATIONAL, payloads)
    assert asked.answer is not None
    assert sas_of(bench.b)


def test_unprotected_notify_changes_nothing() -> None:
    """RFC 7296, 2.4 and 2.21.4: it might be a forgery."""
    bench = up()
    bench.a.endpoint.check_liveness('b', bench.now)
    request = next(d for d in bench.a.endpoint.datagrams_to_send())
    (sa,) = sas_of(bench.a)
    header = Header(sa.origin.spi_i, sa.origin.spi_r, INFORMATIONAL, 2, False, True)
    forged = Message(header, (NotifyPayload(NotifyType.INVALID_IKE_SPI),)).encode()
    bench.inject(Datagram(forged, B_ADDRESS, 500, A_ADDRESS, 500))
    assert sas_of(bench.a)
    assert bench.a.endpoint.snapshot().peer('b').counters.not_authentic == 1
    bench.inject(request)
    bench.settle()
    assert sas_of(bench.a)


def test_reflected_messages_are_dropped() -> None:
    bench = up()
    bench.a.endpoint.check_liveness('b', bench.now)
    bench.settle()
    ours = [d for d in bench.sent_by(bench.a) if is_kind(d, INFORMATIONAL, response=False)]
    for datagram in ours:
        bench.inject(replace(datagram, local=B_ADDRESS, remote=A_ADDRESS))
    assert bench.a.endpoint.snapshot().peer('b').counters.unknown_spi == len(ours)


def test_replayed_messages_change_nothing() -> None:
    bench = up()
    bench.negotiate(rp_request(1))
    bench.negotiate(rp_request(2))
    bench.a.endpoint.delete('b', (1,), bench.now)
    bench.settle()
    story_a, story_b = list(bench.a.story()), list(bench.b.story())
    for datagram in list(bench.wire):
        bench.inject(datagram)
    bench.settle()
    assert bench.a.story() == story_a
    assert bench.b.story() == story_b


def test_datagram_is_dropped_when_address_is_another() -> None:
    bench = up()
    bench.a.endpoint.check_liveness('b', bench.now)
    (request,) = bench.a.endpoint.datagrams_to_send()
    sent = len(bench.wire)
    bench.inject(replace(request, local=ip_address('10.0.0.66')))
    assert len(bench.wire) == sent


def test_message_is_dropped_when_any_bit_is_flipped() -> None:
    bench = up()
    bench.a.endpoint.check_liveness('b', bench.now)
    (request,) = bench.a.endpoint.datagrams_to_send()
    sent = len(bench.wire)
    for position in range(len(request.data) * 8):
        data = bytearray(request.data)
        data[position // 8] ^= 1 << position % 8
        bench.inject(altered(request, bytes(data)))
        bench.b.endpoint._associations['a'].unprotected_errors._times.clear()
    unprotected = [d for d in bench.wire[sent:] if d.data[16] == 41]
    assert len(bench.wire) - sent == len(unprotected)  # only "unknown major version"
    bench.inject(request)
    assert is_kind(bench.wire[-1], INFORMATIONAL, response=True)


@pytest.mark.parametrize('what', ['liveness', 'delete', 'undo'])
def test_request_ends_when_answer_is_malformed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is authentic, so the peer lives, and has read the request."""

    def serve(sa: IkeSa, message: Message, now: float) -> None:
        sa.answer([UnknownPayload(200, b'', critical=True)], now)

    bench = up()
    (sa,) = sas_of(bench.b)
    monkeypatch.setitem(sa._context.servers, INFORMATIONAL, serve)
    if what == 'delete':
        bench.a.endpoint.delete('b', (7,), bench.now)
    elif what == 'undo':
        UndoKeys(bench.a.endpoint._associations['b'], 7).lost(Cause.IKE_SA_LOST, '', bench.now)
        bench.a.endpoint._associations['b'].pump(bench.now)
    else:
        bench.a.endpoint.check_liveness('b', bench.now)
    bench.settle()
    assert any(is_kind(d, INFORMATIONAL, response=True) for d in bench.wire)
    assert [e.answered for e in bench.a.all(DeleteAnswered)] == [False] * (what == 'delete')
    assert not bench.a.endpoint._associations['b'].undoing
    assert sas_of(bench.a)


def test_unprotected_garbage_is_dropped() -> None:
    bench = up()
    (sa,) = sas_of(bench.a)
    header = Header(sa.origin.spi_i, sa.origin.spi_r, INFORMATIONAL, 0, False, True)
    hint = Message(header, (NotifyPayload(NotifyType.INVALID_IKE_SPI),)).encode()
    sent = len(bench.wire)
    bench.inject(Datagram(hint[:-1] + b'\xff\xff', B_ADDRESS, 500, A_ADDRESS, 500))
    bench.inject(Datagram(hint[:30] + b'\0\0' + hint[32:], B_ADDRESS, 500, A_ADDRESS, 500))
    bench.settle()
    assert len(bench.wire) == sent


def test_ike_sa_is_deleted_once_when_both_want_it() -> None:
    """The end of its lifetime, and of the peer, while another request is under way."""
    bench = up()
    (sa,) = sas_of(bench.a)
    bench.a.endpoint.check_liveness('b', bench.now)
    sa.queue(DeleteIkeSa(), bench.now)
    sa.queue(DeleteIkeSa(), bench.now)
    bench.settle()
    assert not sas_of(bench.a) + sas_of(bench.b)
    assert [e.cause for e in bench.a.all(IkeSaDown)] == [Cause.STOPPED]


def test_cancel_ends_only_the_named_request() -> None:
    bench = up()
    first = bench.a.endpoint.request('b', rp_request(1), bench.now)
    bench.a.endpoint.cancel('b', first + 1000, bench.now)
    bench.settle()
    assert bench.a.last(RpSaNegotiated).exchange == first


# --- configuration and loss --------------------------------------------------------------------


def test_replace_ike_sa_forgets_it_and_makes_another() -> None:
    bench = up()
    first = bench.a.last(IkeSaUp).spis
    bench.fate = lambda datagram: []
    number = bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(5)
    bench.fate = deliver
    bench.a.endpoint.replace_ike_sa('b', bench.now)
    bench.settle()
    assert bench.a.last(RpSaFailed).exchange == number
    assert bench.a.last(RpSaFailed).cause == Cause.IKE_SA_LOST
    assert bench.a.last(IkeSaUp).spis != first
    bench.negotiate()
    assert bench.a.last(RpSaNegotiated)


@pytest.mark.parametrize('seed', range(8))
def test_forgotten_half_ends_at_other_end_too(seed: int) -> None:
    bench = up(Bench(seed=seed))
    bench.a.mkts = bench.b.mkts = True  # so there is no INITIAL_CONTACT that would do it
    bench.a.endpoint.replace_ike_sa('b', bench.now)
    bench.settle()
    assert len(sas_of(bench.b)) == 2
    bench.run(120)
    assert [sa.origin.spis for sa in sas_of(bench.b)] == [sas_of(bench.a)[0].origin.spis]


def test_requests_go_over_ike_sa_heard_last() -> None:
    bench = up()
    bench.a.mkts = True
    bench.run(5)
    bench.a.endpoint.replace_ike_sa('b', bench.now)
    bench.settle()
    bench.b.endpoint.request('a', rp_request(), bench.now)
    bench.run(0.2)
    assert bench.a.last(RpSaRequested)


def test_peer_is_authenticated_anew_only_when_changed() -> None:
    bench = up()
    bench.a.endpoint.set_peer(peer_b(), bench.now)
    bench.settle()
    assert not bench.a.all(IkeSaDown)
    bench.a.endpoint.set_peer(replace(peer_b(), liveness_idle=30), bench.now)
    bench.settle()
    assert bench.a.last(IkeSaDown).cause == Cause.STOPPED
    assert bench.b.last(IkeSaDown).cause == Cause.DELETED
    bench.connect()
    assert len(bench.a.all(IkeSaUp)) == 2


def test_address_belongs_to_one_peer() -> None:
    bench = Bench()
    with pytest.raises(LocalError, match=r'10\.0\.0\.2 belongs to peer b'):
        bench.a.endpoint.set_peer(replace(peer_b(), name='other'), bench.now)


def test_connect_twice_makes_one_ike_sa() -> None:
    bench = Bench()
    bench.a.endpoint.connect('b', bench.now)
    bench.a.endpoint.connect('b', bench.now)
    bench.settle()
    bench.a.endpoint.connect('b', bench.now)
    bench.settle()
    assert len(bench.a.all(IkeSaUp)) == 1


def test_close_stops_everything() -> None:
    bench = Bench()
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.a.endpoint.close(bench.now)
    bench.run(100)
    assert bench.a.last(RpSaFailed).cause == Cause.STOPPED
    assert not bench.a.all(IkeSaUp)
    assert not bench.a.all(IkeSaFailed)
    assert bench.a.endpoint.next_timer() is None


def test_closed_ike_sa_keeps_no_secret() -> None:
    bench = up()
    (sa,) = sas_of(bench.a)
    bench.a.endpoint.close(bench.now)
    bench.settle()
    assert sa.keys.sk_d.wiped
    assert sa.keys.sk_ei.wiped


def test_ended_ike_sas_leave_nothing_after_a_while() -> None:
    bench = Bench()
    for _ in range(5):
        bench.connect()
        bench.b.endpoint.remove_peer('a', bench.now)
        bench.settle()
        bench.b.endpoint.set_peer(peer_a(), bench.now)
    bench.run(60)
    for node in (bench.a, bench.b):
        assert not node.endpoint._context.sas
        assert not node.endpoint._context.initials
        assert not node.endpoint._context.attempts
        assert node.endpoint.next_timer() is None


def test_snapshot_shows_state_without_secrets() -> None:
    bench = up()
    bench.negotiate()
    peer = bench.a.endpoint.snapshot().peer('b')
    assert peer.up
    assert not peer.connecting
    (ike_sa,) = peer.ike_sas
    assert ike_sa.spis == bench.a.last(IkeSaUp).spis
    assert ike_sa.since == 1000.0 + 4 * LATENCY
    assert ike_sa.suite == 'aes-256-gcm-16/hmac-sha2-256/curve25519'
    text = repr(bench.a.endpoint.snapshot()) + repr(bench.a.events) + repr(bench.b.events)
    (sa,) = sas_of(bench.a)
    for secret in (sa.keys.sk_d, bench.b.accepted[0].master_key):
        assert secret.reveal().hex() not in text
        assert repr(secret.reveal())[2:-1] not in text


def test_endpoints_share_no_memory() -> None:
    def build() -> Endpoint:
        return Endpoint(random=bytes, has_mkts=lambda peer: False)

    assert build().snapshot().peers == ()
    with pytest.raises(LocalError):
        build().connect('b', 0.0)


# --- the window --------------------------------------------------------------------------------


def test_late_answer_is_not_taken_for_next_request() -> None:
    bench = up()
    bench.a.endpoint.check_liveness('b', bench.now)
    bench.settle()
    earlier = next(d for d in bench.wire if is_kind(d, INFORMATIONAL, response=True))
    bench.fate = lambda datagram: []
    number = bench.a.endpoint.delete('b', (1,), bench.now)
    bench.collect()
    bench.inject(earlier)
    assert not bench.a.all(DeleteAnswered)
    assert bench.a.endpoint.snapshot().peer('b').counters.unexpected == 1
    bench.run(31)
    assert bench.a.last(DeleteAnswered) == DeleteAnswered(number, 'b', False)


def test_answer_of_another_exchange_is_dropped() -> None:
    bench = up()
    bench.b.obliging = False
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(0.1)
    (a,), (b,) = sas_of(bench.a), sas_of(bench.b)
    (data,) = b._protect(INFORMATIONAL, 2, [], response=True)
    bench.inject(Datagram(data, B_ADDRESS, 500, A_ADDRESS, 500))
    assert a.busy
    assert bench.a.endpoint.snapshot().peer('b').counters.unexpected == 1


def test_messages_of_one_direction_have_distinct_ivs() -> None:
    """RFC 5282, 3.1: with AES-GCM that would give the key away."""
    bench = up()
    for keyid in range(1, 6):
        bench.negotiate(rp_request(keyid))
        bench.b.endpoint.check_liveness('a', bench.now)
        bench.settle()
    for node in (bench.a, bench.b):
        sealed = {d.data for d in bench.sent_by(node) if d.data[16] == PayloadType.SK}
        ivs = {data[32:40] for data in sealed}
        assert len(ivs) == len(sealed) > 10


def test_peer_removed_before_ike_auth_leaves_nothing() -> None:
    bench = Bench()
    bench.fate = lambda d: [] if is_kind(d, ExchangeType.IKE_AUTH, response=False) else [LATENCY]
    bench.a.endpoint.connect('b', bench.now)
    bench.run(0.1)
    assert sas_of(bench.a)
    assert sas_of(bench.b)
    bench.a.endpoint.close(bench.now)
    bench.b.endpoint.close(bench.now)
    bench.collect()
    assert not sas_of(bench.a)
    assert not sas_of(bench.b)
    assert not bench.a.all(IkeSaFailed)


def test_peer_removed_after_failed_proof_leaves_nothing() -> None:
    """While the true answer may still come."""
    bench = Bench(b=peer_b(remote_credential=psk('another secret that is long enough')))
    bench.a.endpoint.connect('b', bench.now)
    bench.run(4.5 * LATENCY)
    assert bench.a.endpoint.snapshot().peer('b').counters.refused_auth
    bench.a.endpoint.remove_peer('b', bench.now)
    bench.run(100)
    assert not bench.a.all(IkeSaFailed)
    assert bench.a.endpoint.next_timer() is None


def test_failed_attempt_is_not_reported_while_ike_sa_serves() -> None:
    """A's IKE_AUTH is lost for good, B's own IKE SA comes up meanwhile."""
    bench = Bench()
    bench.fate = lambda d: (
        []
        if d.local == A_ADDRESS and is_kind(d, ExchangeType.IKE_AUTH, response=False)
        else [LATENCY]
    )
    bench.a.endpoint.connect('b', bench.now)
    bench.run(5)
    bench.b.endpoint.connect('a', bench.now)
    bench.settle()
    number = bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(60)
    assert not bench.a.all(IkeSaFailed)
    assert bench.a.last(RpSaNegotiated).exchange == number

"""Answers that grant what was asked for and report an error beside (RFC 7296, 3.10.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ikev2.constants import FIRST_STATUS_NOTIFY, ExchangeType, NotifyType
from ikev2.events import Cause, DeleteAnswered, IkeSaFailed, IkeSaUp, RpSaFailed, RpSaNegotiated
from ikev2.proposals.policies import POLICIES
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.transitions import TOLERATED
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import NotifyPayload
from tests.ikev2.bench import Bench, altered, is_kind, peer_a, peer_b, sas_of, turned

UNKNOWN = 9000
HYBRID = POLICIES['hybrid']


def report_beside(
    monkeypatch: pytest.MonkeyPatch, kind: ExchangeType, notify_type: int, *, alone: bool = False
) -> None:
    """Add an error notify to every protected answer of one kind, or send that notify alone."""
    original = IkeSa.answer

    def answer(self: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        asked = self._request[0].exchange_type if self._request else 0
        if asked == kind:
            payloads = [*(() if alone else payloads), NotifyPayload(notify_type)]
        original(self, payloads, now)

    monkeypatch.setattr(IkeSa, 'answer', answer)


def hybrid() -> Bench:
    return Bench(a=replace(peer_a(), policy=HYBRID), b=replace(peer_b(), policy=HYBRID))


@pytest.mark.parametrize('kind', [ExchangeType.IKE_AUTH, ExchangeType.IKE_INTERMEDIATE])
@pytest.mark.parametrize('notify_type', [UNKNOWN, NotifyType.AUTHENTICATION_FAILED])
def test_handshake_fails_when_answer_reports_an_error(
    monkeypatch: pytest.MonkeyPatch, kind: ExchangeType, notify_type: int
) -> None:
    """`IDr, AUTH, N(9000)` brought an IKE SA up."""
    report_beside(monkeypatch, kind, notify_type)
    bench = hybrid()
    bench.connect()
    bench.run(3)
    assert not bench.a.all(IkeSaUp)
    assert bench.a.last(IkeSaFailed).cause in (Cause.REFUSED, Cause.MALFORMED)
    assert str(int(notify_type)) in bench.a.last(IkeSaFailed).text
    # The responder, which has seen a good proof, is told.
    bench.run(40)
    assert not sas_of(bench.a)
    assert not sas_of(bench.b)


@pytest.mark.parametrize('notify_type', sorted(TOLERATED[ExchangeType.IKE_AUTH]))
def test_handshake_succeeds_when_error_is_about_the_child(
    monkeypatch: pytest.MonkeyPatch, notify_type: int
) -> None:
    report_beside(monkeypatch, ExchangeType.IKE_AUTH, notify_type)
    bench = Bench()
    bench.connect()
    assert bench.a.all(IkeSaUp)
    assert not bench.a.all(IkeSaFailed)


@pytest.mark.parametrize('kind', [ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_FOLLOWUP_KE])
@pytest.mark.parametrize('notify_type', [UNKNOWN, NotifyType.TEMPORARY_FAILURE])
def test_rp_sa_fails_when_answer_reports_an_error(
    monkeypatch: pytest.MonkeyPatch, kind: ExchangeType, notify_type: int
) -> None:
    """An RP SA that the peer may have made all the same is deleted."""
    bench = hybrid()
    bench.connect()
    report_beside(monkeypatch, kind, notify_type)
    bench.negotiate()
    assert not bench.a.all(RpSaNegotiated)
    assert bench.a.last(RpSaFailed).cause == Cause.REFUSED
    assert bench.a.last(RpSaFailed).notify == notify_type
    assert is_kind(list(bench.sent_by(bench.a))[-1], ExchangeType.INFORMATIONAL, response=False)


def test_rekey_fails_when_answer_reports_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the peer has a successor: both ends begin again."""
    bench = Bench()
    bench.connect()
    (before,) = sas_of(bench.a)
    report_beside(monkeypatch, ExchangeType.CREATE_CHILD_SA, UNKNOWN)
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.settle()
    assert before not in sas_of(bench.a)
    assert not sas_of(bench.a)


@pytest.mark.parametrize('alone', [False, True])
def test_delete_is_unanswered_when_error_is_unknown(
    monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    bench = Bench()
    bench.negotiate()
    report_beside(monkeypatch, ExchangeType.INFORMATIONAL, UNKNOWN, alone=alone)
    bench.a.endpoint.delete('b', (1,), bench.now)
    bench.settle()
    assert not bench.a.last(DeleteAnswered).answered


def test_attempt_ignores_init_answer_that_reports_an_error() -> None:
    """Nothing is authenticated there: the true answer may still come (RFC 7296, 2.21.1)."""
    bench = Bench()
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    bench.b.endpoint.receive_datagram(turned(bench.wire[0]), bench.now)
    (true,) = bench.b.endpoint.datagrams_to_send()
    message = Message.decode(true.data)
    forged = Message(message.header, (*message.payloads, NotifyPayload(UNKNOWN)))
    bench.inject(altered(true, forged.encode()))
    assert not sas_of(bench.a)
    bench.inject(true)
    assert sas_of(bench.a)


def test_tolerated_errors_are_error_types() -> None:
    for kind, types in TOLERATED.items():
        assert max(types) < FIRST_STATUS_NOTIFY, kind

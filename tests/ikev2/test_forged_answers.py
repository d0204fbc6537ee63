"""Forged answers to IKE_SA_INIT that cost an attempt more than themselves (RFC 7296, 2.4, 2.6)."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from ikev2.constants import ExchangeType, NotifyType, PayloadType
from ikev2.events import Cause, Datagram, IkeSaFailed, IkeSaUp
from ikev2.exchanges.unprotected import is_unprotected as hint
from ikev2.limits import Limits
from ikev2.wire.message import HEADER_LENGTH, Message
from ikev2.wire.payloads import NotifyPayload
from tests.ikev2.bench import Bench, header_of, is_kind, sas_of
from tests.ikev2.test_attacks import (
    COST,
    Attacker,
    complete,
    cost_key_exchanges,
    from_b,
    unprotected,
)

AUTH = ExchangeType.IKE_AUTH


def test_attempt_ends_when_forged_answers_keep_coming() -> None:
    """One datagram in 20 s kept an attempt without an answer alive, and with it every
    later one from being made."""
    bench = Bench()
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    request = Message.decode(bench.wire[0].data)
    end = Limits().give_up * 2 + 1
    for number in range(int(end / 20) + 1):
        bench.inject(from_b(complete(request, bytes([9, number] * 4))))
        bench.run(20)
    assert bench.a.last(IkeSaFailed).cause == Cause.NO_ANSWER
    assert not bench.a.endpoint._context.attempts


def test_true_answer_is_taken_when_cookies_are_forged() -> None:
    """More cookies than are repeated at once: the request was made anew and not sent, and no
    answer went with it."""
    bench = Bench()
    numbers = count()

    def forge(request: Message) -> list[bytes]:
        return [
            unprotected(
                request.header, NotifyPayload(NotifyType.COOKIE, next(numbers).to_bytes(4, 'big'))
            )
            for _ in range(2 * Limits().init_retries)
        ]

    Attacker(bench, forge)
    bench.connect()
    bench.run(3)
    assert bench.a.all(IkeSaUp)


def test_request_is_repeated_when_an_answer_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst of forged answers that are tried with IKE_AUTH used up the CPU time, and the
    true answer was not asked for again while they were tried."""
    bench = Bench(limits=Limits(unproven_size=5 * COST, unproven_share=5 * COST))
    cost_key_exchanges(bench, 1.5 * COST, monkeypatch)
    floods, numbers = iter(range(2)), count(1)

    def flood(request: Message) -> list[bytes]:
        size = 10 if next(floods, None) is not None else 0
        return [complete(request, next(numbers).to_bytes(8, 'big')) for _ in range(size)]

    Attacker(bench, flood)
    look = bench.fate

    def fate(datagram: Datagram) -> list[float]:
        # A peer that says nothing about IKE SAs which it doesn't know.
        return (
            []
            if is_kind(datagram, AUTH, response=True) and hint(datagram)
            else list(look(datagram))
        )

    bench.fate = fate
    bench.connect()
    bench.run(20)
    assert bench.a.all(IkeSaUp)
    assert not bench.a.all(IkeSaFailed)


def test_search_is_charged_when_answers_share_their_spis() -> None:
    """64 decryptions for one forged datagram, as often as one was sent."""
    bench = Bench()
    bench.fate = lambda datagram: []
    bench.a.endpoint.connect('b', bench.now)
    bench.collect()
    request = Message.decode(bench.wire[0].data)
    for nonce in range(Limits().init_answers):
        bench.inject(from_b(complete(request, nonce=nonce)))
    one, *others = sas_of(bench.a)
    searched = list[int]()

    def recognises(datagram: Datagram) -> bool:
        searched.append(len(datagram.data))
        bench.cpu += COST
        return False

    for sa in (one, *others):
        sa.recognises = recognises  # type: ignore[method-assign]
    header = replace(header_of(bench.wire[-1]), initiator=False, response=True)
    for _ in range(100):
        bench.inject(from_b(header.encode(PayloadType.SK, HEADER_LENGTH)))
    most = Limits().unproven_size / COST + len(others) + 1
    assert len(others) < len(searched) <= most

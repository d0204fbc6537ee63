"""The host that answers an IKE_SA_INIT has the keys of the IKE SA, but has proven no identity yet.

Until its AUTH is verified, and after it was refused (RFC 7296, 2.21.2), it makes us do nothing:
what it asks is neither acted upon nor answered, and we end the IKE SA in any case.
"""

from __future__ import annotations

import pytest

from ikev2.constants import ExchangeType, NotifyType, ProtocolId
from ikev2.events import (
    Cause,
    Datagram,
    IkeMessage,
    IkeSaDown,
    IkeSaFailed,
    IkeSaUp,
)
from ikev2.sa.transitions import State
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import DeletePayload, NoncePayload, NotifyPayload
from tests.ikev2.bench import (
    A_ADDRESS,
    B_ADDRESS,
    LATENCY,
    Anything,
    Bench,
    Node,
    deliver,
    is_kind,
    peer_a,
    peer_b,
    psk,
    sas_of,
    say,
)

AUTH, INFORMATIONAL = ExchangeType.IKE_AUTH, ExchangeType.INFORMATIONAL
CHILD = ExchangeType.CREATE_CHILD_SA

REQUESTS: dict[str, tuple[ExchangeType, list[Payload]]] = {
    'delete every key': (
        INFORMATIONAL,
        [DeletePayload(ProtocolId.TCP_AO, tuple(bytes([k]) for k in range(1, 256)))],
    ),
    'delete the IKE SA': (INFORMATIONAL, [DeletePayload(ProtocolId.IKE)]),
    'liveness': (INFORMATIONAL, []),
    'refuse us': (INFORMATIONAL, [NotifyPayload(NotifyType.AUTHENTICATION_FAILED)]),
    'initial contact': (INFORMATIONAL, [NotifyPayload(NotifyType.INITIAL_CONTACT)]),
    'a child SA': (CHILD, [NoncePayload(bytes(32))]),
    'another IKE_AUTH': (AUTH, [NotifyPayload(NotifyType.INITIAL_CONTACT)]),
    'IKE_INTERMEDIATE': (ExchangeType.IKE_INTERMEDIATE, []),
    'IKE_FOLLOWUP_KE': (ExchangeType.IKE_FOLLOWUP_KE, []),
    'what nobody knows': (ExchangeType.IKE_SESSION_RESUME, []),
}

LEADING = ('another IKE_AUTH', 'IKE_INTERMEDIATE')
"""What an initiator is to ask before it has proven anything."""


def impostor_answers() -> Bench:
    """B takes A's proof, and has none of its own; A's word of refusal never arrives."""
    bench = Bench(a=peer_a(psk('what no B has')))
    bench.fate = lambda datagram: [] if _refusal(datagram) else [LATENCY]
    bench.a.endpoint.connect('b', bench.now)
    bench.run(0.1)
    (sa,) = sas_of(bench.a)
    assert sa.state == State.REFUSING
    assert not sa.finished
    return bench


def _refusal(datagram: Datagram) -> bool:
    return datagram.local == A_ADDRESS and is_kind(datagram, INFORMATIONAL, response=False)


def heard_nothing(bench: Bench, victim: Node, asked: Anything, before: int) -> None:
    """Check that the request came, and had no effect: no answer, and no event for our user."""
    address = A_ADDRESS if victim is bench.a else B_ADDRESS
    peer = 'b' if victim is bench.a else 'a'
    assert asked.answer is None
    assert asked.error is None
    answers = [d for d in bench.wire if d.local == address and _answers(d, asked)]
    assert not answers
    assert victim.endpoint.snapshot().peer(peer).counters.unexpected > before
    assert {type(event) for event in victim.events} <= {IkeMessage, IkeSaFailed}


def _answers(datagram: Datagram, asked: Anything) -> bool:
    kind = asked.exchange_type
    return is_kind(datagram, kind, response=True) and kind != AUTH


@pytest.mark.parametrize('request_', REQUESTS)
def test_refused_responder_is_served_nothing(request_: str) -> None:
    bench = impostor_answers()
    kind, payloads = REQUESTS[request_]
    before = bench.a.endpoint.snapshot().peer('b').counters.unexpected
    asked = say(bench, bench.b, kind, payloads)
    heard_nothing(bench, bench.a, asked, before)
    bench.run(40)
    assert not sas_of(bench.a)
    (failed,) = bench.a.all(IkeSaFailed)
    assert failed.cause == Cause.AUTHENTICATION_FAILED
    heard_nothing(bench, bench.a, asked, before)


@pytest.mark.parametrize('when', ['before its AUTH', 'after its AUTH was refused'])
@pytest.mark.parametrize('request_', [r for r in REQUESTS if r not in LEADING])
def test_unproven_initiator_is_served_nothing(request_: str, when: str) -> None:
    proves = when != 'before its AUTH'
    bench = Bench(b=peer_b(psk('what no A has')))
    bench.fate = lambda d: [] if is_kind(d, AUTH, response=proves) else [LATENCY]
    bench.a.endpoint.connect('b', bench.now)
    bench.run(0.1)
    assert [sa.state for sa in sas_of(bench.b)] == ([] if proves else [State.HALF_OPEN])
    (sa,) = sas_of(bench.a)
    # The impostor doesn't wait for the answer, or hasn't sent its AUTH yet.
    assert sa._asking is not None
    sa._asking.retransmission.stop()
    sa._asking = None
    sa._next_id -= not proves
    before = bench.b.endpoint.snapshot().peer('a').counters.unexpected
    asked = say(bench, bench.a, *REQUESTS[request_])
    heard_nothing(bench, bench.b, asked, before)


def test_refusal_is_repeated_until_responder_answers() -> None:
    bench = Bench(a=peer_a(psk('what no B has')))
    lost: list[Datagram] = []

    def lose_two(datagram: Datagram) -> list[float]:
        if _refusal(datagram) and len(lost) < 2:
            lost.append(datagram)
            return []
        return deliver(datagram)

    bench.fate = lose_two
    bench.connect()
    bench.run(20)
    sent = [d for d in bench.wire if _refusal(d)]
    assert len(sent) == 3
    assert len(set(sent)) == 1
    told = [m for m in bench.b.all(IkeMessage) if m.exchange_type == INFORMATIONAL and not m.sent]
    assert [m.payloads for m in told] == [(NotifyPayload(NotifyType.AUTHENTICATION_FAILED),)]
    assert bench.b.last(IkeSaDown).cause == Cause.AUTHENTICATION_FAILED
    assert not bench.a.all(IkeSaUp)
    assert not sas_of(bench.a)
    assert not sas_of(bench.b)


def test_refused_responder_is_given_up_without_answer() -> None:
    bench = impostor_answers()
    bench.run(40)
    sent = [d for d in bench.wire if _refusal(d)]
    assert len(sent) > 2
    assert len(set(sent)) == 1
    assert not sas_of(bench.a)
    assert len(bench.a.all(IkeSaFailed)) == 1
    assert not bench.a.all(IkeSaDown)


def test_peer_removed_while_refused_leaves_nothing() -> None:
    bench = impostor_answers()
    bench.a.endpoint.remove_peer('b', bench.now)
    assert not sas_of(bench.a)

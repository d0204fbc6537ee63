"""Hostile input: nothing that arrives raises, and what is up stays up (RFC 7296, 2.4, 2.21)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from ikev2.constants import ExchangeType
from ikev2.events import Datagram, IkeSaUp, RpSaNegotiated
from ikev2.wire.payload import Payload
from tests.ikev2 import strategies
from tests.ikev2.bench import (
    A_ADDRESS,
    B_ADDRESS,
    Anything,
    Bench,
    altered,
    rp_request,
    sas_of,
)

STRANGER = ip_address('192.0.2.99')


def to_b(data: bytes, source: object = A_ADDRESS, port: int = 500) -> Datagram:
    """A datagram as it leaves A, or a host that claims to be A."""
    return Datagram(data, ip_address(str(source)), port, B_ADDRESS, 500)


def still_serves(bench: Bench) -> None:
    """A new RP SA can be negotiated."""
    before = len(bench.a.all(RpSaNegotiated))
    bench.run(2)
    bench.negotiate(rp_request(77))
    assert len(bench.a.all(RpSaNegotiated)) == before + 1


def recorded() -> list[Datagram]:
    """A real conversation: IKE SA, RP SA, rekey, Delete, liveness."""
    bench = Bench()
    bench.negotiate(rp_request(1))
    bench.negotiate(rp_request(2, rekey=1))
    bench.a.endpoint.delete('b', (1,), bench.now)
    bench.b.endpoint.check_liveness('a', bench.now)
    bench.settle()
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.settle()
    return bench.wire


RECORDED = recorded()


@given(st.lists(st.binary(max_size=200), max_size=20), st.sampled_from([A_ADDRESS, STRANGER]))
def test_endpoint_drops_arbitrary_octets(datagrams: list[bytes], source: object) -> None:
    bench = Bench()
    bench.connect()
    for data in datagrams:
        bench.inject(to_b(data, source))
    still_serves(bench)


@given(strategies.messages)
def test_endpoint_drops_or_answers_arbitrary_messages(message: object) -> None:
    bench = Bench()
    bench.connect()
    bench.inject(to_b(message.encode()))  # type: ignore[attr-defined]
    still_serves(bench)


@settings(max_examples=300)
@given(
    strategies.mutated(st.sampled_from([d.data for d in RECORDED])),
    st.integers(0, 12),
    st.booleans(),
)
def test_endpoint_survives_mutated_message_at_any_moment(
    data: bytes, moment: int, to_a: bool
) -> None:
    """The same conversation again, with the same SPIs and nonces, and one message that isn't."""
    bench = Bench()
    bench.a.endpoint.request('b', rp_request(1), bench.now)
    for _ in range(moment):
        bench.step()
    datagram = to_b(data)
    if to_a:
        datagram = replace(datagram, local=B_ADDRESS, remote=A_ADDRESS)
    bench.inject(datagram)
    bench.run(70)
    # IKE_SA_INIT is open to every host on the path; all the rest isn't.
    if not bench.a.all(RpSaNegotiated):
        assert moment <= 2
    still_serves(bench)


def spliced(bench: Bench, position: int) -> Datagram:
    """The start of one of this conversation's messages with the end of another."""
    first = bench.wire[position % len(bench.wire)]
    other = bench.wire[(position // 7) % len(bench.wire)]
    cut = position % (len(first.data) + 1)
    return altered(first, first.data[:cut] + other.data[cut:])


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_endpoint_survives_spliced_messages(positions: list[int]) -> None:
    bench = Bench()
    bench.negotiate(rp_request(1))
    for position in positions:
        bench.inject(spliced(bench, position))
    assert sas_of(bench.a)
    assert sas_of(bench.b)
    still_serves(bench)


EXCHANGES = st.sampled_from(
    [
        ExchangeType.CREATE_CHILD_SA,
        ExchangeType.INFORMATIONAL,
        ExchangeType.IKE_AUTH,
        ExchangeType.IKE_SA_INIT,
        ExchangeType.IKE_FOLLOWUP_KE,
    ]
)


@settings(max_examples=300)
@given(EXCHANGES, strategies.chains)
def test_endpoint_survives_any_payloads_of_authentic_requests(
    kind: ExchangeType, payloads: list[Payload]
) -> None:
    bench = Bench()
    bench.connect()
    (sa,) = sas_of(bench.a)
    exchange = Anything(kind, payloads)
    sa.queue(exchange, bench.now)
    bench.settle()
    if kind in (ExchangeType.IKE_AUTH, ExchangeType.IKE_SA_INIT):
        return
    assert exchange.answer is not None, 'every request of an authenticated peer is answered'
    if not sas_of(bench.b):
        # It was a Delete for the IKE SA, or a fatal error: its sender forgets the IKE SA, too.
        bench.a.endpoint.replace_ike_sa('b', bench.now)
    still_serves(bench)


@settings(max_examples=300)
@given(strategies.chains)
def test_endpoint_survives_any_payloads_of_authentic_answers(payloads: list[Payload]) -> None:
    bench = Bench()
    bench.connect()
    bench.b.obliging = False
    bench.a.endpoint.request('b', rp_request(1), bench.now)
    bench.run(0.1)
    (sa,) = sas_of(bench.b)
    sa.answer(payloads, bench.now)
    bench.b.endpoint._context.pending.clear()
    bench.b.obliging = True
    bench.settle()
    assert bench.a.all(IkeSaUp)
    still_serves(bench)

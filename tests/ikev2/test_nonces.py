"""The length of a peer's nonces (RFC 7296, 2.10): half the key of the PRF, at least."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ikev2.constants import PrfId
from ikev2.context import NONCE_LENGTH
from ikev2.events import (
    Cause,
    IkeMessage,
    IkeSaFailed,
    IkeSaUp,
    RpSaFailed,
    RpSaNegotiated,
    RpSaRequested,
)
from ikev2.proposals.ike import IkePolicy
from ikev2.sa.transitions import State
from tests.ikev2.bench import Bench, Node, peer_a, peer_b, rp_request, sas_of


def shorten_nonces(node: Node, length: int) -> None:
    """This end's nonces have so many octets."""
    random = node.endpoint._context.random
    node.endpoint._context.random = lambda size: random(size)[
        : length if size == NONCE_LENGTH else size
    ]


HALF_A_KEY = [(PrfId.HMAC_SHA2_256, 16), (PrfId.HMAC_SHA2_384, 24), (PrfId.HMAC_SHA2_512, 32)]
both_ends = pytest.mark.parametrize('who', ['a', 'b'])
of_two_lengths = pytest.mark.parametrize(
    ('prf', 'length'), [(prf, length - 1) for prf, length in HALF_A_KEY if length > 16]
)


def with_prf(prf: PrfId) -> Bench:
    policy = IkePolicy(prfs=(prf,))
    return Bench(a=replace(peer_a(), policy=policy), b=replace(peer_b(), policy=policy))


@pytest.mark.parametrize(('prf', 'length'), HALF_A_KEY)
def test_check_nonce_accepts_half_of_prf_key(prf: PrfId, length: int) -> None:
    """RFC 7296, 2.10; shorter than 16 octets there is none."""
    bench = with_prf(prf)
    for node in (bench.a, bench.b):
        shorten_nonces(node, length)
    bench.negotiate()
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.settle()
    (sa,) = [sa for sa in sas_of(bench.a) if sa.state == State.ESTABLISHED]
    assert (len(sa.origin.ni), len(sa.origin.nr)) == (length, length)
    assert len(bench.a.last(RpSaNegotiated).keys.lowest_nonce) == length


@both_ends
@of_two_lengths
def test_ike_sa_is_refused_when_nonce_is_too_short(prf: PrfId, length: int, who: str) -> None:
    bench = with_prf(prf)
    shorten_nonces(bench.nodes[who], length)
    bench.connect()
    bench.run(40)
    assert not bench.a.all(IkeSaUp)
    other, name = (bench.b, 'a') if who == 'a' else (bench.a, 'b')
    assert not sas_of(other)
    assert other.endpoint.snapshot().peer(name).counters.malformed > 0
    assert bench.a.last(IkeSaFailed).cause == Cause.NO_ANSWER


@both_ends
@of_two_lengths
def test_successor_is_refused_when_nonce_is_too_short(prf: PrfId, length: int, who: str) -> None:
    bench = with_prf(prf)
    bench.connect()
    shorten_nonces(bench.nodes[who], length)
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.run(1)
    told = 'N(INVALID_SYNTAX)' in [message.detail for message in bench.a.all(IkeMessage)]
    assert told is (who == 'a')
    # Whose fault it was or what B made of it: the IKE SA goes with it (RFC 7296, 2.21.3).
    assert not sas_of(bench.a)


@both_ends
@of_two_lengths
def test_rp_sa_is_refused_when_nonce_is_too_short(prf: PrfId, length: int, who: str) -> None:
    bench = with_prf(prf)
    bench.connect()
    shorten_nonces(bench.nodes[who], length)
    bench.a.endpoint.request('b', rp_request(), bench.now)
    bench.run(1)
    failed = bench.a.last(RpSaFailed)
    assert failed.cause == (Cause.REFUSED if who == 'a' else Cause.MALFORMED)
    assert not bench.a.all(RpSaNegotiated)
    assert bool(bench.b.all(RpSaRequested)) is (who == 'b')

"""Secrets are dropped as soon as they aren't needed (RFC 7296, 2.12): whatever an engine makes of
them is wiped, or is what an IKE SA or our user still needs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

import pytest

from ikev2.constants import KeyExchangeId, NotifyType
from ikev2.crypto.key_exchange import KeyExchange
from ikev2.events import RpSaKeys, RpSaNegotiated, RpSaRequested
from ikev2.proposals.ike import IkePolicy
from keymaterial import Secret
from tests.ikev2.bench import Bench, deliver, peer_a, peer_b, rp_request, sas_of

PLAIN = IkePolicy()
HYBRID = IkePolicy(additional=(KeyExchangeId.ML_KEM_768,), additional_required=True)


def nothing(bench: Bench) -> None:
    """Just an IKE SA."""


def negotiate(bench: Bench) -> None:
    bench.negotiate(rp_request(1))
    assert bench.a.all(RpSaNegotiated)


def rekey(bench: Bench) -> None:
    before = sas_of(bench.a)[0].origin.spis
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.settle()
    assert sas_of(bench.a)[0].origin.spis != before


def both_rekey(bench: Bench) -> None:
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.b.endpoint.rekey_ike_sa('a', bench.now)
    bench.run(60)


def reauthenticate(bench: Bench) -> None:
    bench.a.endpoint.reauthenticate('b', bench.now)
    bench.run(5)


def cancel(bench: Bench) -> None:
    number = bench.a.endpoint.request('b', rp_request(1), bench.now)
    bench.run(0.005)
    bench.a.endpoint.cancel('b', number, bench.now)
    bench.settle()


def be_refused(bench: Bench) -> None:
    bench.b.obliging = False
    bench.negotiate(rp_request(1))
    token = bench.b.last(RpSaRequested).token
    bench.b.endpoint.refuse(token, NotifyType.TS_UNACCEPTABLE, b'', bench.now)
    bench.settle()


def lose_what_was_asked(bench: Bench) -> None:
    bench.a.endpoint.request('b', rp_request(1), bench.now)
    bench.run(0.025)
    bench.fate = lambda datagram: []
    bench.run(60)
    bench.fate = deliver
    bench.connect()


def lose_a_rekey(bench: Bench) -> None:
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.run(0.025)
    bench.fate = lambda datagram: []
    bench.run(60)
    bench.fate = deliver
    bench.a.endpoint.connect('b', bench.now)
    bench.b.endpoint.check_liveness('a', bench.now)
    bench.run(60)


LIVES = [
    nothing,
    negotiate,
    rekey,
    both_rekey,
    reauthenticate,
    cancel,
    be_refused,
    lose_what_was_asked,
    lose_a_rekey,
]


@pytest.mark.parametrize('policy', [PLAIN, HYBRID], ids=['plain', 'hybrid'])
@pytest.mark.parametrize('life', LIVES)
def test_what_is_left_is_what_is_needed(
    life: Callable[[Bench], None], policy: IkePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(a=replace(peer_a(), policy=policy), b=replace(peer_b(), policy=policy))
    gc.collect()
    before = [one for one in gc.get_objects() if isinstance(one, KeyExchange)]
    made: list[Secret] = []
    make = Secret.__init__

    def record(self: Secret, octets: bytes) -> None:
        make(self, octets)
        made.append(self)

    monkeypatch.setattr(Secret, '__init__', record)
    bench.connect()
    life(bench)
    bench.run(60)  # closed IKE SAs linger

    needed = [sa.keys.sk_d for node in (bench.a, bench.b) for sa in sas_of(node)]
    keys: list[RpSaKeys] = [*bench.a.accepted, *bench.b.accepted]
    keys += [event.keys for node in (bench.a, bench.b) for event in node.all(RpSaNegotiated)]
    needed += [key.master_key for key in keys]
    assert needed
    left = [one for one in made if len(one) and not one.wiped]
    assert [one for one in left if not any(one is other for other in needed)] == []
    sas = [sa for node in (bench.a, bench.b) for sa in sas_of(node)]
    assert {sa.keys.sk_d.wiped for sa in sas} == {False}
    # Nor what has taken keys over: ciphers have copies of their own.
    assert {sa._channel._before for sa in sas} == {None}

    gc.collect()
    after = [one for one in gc.get_objects() if isinstance(one, KeyExchange)]
    assert len(after) == len(before)

"""Reauthentication (RFC 7296, 2.8.3): a new IKE SA with new proofs, then the old one's Delete."""

from __future__ import annotations

from dataclasses import replace

import pytest

import ikev2.exchanges.ike_auth as ike_auth
from ikev2.constants import ExchangeType, KeyExchangeId
from ikev2.errors import LocalError
from ikev2.events import (
    Cause,
    IkeSaDown,
    IkeSaFailed,
    IkeSaUp,
    InitialContact,
    RpSaFailed,
    RpSaNegotiated,
)
from ikev2.proposals.ike import IkePolicy
from ikev2.sa.transitions import State
from tests.ikev2.bench import LATENCY, Bench, is_kind, peer_a, peer_b, psk, rp_request, sas_of


def up(after: float | None = None) -> Bench:
    """Two ends with an IKE SA; A proves anew after that many seconds."""
    bench = Bench(b=replace(peer_b(), reauthenticate_after=after))
    bench.connect()
    return bench


def finished(bench: Bench) -> tuple[list[str], list[str]]:
    """Who has which IKE SAs."""
    a = [sa.origin.spis for sa in sas_of(bench.a) if sa.finished]
    b = [sa.origin.spis for sa in sas_of(bench.b) if sa.finished]
    return a, b


def test_reauthentication_makes_new_ike_sa_first() -> None:
    bench = up()
    bench.a.endpoint.check_liveness('b', bench.now)
    bench.settle()
    (old,) = sas_of(bench.a)
    bench.a.endpoint.reauthenticate('b', bench.now)
    while len(bench.a.all(IkeSaUp)) == 1:
        assert old.state == State.ESTABLISHED
        bench.step()
    bench.settle()
    a, b = finished(bench)
    assert a == b == [bench.a.last(IkeSaUp).spis]
    assert old.state == State.CLOSED
    for node in (bench.a, bench.b):
        assert len(node.all(IkeSaUp)) == 2
        assert not node.all(IkeSaDown)


def test_reauthentication_sends_no_initial_contact() -> None:
    """INITIAL_CONTACT would tell the peer that all connections are dead."""
    bench = up()
    before = len(bench.b.all(InitialContact))
    bench.a.endpoint.reauthenticate('b', bench.now)
    bench.settle()
    assert len(bench.b.all(InitialContact)) == before


def test_reauthentication_serves_requests_meanwhile() -> None:
    bench = up()
    bench.a.endpoint.reauthenticate('b', bench.now)
    for keyid in range(1, 6):
        bench.a.endpoint.request('b', rp_request(keyid), bench.now)
        bench.run(0.015)
    bench.run(5)
    assert len(bench.a.all(RpSaNegotiated)) == 5
    assert not bench.a.all(RpSaFailed)


def test_old_ike_sa_stays_when_reauthentication_is_refused() -> None:
    bench = up()
    (old,) = sas_of(bench.a)
    bench.fate = lambda d: [] if is_kind(d, ExchangeType.IKE_SA_INIT, response=False) else [LATENCY]
    bench.a.endpoint.reauthenticate('b', bench.now)
    bench.run(60)
    assert old.state == State.ESTABLISHED
    assert not bench.a.all(IkeSaFailed)


def test_both_reauthenticating_leave_one_ike_sa() -> None:
    for seed in range(4):
        bench = Bench(seed=seed)
        bench.a.mkts = bench.b.mkts = True
        bench.connect()
        bench.a.endpoint.reauthenticate('b', bench.now)
        bench.b.endpoint.reauthenticate('a', bench.now)
        bench.run(60)
        a, b = finished(bench)
        assert len(a) == 1
        assert a == b


def test_reauthentication_is_on_time_despite_rekeys() -> None:
    bench = up(after=1000)
    bench.run(400)
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.run(300)
    assert len(bench.a.all(IkeSaUp)) == 1
    bench.run(250)
    assert len(bench.a.all(IkeSaUp)) == 2
    bench.run(10_000)
    assert len(bench.a.all(IkeSaUp)) >= 11
    a, b = finished(bench)
    assert len(a) == 1
    assert a == b


def test_refused_rekey_only_delays_reauthentication() -> None:
    bench = up(after=1000)
    (sa,) = sas_of(bench.a)
    begin = sa.reauthentication[0].when
    (association,) = bench.b.endpoint._associations.values()
    ours = association.peer
    association.peer = replace(ours, policy=IkePolicy(groups=(KeyExchangeId.ECP_384,)))
    bench.run(begin - bench.now - LATENCY)
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.run(LATENCY)
    assert [one.state for one in sas_of(bench.a)] == [State.REKEYING]
    bench.settle()
    assert [one.state for one in sas_of(bench.a)] == [State.ESTABLISHED]
    for timer in sa._timers:  # it is not tried again soon
        if timer.when < bench.now + 15:
            timer.cancel()
    association.peer = ours
    bench.run(70)
    assert len(bench.a.all(IkeSaUp)) == 2
    assert not bench.a.all(IkeSaDown)


def test_proof_is_not_used_beyond_its_end() -> None:
    bench = up(after=1000)
    bench.fate = lambda d: [] if is_kind(d, ExchangeType.IKE_SA_INIT, response=False) else [LATENCY]
    bench.run(1001)
    assert bench.a.all(IkeSaDown)
    assert not [sa for sa in sas_of(bench.a) if sa.finished]


def test_proof_ends_with_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify_auth` tells it by the wall clock."""
    seen: list[float] = []

    def verify(*arguments: object, **named: object) -> float:
        at = named['at']
        assert isinstance(at, float)
        seen.append(at)
        return at + 500

    monkeypatch.setattr(ike_auth, 'verify_auth', verify)
    bench = up()
    assert seen
    (sa,) = sas_of(bench.a)
    assert sa.proven_by.until is not None
    assert abs(sa.proven_by.until - bench.wall - bench.now - 500) < 2
    bench.run(510)
    assert len(bench.a.all(IkeSaUp)) > 1
    assert sa.state == State.CLOSED


def test_removed_peer_is_not_reauthenticated() -> None:
    bench = up()
    association = bench.a.endpoint._associations['b']
    bench.a.endpoint.remove_peer('b', bench.now)
    association.reauthenticate(bench.now)
    assert association.attempt is None


def test_peer_refuses_reauthentication_below_a_minute() -> None:
    with pytest.raises(LocalError, match='at least a minute'):
        replace(peer_a(), reauthenticate_after=5)


def test_refused_ike_sa_does_not_hide_end_of_last_one() -> None:
    """Else the peer would be shown as up, and neither end would try again."""
    bench = Bench()
    bench.connect()
    changed = replace(peer_b(), remote_credential=psk('another secret that is long enough'))
    bench.a.endpoint.change_trust(changed, bench.now)
    bench.a.endpoint.reauthenticate('b', bench.now)
    # A's word that it doesn't believe B is on its way for as long as it takes.
    bench.fate = lambda d: (
        [] if is_kind(d, ExchangeType.INFORMATIONAL, response=True) else [LATENCY]
    )
    bench.run(2)
    assert len(sas_of(bench.a)) == 2
    assert not bench.a.all(IkeSaDown)
    bench.a.endpoint._associations['b'].drop(Cause.IKE_SA_LOST, bench.now)
    bench.collect()
    assert bench.a.all(IkeSaDown)

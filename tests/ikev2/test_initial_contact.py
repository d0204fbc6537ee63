"""INITIAL_CONTACT: whose RP SAs it ends, and that it is received (RFC 7296, 2.4; decision 13)."""

from __future__ import annotations

import pytest

from ikev2.constants import ExchangeType
from ikev2.events import (
    Datagram,
    IkeMessage,
    IkeSaUp,
    InitialContact,
    RpSaKeys,
    RpSaNegotiated,
)
from tests.ikev2.bench import (
    A_ADDRESS,
    B_ADDRESS,
    LATENCY,
    Bench,
    deliver,
    is_kind,
    peer_a,
    peer_b,
    rp_request,
    sas_of,
)


def restart_b(bench: Bench) -> None:
    """From nothing; its new self begins an IKE SA."""
    bench.boot('b')
    bench.b.endpoint.set_peer(peer_a(), bench.now)
    bench.b.endpoint.connect('a', bench.now)


def is_dead(keys: RpSaKeys, contact: InitialContact) -> bool:
    """Return whether INITIAL_CONTACT says that these keys are dead."""
    return keys.authenticated < contact.before


def late_answer(bench: Bench) -> RpSaKeys:
    """B answers, restarts, and the answer comes between the two messages of B's new self."""

    def fate(datagram: Datagram) -> list[float]:
        late = is_kind(datagram, ExchangeType.CREATE_CHILD_SA, response=True)
        return [2.5 * LATENCY] if late else [LATENCY]

    bench.fate = fate
    before = len(bench.a.events)
    bench.a.endpoint.request('b', rp_request(), bench.now)
    while not bench.b.accepted:
        bench.step()
    restart_b(bench)
    bench.settle()
    story = [
        event.exchange if isinstance(event, IkeMessage) else type(event)
        for event in bench.a.events[before:]
    ]
    assert story.index('IKE_SA_INIT') < story.index(RpSaNegotiated) < story.index(InitialContact)
    return bench.a.last(RpSaNegotiated).keys


def test_initial_contact_ends_rp_sa_of_old_self() -> None:
    bench = Bench()
    bench.connect()
    keys = late_answer(bench)
    assert is_dead(keys, bench.a.last(InitialContact))


def test_initial_contact_ends_rp_sa_of_rekeyed_ike_sa() -> None:
    """A rekey proves no identity."""
    bench = Bench()
    bench.connect()
    bench.negotiate(rp_request(1))
    bench.run(10)
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.settle()
    bench.negotiate(rp_request(2))
    first, second = (event.keys for event in bench.a.all(RpSaNegotiated))
    assert first.authenticated == second.authenticated < bench.now - 10


def test_initial_contact_spares_rp_sa_of_new_self() -> None:
    bench = Bench()
    bench.connect()
    restart_b(bench)
    bench.settle()
    for node, peer in ((bench.a, 'b'), (bench.b, 'a')):
        node.endpoint.request(peer, rp_request(9), bench.now)
        bench.settle()
    for keys in (bench.a.last(RpSaNegotiated).keys, *bench.a.accepted):
        assert not is_dead(keys, bench.a.last(InitialContact))


@pytest.mark.parametrize('late', [A_ADDRESS, B_ADDRESS])
def test_initial_contact_spares_both_when_ike_sas_cross(late: object) -> None:
    """Both say it, one of them long after RP SAs were made under the other IKE SA."""
    bench = Bench()

    def fate(datagram: Datagram) -> list[float]:
        auth = is_kind(datagram, ExchangeType.IKE_AUTH, response=False)
        return [0.3] if auth and datagram.local == late else [LATENCY]

    bench.fate = fate
    bench.a.endpoint.connect('b', bench.now)
    bench.b.endpoint.connect('a', bench.now)
    bench.run(0.1)
    for node, peer in ((bench.a, 'b'), (bench.b, 'a')):
        node.endpoint.request(peer, rp_request(9), bench.now)
    bench.run(0.9)
    for node in (bench.a, bench.b):
        assert len(node.all(IkeSaUp)) == 2
        made = [*node.accepted, node.last(RpSaNegotiated).keys]
        assert len(made) == 2
        assert not any(is_dead(keys, told) for keys in made for told in node.all(InitialContact))


def test_initial_contact_ends_successor_of_old_ike_sa() -> None:
    """One that was made after the new IKE_SA_INIT had come."""
    bench = Bench()
    bench.connect()
    bench.run(10)

    def fate(datagram: Datagram) -> list[float]:
        return [2.5 * LATENCY] if rekeys(datagram) else [LATENCY]

    def rekeys(datagram: Datagram) -> bool:
        return is_kind(datagram, ExchangeType.CREATE_CHILD_SA, response=True)

    bench.fate = fate
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    while not any(map(rekeys, bench.wire)):
        bench.step()
    restart_b(bench)
    bench.settle()
    assert [sa.origin.spis for sa in sas_of(bench.a)] == [bench.a.last(IkeSaUp).spis]


def test_initial_contact_is_repeated_when_perhaps_lost() -> None:
    """A gives up before B's answer has come, so it has not been told that B is new."""
    bench = Bench()
    bench.fate = lambda datagram: (
        [] if is_kind(datagram, ExchangeType.IKE_AUTH, response=True) else [LATENCY]
    )
    bench.a.endpoint.connect('b', bench.now)
    bench.run(40)
    assert bench.b.all(IkeSaUp)
    assert not bench.a.all(IkeSaUp)
    bench.fate = deliver
    bench.connect()
    assert bench.a.all(InitialContact)
    bench.run(40)
    assert [sa.origin.spis for sa in sas_of(bench.b)] == [bench.a.last(IkeSaUp).spis]


def test_initial_contact_spares_what_peer_still_has() -> None:
    """A program probes in its name: that must cost the router behind it nothing."""
    bench = Bench()
    bench.connect()
    router = bench.a
    bench.boot('a').endpoint.set_peer(peer_b(), bench.now)
    bench.a.mkts = True
    bench.connect()
    assert bench.a.all(InitialContact)
    bench.a.endpoint.remove_peer('b', bench.now)
    bench.settle()
    bench.nodes['a'] = router
    bench.run(40)
    assert [sa.origin.spis for sa in sas_of(bench.b)] == [router.last(IkeSaUp).spis]
    bench.negotiate()
    assert bench.a.last(RpSaNegotiated)


def test_initial_contact_is_not_repeated_when_peer_has_spoken() -> None:
    bench = Bench()
    bench.connect()
    bench.a.endpoint.check_liveness('b', bench.now)
    bench.settle()
    bench.a.endpoint.reauthenticate('b', bench.now)
    bench.settle()
    assert len(bench.a.all(IkeSaUp)) == 2
    assert len(bench.a.all(InitialContact)) == 1

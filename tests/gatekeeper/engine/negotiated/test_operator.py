"""What an operator does: rekey, revoke, and take it back."""

from __future__ import annotations

import pytest

from gatekeeper.state.mkt_record import MktState
from gatekeeper.state.selection import Selection
from gatekeeper.state.snapshot import snapshot
from tests.gatekeeper.world import FAMILIES, Router, pair_of, policies, up

V4, V6 = 'ipv4 unicast', 'ipv6 unicast'
ALL = Selection()


def test_rekey_replaces_the_keys_that_are_meant() -> None:
    world, r1, r2 = up()
    before = {name: r1.connection(name).mkt_in_use for name in FAMILIES}
    assert r2.core.rekey(Selection(session=V4), world.now) == 1
    world.run(5)
    assert r1.connection(V4).mkt_in_use is not before[V4]
    assert r1.connection(V6).mkt_in_use is before[V6]
    assert not r1.closed


@pytest.mark.parametrize(
    ('selection', 'ended'),
    [
        (Selection(neighbor='10.0.0.2', session=V4), 1),
        (Selection(peer_id='fqdn r2.lab'), 2),
        (Selection(neighbor='10.0.0.9'), 0),
        (ALL, 2),
    ],
)
def test_revoke_ends_what_is_meant_at_once(selection: Selection, ended: int) -> None:
    world, r1, r2 = up()
    keys = [r1.connection(name).mkt_in_use for name in FAMILIES]
    assert r1.core.revoke(selection, world.now) == ended
    r1.pump()
    assert len(r1.sessions) == 2 - ended
    assert [key.state for key in keys].count(MktState.REVOKED) == ended
    world.run(2)
    assert len(r2.sessions) == 2 - ended


def last_error(router: Router, now: float) -> str:
    return str(snapshot(router.core.state, now)[0]['last_error'])


@pytest.mark.parametrize('where', ['opener', 'listener'])
def test_a_revoked_session_gets_no_key_until_it_is_restored(where: str) -> None:
    world, r1, r2 = up()
    router = r1 if where == 'opener' else r2
    selection = Selection(session=V4)
    router.core.revoke(selection, world.now)
    world.run(2)
    # It outlives a reload.
    router.core.configure(policies(router.name), world.now)
    assert r1.open('r1 ipv4 unicast', pair_of(V4)).error is not None or where == 'listener'
    world.run(35)
    assert len(r1.sessions) == 1
    assert 'revoked by an operator' in last_error(router, world.now)
    assert router.core.restore(selection)
    assert not router.core.restore(selection)
    r1.open('r1 ipv4 unicast', pair_of(V4))
    world.run(5)
    assert len(r1.sessions) == len(r2.sessions) == 2


def test_revoking_twice_is_taken_back_once() -> None:
    world, r1, _ = up()
    for _ in range(2):
        r1.core.revoke(ALL, world.now)
    assert r1.core.restore(ALL)
    assert not r1.core.restore(ALL)

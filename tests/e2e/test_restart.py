"""A daemon that is killed (-9) and started again, on pinned ports.

The network is cut while it dies, so the other side sees no RST: it goes on with connections whose
peer is no more, and which would swallow every new SYN from the same ports until the hold time is
over.
"""

from __future__ import annotations

import pytest

from gatekeeper.reporting.events import EventName
from tests.e2e import pair
from tests.e2e.backends import under_both
from tests.e2e.configurations import FAMILIES
from tests.e2e.conftest import Routers
from tests.e2e.router import Router

pytestmark = under_both

HOLD_TIME = 180
BACK_WITHIN = 30.0
"""Seconds from the new IKE SA, on a slow machine."""


@pytest.fixture(scope='module')
def both(routers: Routers) -> Routers:
    """Both sessions are up, with routes both ways."""
    pair.configure(routers, hold_time=HOLD_TIME)
    pair.start(routers.r2)
    pair.start(routers.r1)
    pair.await_up(routers)
    return routers


def die_unheard(victim: Router, survivor: Router) -> None:
    """Kill the daemon in a way that its peer can't notice."""
    before = survivor.established()
    with pair.cut(victim.node, survivor.node):
        victim.kill()
        assert not victim.connections()
    assert len(survivor.connections()) == len(FAMILIES), 'the survivor has noticed'
    now = survivor.established()
    assert all(now[family] >= before[family] for family in FAMILIES), 'the survivor has noticed'


def await_return(victim: Router, survivor: Router, both: Routers) -> float:
    """Start it again; seconds from its IKE SA until both routers have both sessions and routes."""
    ended = {family: len(survivor.named(EventName.OPEN, family)) for family in FAMILIES}
    pair.start(victim)
    up = victim.await_event(EventName.IKE_AUTH, response=True).time
    for family, count in ended.items():
        survivor.await_event(EventName.OPEN, family, count=count + 1)
        victim.await_event(EventName.OPEN, family)
    pair.await_up(both)
    return (
        max(
            router.named(EventName.OPEN, family)[-1].time
            for router in (victim, survivor)
            for family in FAMILIES
        )
        - up
    )


def test_killed_opener_is_back_within_seconds(both: Routers) -> None:
    r1, r2 = both.r1, both.r2
    die_unheard(r1, r2)
    assert await_return(r1, r2, both) < BACK_WITHIN
    assert {port for _, _, port in r2.connections()} == {*pair.PORTS.values()}


def test_killed_listener_is_back_within_seconds(both: Routers) -> None:
    r1, r2 = both.r1, both.r2
    die_unheard(r2, r1)
    assert await_return(r2, r1, both) < BACK_WITHIN
    assert {port for _, _, port in r2.connections()} == {*pair.PORTS.values()}

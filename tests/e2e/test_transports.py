"""BGP over IPv6, from ports that the kernel chooses at bind()."""

from __future__ import annotations

import pytest

from gatekeeper.reporting.events import EventName
from lab.impostors import Ending, Heard, inside, speak
from tests.e2e.backends import under_both
from tests.e2e.configurations import FAMILIES, PREFIXES, ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.router import Dropped

pytestmark = under_both

R1, R2 = 'fd00::1', 'fd00::2'
LIFETIME = 15
# A SYN is repeated after 1 s.
SYN_SECONDS = 1.5


@pytest.fixture(scope='module')
def both(routers: Routers) -> Routers:
    """Both sessions are up, with routes both ways."""
    r1, r2 = routers.r1, routers.r2
    for router, peer, local, remote in ((r2, r1, R2, R1), (r1, r2, R1, R2)):
        router.configure(
            neighbor(
                router.name,
                peer.name,
                local=local,
                remote=remote,
                protection=ikev2(router.name, peer.name, lifetime=LIFETIME),
                passive=router is r2,
                routes=ROUTES[router.name],
            )
        )
        router.start(listen=R2 if router is r2 else None)
    for router, peer in ((r1, r2), (r2, r1)):
        router.await_established(*FAMILIES)
        router.await_routes(*PREFIXES[peer.name])
    return routers


def test_each_family_has_a_connection_over_ipv6(both: Routers) -> None:
    for router, local, remote in ((both.r1, R1, R2), (both.r2, R2, R1)):
        assert [connection[:2] for connection in router.connections()] == [(local, remote)] * 2


def test_keys_are_for_the_ports_that_the_kernel_chose(both: Routers) -> None:
    ports = {port for _, _, port in both.r1.connections()}
    assert len(ports) == len(FAMILIES)
    for session in FAMILIES:
        bound = both.r1.await_event(EventName.BIND, session)
        assert bound.details['pinned'] is False
    keyed = {str(key['local']) for key in both.r1.key_list()}
    assert keyed >= {f'[{R1}]:{port}' for port in ports}


def test_listener_tells_the_sessions_apart_without_pinned_ports(both: Routers) -> None:
    keys = [key for router in (both.r1, both.r2) for key in router.key_list()]
    sessions = {(key['local'], key['session']) for key in keys}
    ends = [local for local, _ in sessions]
    assert len(ends) == len(set(ends)), 'none is of two sessions'
    assert {session for _, session in sessions} == {*FAMILIES}


@pytest.mark.parametrize('session', FAMILIES)
def test_keys_are_replaced(both: Routers, session: str) -> None:
    uptime = both.r2.established()[session]
    for router in (both.r1, both.r2):
        router.await_event(EventName.REKEY_STARTED, session)
        router.await_event(EventName.RNEXT_MOVED, session)
    assert both.r2.established()[session] >= uptime


def test_unsigned_syn_is_dropped(both: Routers) -> None:
    before = both.r2.dropped(Dropped.UNSIGNED)
    with inside(both.r1.node.namespace):
        assert speak(R1, (R2, 179), SYN_SECONDS) == Heard(Ending.NO_CONNECTION, b'')
    both.r2.await_dropped(Dropped.UNSIGNED, before)

"""A reload that is asked for while a session has routes to send comes when they are sent.

ExaBGP by itself logs that it schedules such a reload, and forgets it.
"""

from __future__ import annotations

import signal

from bench.routes import split_routes
from plugin.reactor.deferred_reload import WAITS
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2
from tests.e2e.router import PATIENCE, Router, within

pytestmark = under_userspace

FAMILY = 'ipv4 unicast'
ROUTES = 20_000
"""Seconds of sending, one UPDATE each."""


def text(router: Router, *more: str) -> str:
    peer, local, remote = ('r2', R1, R2) if router.name == 'r1' else ('r1', R2, R1)
    table = split_routes(ROUTES if router.name == 'r1' else 0)
    block = neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection='    group-updates false;\n' + ikev2(router.name, peer),
        passive=router.name == 'r2',
        families=[FAMILY],
        routes=[route.removeprefix('route ').removesuffix(';') for route in table],
    )
    return ''.join((block, *more))


def updates(router: Router) -> int:
    """Return the number of UPDATEs that the router has read."""
    (row,) = router.neighbors()
    count: int = row['messages']['received'].get('update', 0)
    return count


def test_reload_is_done_when_the_routes_are_sent(routers: Routers) -> None:
    r1, r2 = routers.r1, routers.r2
    for router in (r2, r1):
        router.configure(text(router))
        router.start(listen=R2 if router is r2 else None)
    within(PATIENCE, lambda: updates(r2) > 0, lambda: r1.told('the first route'))
    # It has to wait for the table.
    r1.ask('announce route 203.0.113.0/24 next-hop 10.0.0.1')
    helper = r1.cli_helper()
    another = neighbor('r1', 'r3', local='10.0.3.1', remote='10.0.3.3', passive=True)
    r1.configure(text(r1, another))
    r1.signal(signal.SIGUSR1)
    r1.await_log(WAITS)
    r1.await_helper(helper)
    assert len(r1.neighbors()) == 2
    # And one announced, and End-of-RIB.
    within(PATIENCE, lambda: updates(r2) >= ROUTES + 2, lambda: r2.told('all routes'))

"""A reload gives a neighbor that has a plain BGP session an `ikev2` section.

The daemons stay root: a daemon that has become `nobody` can neither read a new key file nor bind
UDP 500.
"""

from __future__ import annotations

import signal

import pytest

from gatekeeper.reporting.events import EventName
from lab.impostors import Ending, Heard, inside, speak
from tests.e2e.backends import under_both
from tests.e2e.configurations import ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2
from tests.e2e.router import PATIENCE, Dropped, Router, within

pytestmark = under_both

FAMILY = 'ipv4 unicast'
# ExaBGP tries again after 1, 2, 3 s; a SYN is repeated after 1 s.
SYN_SECONDS = 1.5


def text(router: Router, protection: str = '') -> str:
    peer, local, remote = ('r2', R1, R2) if router.name == 'r1' else ('r1', R2, R1)
    return neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection=protection,
        passive=router.name == 'r2',
        families=[FAMILY],
        routes=ROUTES[router.name][:1],
    )


@pytest.fixture(scope='module')
def plain(routers: Routers) -> Routers:
    """r1 and r2 with one plain session."""
    for router in (routers.r2, routers.r1):
        router.configure(text(router))
        router.start(
            listen=R2 if router is routers.r2 else None,
            environment={'exabgp_daemon_user': 'root'},
        )
    # ExaBGP doesn't reload while it has routes to send.
    for router, peer in ((routers.r1, 'r2'), (routers.r2, 'r1')):
        router.await_established(FAMILY)
        router.await_routes(ROUTES[peer][0].split()[0])
    return routers


def test_session_ends_and_no_plain_one_comes_up_again(plain: Routers) -> None:
    r2 = plain.r2
    r2.configure(text(r2, ikev2('r2', 'r1')))
    helper = r2.cli_helper()
    r2.signal(signal.SIGUSR1)
    for router in (r2, plain.r1):
        within(
            PATIENCE,
            lambda router=router: not router.connections(),  # type: ignore[misc]
            lambda router=router: router.told('the plain session ended'),  # type: ignore[misc]
        )
    r2.await_helper(helper)
    dropped = r2.dropped(Dropped.UNSIGNED)
    with inside(plain.r1.node.namespace):
        assert speak(R1, (R2, 179), SYN_SECONDS) == Heard(Ending.NO_CONNECTION, b'')
    r2.await_dropped(Dropped.UNSIGNED, dropped)
    assert r2.is_running
    assert not r2.connections()


def test_session_comes_up_when_the_peer_protects_it_too(plain: Routers) -> None:
    r1, r2 = plain.r1, plain.r2
    r1.configure(text(r1, ikev2('r1', 'r2')))
    r1.signal(signal.SIGUSR1)
    for router in (r1, r2):
        router.await_event(EventName.ESTABLISHED, FAMILY)
        router.await_event(EventName.OPEN, FAMILY)
    within(PATIENCE, r2.established, lambda: r2.told('the session under a key'))
    # What an attempt before has left behind goes.
    within(
        PATIENCE,
        lambda: [row['state'] for row in r2.show()] == ['in use'],
        lambda: r2.told(f'one connection, in use: {r2.show()}'),
    )

"""The largest number of sessions with one peer: they end together, and are up again together."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from gatekeeper.reporting.events import EventName
from gatekeeper.state.limits import MAX_CONNECTIONS
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.router import Router, within

pytestmark = under_userspace

UP_WITHIN = 100.0
"""Seconds from the start of the daemons, on a slow machine."""
AGAIN_WITHIN = 55.0
"""Seconds from the reload until all are up again, on a slow machine; 5 s on an idle one. As long as
an id of a closed connection counts as live after its DELETE, it would be more."""


def address(router: str, number: int) -> str:
    return f'10.{router[-1]}.0.{number + 1}'


def configure(router: Router, peer: Router, hold_time: int) -> None:
    """Write a neighbor for each session, all between the same two identities."""
    router.configure(
        ''.join(
            neighbor(
                router.name,
                peer.name,
                local=address(router.name, number),
                remote=address(peer.name, number),
                protection=ikev2(router.name, peer.name, lifetime=3600),
                passive=router.name == 'r2',
                families=('ipv4 unicast',),
                hold_time=hold_time,
            )
            for number in range(MAX_CONNECTIONS)
        )
    )


def add_addresses(router: Router) -> None:
    """Give the router an address for each session."""
    batch = ''.join(
        f'address add {address(router.name, number)}/8 dev eth1\n'
        for number in range(MAX_CONNECTIONS)
    )
    router.node.run(['ip', '-batch', '-'], input=batch)


def delete_addresses(router: Router) -> None:
    """Take them away from the topology, which other modules use too."""
    network = f'{address(router.name, 0)}/16'
    router.node.run(['ip', 'address', 'flush', 'dev', 'eth1', 'to', network])


@pytest.fixture(scope='module')
def both(routers: Routers) -> Iterator[Routers]:
    """All sessions are up."""
    for router, peer in ((routers.r2, routers.r1), (routers.r1, routers.r2)):
        add_addresses(router)
        configure(router, peer, 180)
    routers.r2.start(listen='0.0.0.0')
    routers.r1.start()
    await_all(routers, UP_WITHIN, 1)
    yield routers
    for router in (routers.r2, routers.r1):
        delete_addresses(router)


def opens(router: Router) -> int:
    return len(router.named(EventName.OPEN))


def await_all(routers: Routers, seconds: float, times: int) -> None:
    """Until each session has been opened so many times, at both ends."""
    wanted = times * MAX_CONNECTIONS
    within(
        seconds,
        lambda: opens(routers.r1) >= wanted and opens(routers.r2) >= wanted,
        lambda: routers.r1.told(
            routers.r2.told(
                f'{wanted} sessions opened (r1 {opens(routers.r1)}, r2 {opens(routers.r2)})'
            )
        ),
    )


def test_sessions_that_end_together_are_up_within_seconds(both: Routers) -> None:
    """A reload with another hold time ends every session at once."""
    configure(both.r1, both.r2, 170)
    both.r1.signal(signal.SIGUSR1)
    begun = time.time()
    await_all(both, UP_WITHIN, 2)
    last = both.r1.named(EventName.OPEN)[2 * MAX_CONNECTIONS - 1].time - begun
    print(f'{MAX_CONNECTIONS} sessions: the last is up {last:.1f} s after the reload')
    assert last < AGAIN_WITHIN

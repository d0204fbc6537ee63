"""Both routers connect and listen: two socket pairs and two keys for each session, of which BGP's
collision rule leaves one.
"""

from __future__ import annotations

import pytest

from gatekeeper.reporting.events import EventName
from tests.e2e.backends import under_both
from tests.e2e.configurations import FAMILIES, PREFIXES, ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2, throughout
from tests.e2e.router import PATIENCE, Router, within

pytestmark = under_both

PORTS = {'r1': (40001, 40002), 'r2': (41001, 41002)}
"""Each one's source ports, by family."""
STAYS_SECONDS = 6.0
"""Longer than ExaBGP's first delays before it tries again."""


@pytest.fixture(scope='module')
def both(routers: Routers) -> Routers:
    """Both sessions are up, with routes both ways."""
    r1, r2 = routers.r1, routers.r2
    for router, peer, local, remote in ((r1, r2, R1, R2), (r2, r1, R2, R1)):
        sessions = {
            family: f'source-port {ours}; peer-port {theirs};'
            for family, ours, theirs in zip(
                FAMILIES, PORTS[router.name], PORTS[peer.name], strict=True
            )
        }
        router.configure(
            neighbor(
                router.name,
                peer.name,
                local=local,
                remote=remote,
                protection=ikev2(router.name, peer.name, sessions=sessions),
                routes=ROUTES[router.name],
            )
        )
    r1.start(listen=R1)
    r2.start(listen=R2)
    for router, peer in ((r1, r2), (r2, r1)):
        router.await_established(*FAMILIES)
        router.await_routes(*PREFIXES[peer.name])
    return routers


def opener(connection: tuple[str, str, int]) -> int:
    """The port that a connection was opened from: a pinned one tells session and opener."""
    return connection[2]


def settled(router: Router) -> list[int] | None:
    """The openers' ports once there is one connection for each family."""
    ports = sorted(opener(connection) for connection in router.connections())
    families = {number % 10 for number in ports}
    return ports if len(ports) == len(families) == len(FAMILIES) else None


def await_settled(both: Routers) -> None:
    within(
        PATIENCE,
        # The same at both ends: one of them may see two in between.
        lambda: settled(both.r1) is not None and settled(both.r1) == settled(both.r2),
        lambda: both.r1.told(both.r2.told('one connection each')),
    )


def test_each_session_ends_up_with_one_connection(both: Routers) -> None:
    await_settled(both)


def test_sessions_stay_once_they_are_up(both: Routers) -> None:
    await_settled(both)
    connections = sorted(both.r1.connections())
    uptimes = {router: router.established() for router in (both.r1, both.r2)}

    def look() -> None:
        assert sorted(both.r1.connections()) == connections
        for router, before in uptimes.items():
            now = router.established()
            assert all(now[family] >= before[family] for family in FAMILIES)
            before.update(now)

    throughout(STAYS_SECONDS, look)


def test_every_connection_that_got_an_open_was_proven(both: Routers) -> None:
    for router in (both.r1, both.r2):
        for family in FAMILIES:
            opens = router.named(EventName.OPEN, family)
            assert opens
            # Told by another thread: its line may come a moment later.
            router.await_event(EventName.ESTABLISHED, family, count=len(opens))
            proven = router.named(EventName.ESTABLISHED, family)
            assert proven[0].time <= opens[0].time


def test_key_of_the_connection_that_lost_is_gone(both: Routers) -> None:
    """`show` has one row for each session, and it is that of the connection that there is."""
    for router in (both.r1, both.r2):
        rows = within(
            PATIENCE,
            lambda router=router: _of_what_is_there(router),  # type: ignore[misc]
            lambda router=router: router.told(str(router.show())),  # type: ignore[misc]
        )
        assert {row['session'] for row in rows} == {*FAMILIES}


def _of_what_is_there(router: Router) -> list[dict[str, object]] | None:
    rows = router.show()
    theirs = {opener(connection) for connection in router.connections()}
    shown = {
        int(str(row[end]).rpartition(':')[2]) for row in rows for end in ('local', 'remote')
    } - {179}
    return rows if len(rows) == len(FAMILIES) and shown == theirs else None

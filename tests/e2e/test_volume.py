"""A lifetime by volume: routes that use up most of it have the key replaced, without a flap."""

from __future__ import annotations

import pytest

from tests.e2e.backends import under_both
from tests.e2e.configurations import ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2
from tests.e2e.router import PATIENCE, within

pytestmark = under_both

FAMILY = 'ipv4 unicast'
OCTETS = 10_000
ROUTES = tuple(f'192.0.2.{n}/32 next-hop {R1} med {n}' for n in range(1, 160))
"""Some 60 octets each: between three quarters and all of the volume."""


@pytest.fixture
def pair(routers: Routers) -> Routers:
    """The session is up; r1 has begun to send its routes."""
    r1, r2 = routers.r1, routers.r2
    for router, peer, local, remote, pin in (
        (r2, r1, R2, R1, 'peer-port'),
        (r1, r2, R1, R2, 'source-port'),
    ):
        said = f'{pin} 40001; lifetime-octets {OCTETS};'
        router.configure(
            neighbor(
                router.name,
                peer.name,
                local=local,
                remote=remote,
                families=(FAMILY,),
                protection=ikev2(router.name, peer.name, sessions={FAMILY: said}),
                passive=router is r2,
                routes=ROUTES if router is r1 else (),
            )
        )
        router.start(listen=R2 if router is r2 else None)
    for router in (r1, r2):
        router.await_established(FAMILY)
    return routers


def test_key_is_replaced_when_routes_use_up_its_volume(pair: Routers) -> None:
    connections = pair.r2.connections()

    def replaced() -> bool:
        rows = [row for router in (pair.r1, pair.r2) for row in router.show()]
        return len(rows) == 2 and all(row['rekeys'] for row in rows)

    within(PATIENCE, replaced, lambda: pair.r1.told(pair.r2.told('a rekey at both ends')))
    assert pair.r2.connections() == connections
    assert len(pair.r2.routes()) == len(ROUTES)
    assert all(row['volume_used'] < 0.75 for row in pair.r1.show())

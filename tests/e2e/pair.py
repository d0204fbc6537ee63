"""The usual two: r1 opens both sessions from pinned ports, r2 listens; and their network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab.topology import Node
from tests.e2e.configurations import FAMILIES, PREFIXES, PSK, ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.router import LOOK_EVERY, Router

R1, R2 = '10.0.0.1', '10.0.0.2'
PORTS = {'ipv4 unicast': 40001, 'ipv6 unicast': 40002}
"""r1's source ports."""


def configure(routers: Routers, *, credential: str = PSK, hold_time: int = 180) -> None:
    """Write both configurations."""
    r1, r2 = routers.r1, routers.r2
    for router, peer, local, remote, pin in (
        (r1, r2, R1, R2, 'source-port'),
        (r2, r1, R2, R1, 'peer-port'),
    ):
        pins = {session: f'{pin} {port};' for session, port in PORTS.items()}
        router.configure(
            neighbor(
                router.name,
                peer.name,
                local=local,
                remote=remote,
                protection=ikev2(router.name, peer.name, credential=credential, sessions=pins),
                passive=router is r2,
                routes=ROUTES[router.name],
                hold_time=hold_time,
            )
        )


def start(router: Router) -> None:
    """r2 listens, r1 doesn't."""
    router.start(listen=R2 if router.name == 'r2' else None)


def await_up(routers: Routers) -> None:
    """Until both sessions are up at both ends, with the routes of the other."""
    for router, peer in ((routers.r1, routers.r2), (routers.r2, routers.r1)):
        router.await_established(*FAMILIES)
        router.await_routes(*PREFIXES[peer.name])


@contextmanager
def cut(*nodes: Node, interface: str = 'eth1') -> Iterator[None]:
    """Drop all that comes in by the interface, for every node, without an error."""
    rules = f"""
        table inet cut {{
            chain incoming {{
                type filter hook prerouting priority -300
                iifname "{interface}" drop
            }}
        }}
    """
    for node in nodes:
        node.run(['nft', '-f', '-'], input=rules)
    try:
        yield
    finally:
        for node in nodes:
            node.run(['nft', 'delete', 'table', 'inet', 'cut'])


def throughout(seconds: float, look: Callable[[], None]) -> None:
    """Look again and again, for so long at least; `look` asserts."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        look()
        time.sleep(LOOK_EVERY)

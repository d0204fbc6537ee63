"""r1's link to r2 is in a VRF: IKE, TCP and a rekey go by the source-interface."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from gatekeeper.reporting.events import EventName
from lab.impostors import inside
from tests.e2e import pair
from tests.e2e.configurations import FAMILIES, ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2

pytestmark = pytest.mark.kernel

SESSION = FAMILIES[0]
LIFETIME = 30
PORT = 40001
VRF = 'ip link add red type vrf table 10; ip link set red up; ip link set eth1 vrf red'
NO_VRF = 'ip link set eth1 nomaster; ip link del red; ip address add fd00::1/64 dev eth1 nodad'


@pytest.fixture(scope='module')
def in_vrf(routers: Routers) -> Iterator[Routers]:
    routers.r1.node.run(['sh', '-ec', VRF])
    yield routers
    routers.stop()
    routers.r1.node.run(['sh', '-c', NO_VRF])


def text(name: str, peer: str, local: str, remote: str, *, passive: bool) -> str:
    pin = 'peer-port' if passive else 'source-port'
    made = neighbor(
        name,
        peer,
        local=local,
        remote=remote,
        protection=ikev2(name, peer, sessions={SESSION: f'{pin} {PORT};'}, lifetime=LIFETIME),
        passive=passive,
        families=[SESSION],
        routes=ROUTES[name][:1],
    )
    if name == 'r2':
        return made
    return made.replace('    router-id', '    source-interface eth1;\n    router-id', 1)


def test_session_comes_up_and_is_rekeyed_when_it_is_in_a_vrf(in_vrf: Routers) -> None:
    """The peer begins every other exchange: its requests have to arrive too."""
    r1, r2 = in_vrf.r1, in_vrf.r2
    r1.configure(text('r1', 'r2', R1, R2, passive=False))
    r2.configure(text('r2', 'r1', R2, R1, passive=True))
    pair.start(r2)
    pair.start(r1)
    r2.await_established(SESSION)
    r1.await_event(EventName.MKT_REMOVED, SESSION, count=2)
    assert len(r1.named(EventName.ESTABLISHED)) == 1


def test_passive_session_comes_up_when_listeners_hear_the_vrf(in_vrf: Routers) -> None:
    """Which is off by default, and told then; no segment without the key is accepted either way."""
    r1, r2 = in_vrf.r1, in_vrf.r2
    in_vrf.stop()
    r1.configure(text('r1', 'r2', R1, R2, passive=True))
    r2.configure(text('r2', 'r1', R2, R1, passive=False))
    r1.start(listen='0.0.0.0')
    r1.await_log('tcp_l3mdev_accept')
    r1.set('ipv4/tcp_l3mdev_accept', 1)
    r1.await_listening()
    refused = r1.counter('TCPAORequired')
    with inside(r2.node.namespace), socket.socket() as impostor:
        impostor.settimeout(3.0)
        with pytest.raises(TimeoutError):
            impostor.connect((R1, 179))
    assert r1.counter('TCPAORequired') > refused
    r2.start()
    r1.await_established(SESSION)

"""Neighbors with link-local addresses: IKE and TCP go by their source-interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatekeeper.reporting.events import EventName
from tests.e2e.backends import under_both
from tests.e2e.configurations import ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.router import HOME, Router

pytestmark = under_both

FAMILY = 'ipv6 unicast'
ADDRESSES = {'r1': 'fe80::1', 'r2': 'fe80::2'}


def text(router: Router) -> str:
    peer = 'r2' if router.name == 'r1' else 'r1'
    block = neighbor(
        router.name,
        peer,
        local=ADDRESSES[router.name],
        remote=ADDRESSES[peer],
        protection=ikev2(router.name, peer),
        passive=router.name == 'r2',
        families=[FAMILY],
    )
    return block.replace('    local-as', '    source-interface eth1;\n    local-as', 1)


@pytest.fixture
def pair(routers: Routers) -> Iterator[Routers]:
    """r1 and r2 with daemons; the addresses are theirs for this test only."""
    both = (routers.r2, routers.r1)
    for router in both:
        _address(router, 'add', 'nodad')
        router.configure(text(router))
    for router in both:
        router.start(listen='::' if router is routers.r2 else None)
    yield routers
    routers.stop()
    for router in both:
        _address(router, 'del')


def _address(router: Router, verb: str, *more: str) -> None:
    address = f'{ADDRESSES[router.name]}/64'
    router.node.run(['ip', 'address', verb, address, 'dev', 'eth1', *more])


def test_session_comes_up_when_addresses_are_link_local(pair: Routers) -> None:
    for router in (pair.r1, pair.r2):
        router.await_event(EventName.ESTABLISHED, FAMILY)
        router.await_established(FAMILY)
        assert [row['state'] for row in router.show()] == ['in use']


def test_probe_reaches_a_link_local_peer_by_its_interface(pair: Routers) -> None:
    pair.r2.await_established(FAMILY)
    ids = ['--local-id', 'fqdn', 'r1.lab', '--peer-id', 'fqdn', 'r2.lab']
    ends = ['fe80::2%eth1', '--local-address', 'fe80::1']
    probe = ['gatekeeper', 'probe', *ends, *ids, '--psk-file', f'/{HOME}/psk']
    tried = pair.r1.node.run(probe, check=False)
    assert tried.returncode == 0, tried.stdout
    assert tried.stdout.endswith('IKE: all is proven\n')

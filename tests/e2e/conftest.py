"""The routers of the end-to-end tests: one topology for all of them, daemons for each module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import impostors
from lab.demo.capture import Capture
from lab.keys import make_keys
from lab.tcpao_kernel import has_tcp_ao
from lab.topology import Node, Topology
from tcpao.backend import Preference
from tcpao.second_net.ruleset import number_of
from tests.e2e.router import Router

TOPOLOGY = Path(__file__).with_name('e2e.clab.yml')


@dataclass(frozen=True, slots=True)
class Routers:
    """r1 and r2 face each other; r3 is r1's plain neighbor."""

    r1: Router
    r2: Router
    r3: Router

    def stop(self) -> None:
        """No daemon runs any more, and nothing drops what the next ones send, plain ones too."""
        for router in (self.r1, self.r2, self.r3):
            router.kill()
            remove_second_nets(router.node)


def remove_second_nets(node: Node) -> None:
    """Take away what daemons that were killed leave until the next one of theirs starts."""
    listed = node.run(['nft', 'list', 'tables', 'inet'], check=False).stdout.split()
    for name in listed:
        if number_of(name) is not None:
            # A keeper that has just lost its daemon may be as fast.
            node.run(['nft', 'delete', 'table', 'inet', name], check=False)


@pytest.fixture(scope='session')
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routers]:
    """The nodes, without daemons, with key files for r1 and r2 in their homes."""
    keys = tmp_path_factory.mktemp('keys')
    make_keys(keys)
    with Topology.load(TOPOLOGY).up(tmp_path_factory.mktemp('logs')) as lab:
        routers = [Router(lab.node(name)) for name in ('r1', 'r2', 'r3')]
        for router in routers[:2]:
            # With the modes that they have: private ones are private.
            for file in (keys / router.name).iterdir():
                shutil.copy(file, router.home)
        yield Routers(*routers)


@pytest.fixture(scope='module')
def backend(request: pytest.FixtureRequest) -> Preference:
    """Return the backend of the sessions; the kernel unless the module asks for others, see
    `backends`."""
    wanted: Preference = getattr(request, 'param', Preference.KERNEL)
    if wanted is Preference.KERNEL and not has_tcp_ao():
        pytest.fail('this kernel has no TCP-AO: run the tests as the Makefile does')
    return wanted


@pytest.fixture(scope='module')
def routers(topology: Routers, backend: Preference) -> Iterator[Routers]:
    """The nodes, for one module under one backend; daemons and impostors end with it."""
    for router in (topology.r1, topology.r2, topology.r3):
        router.backend = backend
    yield topology
    topology.stop()
    impostors.finish()


@pytest.fixture(scope='module')
def wire(routers: Routers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """The link between r1 and r2, from before the module's first packet on."""
    capture = Capture(routers.r1.node, 'eth1', tmp_path_factory.mktemp('wire') / 'wire.pcap')
    yield capture
    capture.close()

"""Two hosts with a link, without any daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tcpao.second_net import client
from tcpao.second_net.client import MODULE, SecondNet
from tests.tcpao.userspace.sites import Site, wired


@pytest.fixture
def hosts() -> Iterator[tuple[Site, Site]]:
    """A client's and a server's host."""
    with wired() as sites:
        yield sites


@pytest.fixture(params=[MODULE, 'tests.tcpao.second_net.without_nft'], ids=['nft', 'iptables'])
def keeper(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every keeper that is started from now on makes its rules in this way."""
    # An ordinary program, which finds nothing of the name nft.
    monkeypatch.setattr(client, 'MODULE', request.param)


@pytest.fixture
def net(hosts: tuple[Site, Site], keeper: None) -> Iterator[SecondNet]:
    """The server's, started."""
    made = SecondNet()
    with hosts[1].inside():
        made.start()
    assert made.missing is None
    yield made
    made.stop()

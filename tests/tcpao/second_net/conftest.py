"""Two hosts with a link, without any daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tcpao.second_net.client import SecondNet
from tests.tcpao.userspace.sites import Site, wired


@pytest.fixture
def hosts() -> Iterator[tuple[Site, Site]]:
    """A client's and a server's host."""
    with wired() as sites:
        yield sites


@pytest.fixture
def net(hosts: tuple[Site, Site]) -> Iterator[SecondNet]:
    """The server's, started."""
    made = SecondNet()
    with hosts[1].inside():
        made.start()
    assert made.missing is None
    yield made
    made.stop()

"""The packet process with rules of nftables, on a kernel that has `queue`.

The rest of what is said of rules is in `test_process`.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from tcpao.installer import Guard, Unguard
from tcpao.userspace.rules.interface import NAME, Kind
from tests.tcpao.userspace.forked import ForkedBackend
from tests.tcpao.userspace.packets import ADDRESSES
from tests.tcpao.userspace.process.test_process import can_connect, guarded, process_of
from tests.tcpao.userspace.sites import Site, connect, protected, wired

pytestmark = pytest.mark.kernel

ONLY = (Kind.NFTABLES,)


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    with wired() as both:
        yield both


def ruleset(site: Site) -> str:
    return site.run('nft', 'list', 'ruleset')


def test_rules_come_with_keys_and_go_with_them(sites: tuple[Site, Site]) -> None:
    with protected(sites[1], ForkedBackend(ONLY)) as server:
        guarded(server)
        text = ruleset(sites[1])
        assert f'table inet {NAME}-queue-{process_of(server).ready.queue}' in text
        assert 'ip saddr 10.0.0.1' in text
        queue = process_of(server).ready.queue
        assert f'comment "{NAME} queue {queue}: 10.0.0.2 179, 10.0.0.1/32 any port"' in text
        assert 'bypass' not in text
        server.do(Guard(ip_network('fd00::/64'), 179))
        server.do(Unguard(ip_network(ADDRESSES[4][0]), 179))
        assert 'ip saddr 10.0.0.1' not in ruleset(sites[1])
    assert ruleset(sites[1]) == ''


def test_prefix_is_matched_as_a_prefix(sites: tuple[Site, Site]) -> None:
    with protected(sites[1], ForkedBackend(ONLY)) as server:
        server.listen(ADDRESSES[4][1])
        server.do(Guard(ip_network('10.0.0.0/25'), 179))
        assert not can_connect(sites[0], 179, timeout=0.5)
    with protected(sites[1], ForkedBackend(ONLY)) as server:
        server.listen(ADDRESSES[4][1])
        server.do(Guard(ip_network('10.0.0.128/25'), 179))
        assert can_connect(sites[0], 179)


def test_tables_of_others_stay(sites: tuple[Site, Site]) -> None:
    sites[1].run('nft', 'add table inet mine { comment "a table"; }')
    sites[1].run('nft', 'add chain inet mine c')
    sites[1].run('nft', 'add rule inet mine c accept comment "a rule"')
    before = ruleset(sites[1])
    with protected(sites[1], ForkedBackend(ONLY)) as server:
        guarded(server)
    assert ruleset(sites[1]) == before


def test_rules_return_and_sessions_reset_when_they_are_flushed(
    sites: tuple[Site, Site],
) -> None:
    with (
        protected(sites[0], ForkedBackend(ONLY)) as client,
        protected(sites[1], ForkedBackend(ONLY)) as server,
    ):
        one = connect(client, server, guarded(server), 4)
        one.talk()
        before = ruleset(sites[1])
        sites[1].run('nft', 'flush ruleset')
        with pytest.raises(ConnectionResetError):
            one.near.recv(1)
        assert len(ruleset(sites[1]).splitlines()) == len(before.splitlines())
        one.close()


def test_living_process_is_not_cleared(sites: tuple[Site, Site]) -> None:
    with (
        protected(sites[0], ForkedBackend(ONLY)) as client,
        protected(sites[1], ForkedBackend(ONLY)) as server,
    ):
        one = connect(client, server, server.listen(ADDRESSES[4][1]), 4)
        with protected(sites[1], ForkedBackend(ONLY)) as second:
            assert process_of(second).ready.removed == ()
            assert process_of(second).ready.queue != process_of(server).ready.queue
            one.talk()
        one.talk()
        one.close()

"""Which rules a packet meets, with one neighbor and with a thousand, and that the one for it is
among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpao.installer import Guard as GuardOf
from tcpao.installer import GuardAll, UnguardAll
from tcpao.mkt import SocketPair
from tcpao.userspace.rules import iptables as rules_iptables
from tcpao.userspace.rules import iptables_command
from tcpao.userspace.rules.chain_layout import (
    MOST,
    Chain,
    Digit,
    Layout,
    Service,
    TrafficKind,
    lay_out,
)
from tcpao.userspace.rules.choice import choose
from tcpao.userspace.rules.interface import Kind
from tcpao.userspace.selectors import Selector, only
from tests.tcpao.userspace.connections.test_inherited import IPTABLES, KINDS
from tests.tcpao.userspace.forked import ForkedBackend
from tests.tcpao.userspace.packets import ADDRESSES, a_pair
from tests.tcpao.userspace.process.test_process import (
    can_connect,
    inject,
    process_of,
    rules,
    sent_by,
)
from tests.tcpao.userspace.sites import Site, connect, protected, wired
from tests.tcpao.userspace.wire.test_icmp import error

QUEUE = 20255
FIRST = {4: ip_address('10.20.0.1'), 6: ip_address('fd20::1')}


def neighbors(count: int, version: int = 4) -> set[Selector]:
    return {Selector(None, 179, ip_network(FIRST[version] + n), None) for n in range(count)}


def met(layout: Layout, pair: SocketPair) -> Iterator[Selector | Digit]:
    """Return the rules that a packet of this connection is compared with, until one matches."""
    version = pair.local.version

    def walk(chain: Chain) -> Iterator[Selector | Digit]:
        for member in layout[chain]:
            yield member
            if isinstance(member, Selector):
                if member.covers(only(pair)):
                    return
            elif int(pair.remote) & member.mask == member.bits:
                inner = list(walk(Chain(version, chain.service, member)))
                yield from inner
                last = inner[-1]
                if isinstance(last, Selector) and last.covers(only(pair)):
                    return

    for chain in layout:
        port = pair.local_port if chain.service.ours else pair.remote_port
        if chain.version == version and chain.digit is None and chain.service.port == port:
            yield from walk(chain)


ENDS = [ip_address('10.0.0.1'), ip_address('10.0.0.2'), ip_address('fd00::1')]


@st.composite
def selectors(draw: Any) -> Selector:
    version = draw(st.sampled_from((4, 6)))
    bits = 32 if version == 4 else 128
    address = FIRST[version] + draw(st.integers(0, 2000))
    local = draw(st.sampled_from([None, *(one for one in ENDS if one.version == version)]))
    length = draw(st.sampled_from([bits, bits, bits, bits - 3]))
    ports = draw(st.sampled_from([(179, None), (179, 40001), (40001, 179), (1790, None)]))
    if ports[1] is not None:
        length, local = bits, next(one for one in ENDS if one.version == version)
    return Selector(local, ports[0], ip_network((address, length), strict=False), ports[1])


@given(st.sets(selectors(), max_size=80))
def test_every_packet_finds_its_rule(wanted: set[Selector]) -> None:
    layout = lay_out(wanted)
    for one in wanted:
        local = one.local or next(end for end in ENDS if end.version == one.remote.version)
        pair = SocketPair(
            local, one.local_port, one.remote.network_address, one.remote_port or 50000
        )
        assert any(isinstance(x, Selector) and x.covers(only(pair)) for x in met(layout, pair))


@given(st.sets(selectors(), max_size=80))
def test_lay_out_puts_a_live_rule_first_when_others_match(wanted: set[Selector]) -> None:
    live = {replace(one, live=True) for one in wanted if one.local and one.remote_port}
    layout = lay_out(wanted | live)
    for one in live:
        assert one.local is not None
        assert one.remote_port is not None
        remote = one.remote.network_address
        pair = SocketPair(one.local, one.local_port, remote, one.remote_port)
        found = (x for x in met(layout, pair) if isinstance(x, Selector))
        assert next(x for x in found if x.covers(only(pair))) == one


@given(st.sets(selectors(), max_size=80))
def test_same_rules_always_stand_in_the_same_chains(wanted: set[Selector]) -> None:
    assert lay_out(wanted) == lay_out(sorted(wanted, key=str, reverse=True))
    standing = [one for members in lay_out(wanted).values() for one in members]
    assert sorted(str(one) for one in standing if isinstance(one, Selector)) == sorted(
        map(str, wanted)
    )


@given(st.sets(selectors(), max_size=80))
def test_chain_comes_after_those_that_it_leads_to(wanted: set[Selector]) -> None:
    seen: set[Chain] = set()
    for chain, members in lay_out(wanted).items():
        assert all(
            Chain(chain.version, chain.service, one) in seen
            for one in members
            if isinstance(one, Digit)
        )
        seen.add(chain)


@pytest.mark.parametrize('version', [4, 6])
def test_packet_meets_few_rules_when_there_are_a_thousand(version: int) -> None:
    layout = lay_out(neighbors(1000, version))
    local = ADDRESSES[version][0]
    for n in (0, 500, 999):
        pair = SocketPair(local, 179, FIRST[version] + n, 50000)
        assert len(list(met(layout, pair))) < 100
    assert list(met(layout, SocketPair(local, 80, FIRST[version], 50000))) == []


def test_addresses_differ_by_chain_when_they_end_alike() -> None:
    """Exchanges have such addresses: the neighbor's AS number stands in the middle."""
    peers = {
        Selector(None, 179, ip_network(f'2001:db8::{number:x}:0:1'), None)
        for number in range(64496, 64496 + 256)
    }
    assert max(map(len, lay_out(peers).values())) == 16


def test_few_neighbors_take_no_chains_for_digits() -> None:
    assert list(lay_out(neighbors(MOST))) == [Chain(4, Service(ours=True, port=179))]


def test_name_fits_into_an_iptables_rule() -> None:
    chain = Chain(6, Service(ours=False, port=65535), Digit(31, 15))
    assert {len(chain.name(20255, way)) for way in TrafficKind} == {27}


# --- with the kernel's rules ------------------------------------------------------------------


@pytest.mark.parametrize('kind', IPTABLES)
def test_thousand_rules_take_one_transaction(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    restore = iptables_command.restore

    def counted(*arguments: Any, **more: Any) -> None:
        done.append(arguments)
        restore(*arguments, **more)

    with closing(Site()) as site, site.inside(), closing(choose(QUEUE, (kind,))) as made:
        monkeypatch.setattr(rules_iptables, 'restore', counted)
        wanted = neighbors(1000)
        made.change(wanted)
        assert len(done) == 1
        assert made.complete()
        made.change(wanted - neighbors(1))
        assert len(done) == 2
        assert made.complete()
        made.remove_all()
        assert len(done) == 3


@pytest.mark.parametrize('kind', IPTABLES)
def test_rules_are_complete_when_several_changes_outrun_a_look(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A false alarm resets every session."""
    listing = rules_iptables._listing

    with closing(Site()) as site, site.inside(), closing(choose(QUEUE, (kind,))) as made:

        def outrun(kind: Kind, version: int) -> list[str]:
            made.change(neighbors(2))
            found = listing(kind, version)
            for count in range(3, 6):
                made.change(neighbors(count))
            return found

        made.change(neighbors(1))
        monkeypatch.setattr(rules_iptables, '_listing', outrun)
        assert made.complete()
        monkeypatch.setattr(rules_iptables, '_listing', lambda *_: [])
        assert not made.complete()
        monkeypatch.undo()
        made.remove_all()


@pytest.mark.kernel
def test_hundred_rules_of_nftables_take_a_few_transactions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tcpao.userspace.rules import nftables as rules_nftables
    from tcpao.userspace.rules import nftables_netlink

    done: list[object] = []
    commit = nftables_netlink.commit

    def counted(*arguments: Any) -> None:
        done.append(arguments)
        commit(*arguments)

    with closing(Site()) as site, site.inside():
        with closing(choose(QUEUE, (Kind.NFTABLES,))) as made:
            monkeypatch.setattr(rules_nftables, 'commit', counted)
            wanted = neighbors(100)
            made.change(wanted)
            assert len(done) <= 10
            assert made.complete()
            made.change(neighbors(99))
            assert made.complete()
            made.restore()
            assert made.complete()
            site.run('nft', 'flush', 'ruleset')
            assert not made.complete()
            made.restore()
            assert made.complete()
            site.run('nft', 'add', 'rule', 'inet', made._table, 'in', 'accept')  # type: ignore[attr-defined]
            assert not made.complete(), 'somebody let everything in'
            made.restore()
            made.remove_all()
        assert site.run('nft', 'list', 'ruleset') == ''


@pytest.mark.parametrize('kind', KINDS)
def test_each_neighbor_is_guarded_when_there_are_many(kind: Kind) -> None:
    guards = tuple(
        GuardOf(ip_network(ADDRESSES[version][0] + 2 * n), 179)
        for n in range(40)
        for version in ADDRESSES
    )
    with wired() as sites:
        with (
            protected(sites[0], ForkedBackend((kind,))) as client,
            protected(sites[1], ForkedBackend((kind,))) as server,
        ):
            server.do(GuardAll(guards))
            for version in ADDRESSES:
                one = connect(client, server, server.listen(ADDRESSES[version][1]), version)
                one.talk()
                one.nothing_bad()
                kind_of, code = {4: (3, 3), 6: (1, 4)}[version]
                inject(sites[0], error(sent_by(one), kind_of, code, bytes(4)))
                assert one.near.recv(7) == b'unheard'
                one.talk()
                one.close()
            assert process_of(server).tally().icmps == 2
            assert not can_connect(sites[0], 179, timeout=0.2)
            server.do(UnguardAll(guards))
        assert rules(sites[0]) == rules(sites[1]) == []


def test_old_pair_is_found_by_the_port_that_others_have_too() -> None:
    assert Service.of(only(a_pair())) == Service(ours=False, port=179)
    assert Service.of(only(a_pair().reversed())) == Service(ours=True, port=179)

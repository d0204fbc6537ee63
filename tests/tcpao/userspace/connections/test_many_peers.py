"""A route server has a thousand protected neighbors on one listening socket: what a SYN, a command
and a turn cost must not grow with them, for any host can send SYNs in a neighbor's name."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keymaterial import Secret
from tcpao.installer import Done, Guard, Unguard
from tcpao.mkt import ALGORITHMS, SocketPair
from tcpao.userspace.connections.keyring import StoredKey
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.connections.sockets_table import LINGER
from tcpao.userspace.selectors import Selector, Selectors
from tests.doubles.memory_installer import MemoryInstaller, Network
from tests.tcpao.userspace.packets import (
    SYN,
    TRUSTING,
    connection_name,
    listener_name,
    no_mtu,
    packet,
)

PEERS = 1000
FIRST = IPv4Address('10.0.0.1')
HERE = ip_address('192.0.2.1')


def key(peer: IPv4Address, number: int = 0) -> StoredKey:
    algorithm = ALGORITHMS['hmac-sha-1-96']
    return StoredKey(ip_network(peer), None, number, number, algorithm, True, Secret(b'x'))


def pair_with(peer: IPv4Address) -> SocketPair:
    return SocketPair(HERE, 179, peer, 40000)


@pytest.fixture
def core() -> PacketPath:
    core = PacketPath(no_mtu, TRUSTING)
    for number in range(PEERS):
        core.add(listener_name(HERE, 1), key(FIRST + number), select=False, fresh=False)
    return core


class Calls:
    """Counts the calls of a method."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.count = 0
        original = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            self.count += 1
            return original(*arguments)

        monkeypatch.setattr(owner, name, counted)


def test_syn_is_compared_with_its_own_peers_keys_only(
    core: PacketPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch, StoredKey, 'matches')
    assert core.incoming(packet(pair_with(FIRST + 500).reversed(), 1, flags=SYN)) is None
    assert core.tally.unsigned == 1
    assert calls.count == 1


def test_added_key_recomputes_only_its_peers_selectors(
    core: PacketPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch, Selector, 'covers')
    listener = listener_name(HERE, 1)
    core.add(listener, key(FIRST + PEERS), select=False, fresh=False)
    core.delete(listener, ip_network(FIRST + PEERS), 0, 0, None)
    assert len(core.selectors()) == PEERS
    assert calls.count < 10


def test_added_guard_is_not_compared_with_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    installer = MemoryInstaller(Network())
    guards = [Guard(ip_network(FIRST + number), 179) for number in range(PEERS + 1)]
    for one in guards[:-1]:
        installer.submit(one)
    calls = Calls(monkeypatch, IPv4Network, '__eq__')
    overlaps = Calls(monkeypatch, IPv4Network, 'overlaps')
    installer.submit(guards[-1])
    installer.submit(Unguard(ip_network(FIRST), 179))
    assert all(isinstance(event, Done) for event in installer.events())
    assert calls.count + overlaps.count < 10


def test_lingering_connections_go_in_their_order() -> None:
    core = PacketPath(no_mtu, TRUSTING)
    names = [connection_name(pair_with(FIRST + number), number + 1) for number in range(3)]
    for number, name in enumerate(names):
        core.add(name, key(FIRST + number, 1), select=True, fresh=True)
    for connection in core.connections():
        connection.established(1, 2)
    assert core.next_deadline() is None
    for now, name in enumerate(names):
        core.release(name, float(now))
    assert core.next_deadline() == LINGER
    assert core.expire(LINGER + 1)
    assert [str(one.remote) for one in core.selectors()] == ['10.0.0.3/32']
    assert core.next_deadline() == LINGER + 2
    assert not core.expire(LINGER + 1.5)


# --- what needs a rule ----------------------------------------------------------------------

selectors = st.builds(
    Selector,
    st.sampled_from((None, HERE)),
    st.sampled_from((179, 180)),
    st.sampled_from([ip_network(f'10.0.0.0/{length}') for length in (8, 24, 32)]),
    st.sampled_from((None, 40000)),
)


@given(st.lists(selectors), st.data())
def test_each_has_a_rule_unless_a_wider_one_covers_it(
    wanted: list[Selector], data: st.DataObject
) -> None:
    kept = Selectors()
    for one in wanted:
        kept.add(one)
    left = Counter(wanted)
    for one in data.draw(st.permutations(wanted)):
        wide = [other for other in left if other.remote_port is None]
        assert kept.rules() == {
            one for one in left if not any(o != one and o.covers(one) for o in wide)
        }
        kept.discard(one)
        left -= Counter([one])
    assert kept.rules() == set()

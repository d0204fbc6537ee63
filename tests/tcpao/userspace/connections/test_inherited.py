"""After a kill -9: what was protected stays shut, from the old process's rules to the new one's.

A peer doesn't know that a daemon was killed, and goes on. Were its segments to reach our TCP, that
would answer with a RST, unsigned.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tcpao.backend import BackendError
from tcpao.installer import Abort
from tcpao.mkt import SocketPair
from tcpao.userspace.connections.inherited import LASTING
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.netlink.nfqueue import bound_queues
from tcpao.userspace.process import startup as starting
from tcpao.userspace.process.startup import why_unable
from tcpao.userspace.rules.choice import remove_stale
from tcpao.userspace.rules.interface import (
    NAME,
    Kind,
    RulesError,
    comment_of,
    queue_of,
    selector_of,
)
from tcpao.userspace.rules.leftovers import Cleared, clear
from tcpao.userspace.selectors import Selector, only
from tcpao.verification.capture import read_packets
from tcpao.verification.segment import Segment, parse_ip
from tests.tcpao.conftest import rule_kinds
from tests.tcpao.userspace.forked import ForkedBackend
from tests.tcpao.userspace.packets import (
    ACK,
    ADDRESSES,
    RST,
    SYN,
    TRUSTING,
    a_pair,
    ends,
    no_mtu,
    packet,
)
from tests.tcpao.userspace.process.test_process import (
    can_connect,
    guarded,
    inject,
    plain_listener,
    rules,
)
from tests.tcpao.userspace.sites import (
    PATIENCE,
    End,
    Site,
    captured,
    connect,
    protected,
    wired,
)

PAIR = a_pair()
BACK = PAIR.reversed()
PEER = ip_network(PAIR.remote)
WIDE = Selector(None, PAIR.local_port, PEER, None)

IPTABLES = [
    pytest.param(kind, marks=pytest.mark.native) for kind in Kind if kind is not Kind.NFTABLES
]
KINDS = [*IPTABLES, pytest.param(Kind.NFTABLES, marks=pytest.mark.kernel)]


# --- what is shut -----------------------------------------------------------------------------


def heir(*selectors: Selector) -> PacketPath:
    core = PacketPath(no_mtu, TRUSTING)
    core.heritage.take(selectors, 100.0)
    return core


@pytest.mark.parametrize('left', [only(PAIR), WIDE], ids=['a connection', 'a guard'])
def test_inherited_connection_is_dropped_both_ways(left: Selector) -> None:
    core = heir(left)
    assert core.selectors() == {left}
    assert core.incoming(packet(BACK, 1, 1, ACK, payload=b'route')) is None
    assert core.incoming(packet(BACK, 1, 0, SYN)) is None
    for flags in (SYN, ACK, RST, RST | ACK):
        assert core.outgoing(packet(PAIR, 1, 1, flags)) is None


def test_unprotected_connection_goes_on() -> None:
    core = heir(only(PAIR))
    others = a_pair(port=40002)
    for one in (packet(others, 1, 0, SYN), packet(others, 1, 1, ACK)):
        assert core.outgoing(one) == one
    back = packet(others.reversed(), 1, 1, ACK)
    assert core.incoming(back) == back


def test_inherited_rule_yields_when_the_socket_has_a_key() -> None:
    core = heir(only(PAIR), WIDE)
    client, server = ends(cores=(core, PacketPath(no_mtu, TRUSTING)))
    assert server.take(client.make(SYN))
    assert client.take(server.make(SYN | ACK))
    assert server.take(client.make(ACK, payload=b'route'))


def test_peer_is_free_when_it_is_not_protected_any_more() -> None:
    other = only(SocketPair(PAIR.local, 40002, ip_address('10.0.0.9'), 179))
    core = heir(only(PAIR), WIDE, other)
    core.heritage.keep({ip_address('10.0.0.9')})
    assert core.selectors() == {other}
    syn = packet(PAIR, 1, 0, SYN)
    assert core.outgoing(syn) == syn
    core.heritage.keep(frozenset())
    assert core.selectors() == set()
    assert core.next_deadline() is None


def test_inherited_pair_is_forgotten_when_its_peers_noticed() -> None:
    core = heir(only(PAIR))
    assert core.next_deadline() == 100.0 + LASTING
    assert not core.expire(99.0 + LASTING)
    assert core.selectors()
    assert core.expire(100.0 + LASTING)
    assert core.selectors() == set()
    assert core.next_deadline() is None


# --- what a rule says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    'selector', [only(PAIR), WIDE, only(a_pair(6)), only(a_pair(6).reversed())]
)
def test_rule_comment_names_its_purpose(selector: Selector) -> None:
    text = comment_of(20007, selector)
    assert queue_of(text) == 20007
    assert selector_of(text) == selector
    assert len(text) < 128


@pytest.mark.parametrize('text', ['', f'{NAME} queue 7', f'{NAME} queue 7: x 1, y any port'])
def test_rule_is_passed_over_when_its_comment_is_unknown(text: str) -> None:
    assert selector_of(text) is None


# --- on a wire --------------------------------------------------------------------------------


@contextmanager
def knocking(site: Site, pair: SocketPair, to: int) -> Iterator[threading.Semaphore]:
    """Segments of a connection that its peer believes in, 200 in a second; a semaphore that each
    releases."""
    segment = packet(pair, 123456, 654321, ACK, payload=b'keepalive')
    enough = threading.Event()
    knocks = threading.Semaphore(0)

    def knock() -> None:
        while not enough.wait(0.005):
            inject(site, segment, to=to)
            knocks.release()

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield knocks
    finally:
        enough.set()
        thread.join()


def killed(end: End) -> None:
    """The daemon and its packet process, at once; what the daemon had, the kernel closes."""
    assert isinstance(end.backend, ForkedBackend)
    os.kill(end.backend.pid, signal.SIGKILL)
    for sock in end.sockets:
        # As a daemon's, for good reasons.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    end.close()


def unsigned(path: Path, sender: object) -> list[Segment]:
    segments = (parse_ip(one.octets) for one in read_packets(path))
    return [
        one
        for one in segments
        if one is not None and one.source == sender and one.ao_option() is None
    ]


@pytest.mark.native
def test_capture_shows_an_answer_when_there_is_one(tmp_path: Path) -> None:
    with (
        wired() as sites,
        captured(sites[1], tmp_path / 'wire.pcap'),
        knocking(sites[1], BACK, 0) as knocks,
    ):
        for _ in range(20):
            assert knocks.acquire(timeout=PATIENCE)
    assert unsigned(tmp_path / 'wire.pcap', PAIR.local)


@pytest.mark.parametrize(
    ('kind', 'dead'),
    [
        *(
            pytest.param(kind, dead, marks=pytest.mark.native, id=f'{kind}-{who}')
            for kind in Kind
            if kind is not Kind.NFTABLES
            for dead, who in enumerate(('who opened it', 'who accepted it'))
        ),
        pytest.param(Kind.NFTABLES, 0, marks=pytest.mark.kernel, id='nftables-who opened it'),
    ],
)
def test_old_connection_gets_no_answer_during_a_restart(
    kind: Kind, dead: int, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        sites = stack.enter_context(wired())
        both = [stack.enter_context(protected(site, ForkedBackend((kind,)))) for site in sites]
        listener = guarded(both[1])
        one = connect(both[0], both[1], listener, 4)
        one.talk()
        ours, theirs = (one.ours.pair, one.theirs.pair) if not dead else (BACK, PAIR)
        peer, socket_of_peer = both[1 - dead], (one.far, one.near)[dead]
        with (
            captured(sites[1 - dead], tmp_path / 'wire.pcap'),
            knocking(sites[1 - dead], theirs, dead),
        ):
            killed(both[dead])
            socket_of_peer.sendall(b'and retransmissions')
            both[dead] = stack.enter_context(protected(sites[dead], ForkedBackend((kind,))))
            both[dead].backend.loaded(frozenset({theirs.local}))
            # The peer finds out as IKE tells it.
            peer.do(Abort(theirs, 'another incarnation'))
            again = connect(both[0], both[1], guarded(both[1]) if dead else listener, 4)
            again.talk()
            again.close()
    assert unsigned(tmp_path / 'wire.pcap', ours.local) == []


@pytest.mark.parametrize('kind', KINDS)
def test_guarded_port_is_shut_until_it_is_guarded_again(kind: Kind) -> None:
    with wired() as sites:
        with protected(sites[1], ForkedBackend((kind,))) as server:
            guarded(server)
            left = len(rules(sites[1]))
            killed(server)
        assert len(rules(sites[1])) == left
        with protected(sites[1], ForkedBackend((kind,))) as server:
            assert server.backend.remarks()[-1].startswith('left behind by a process that was ')
            assert len(rules(sites[1])) == left, 'ours instead of those'
            with plain_listener(sites[1], 179):
                assert not can_connect(sites[0], 179, timeout=0.2)
                server.backend.loaded(frozenset({ADDRESSES[4][0]}))
                assert not can_connect(sites[0], 179, timeout=0.2)
                server.backend.loaded(frozenset())
                assert can_connect(sites[0], 179)
        assert rules(sites[1]) == []


@pytest.mark.native
@pytest.mark.parametrize('quicker', [True, False])
def test_start_goes_on_when_another_removed_the_leftovers(
    quicker: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kind,) = rule_kinds()

    def too_late(left: Collection[int], kinds: tuple[Kind, ...]) -> list[str]:
        if quicker:
            remove_stale(left, kinds)
        raise RulesError('no such rule')

    monkeypatch.setattr(starting, 'remove_stale', too_late)
    with wired() as sites:
        with protected(sites[1], ForkedBackend((kind,))) as server:
            guarded(server)
            killed(server)
        if quicker:
            with protected(sites[1], ForkedBackend((kind,))) as server:
                assert len(server.backend.remarks()) == 1
        else:
            with sites[1].inside(), pytest.raises(BackendError, match='no such rule'):
                ForkedBackend((kind,)).start()


@pytest.mark.native
def test_rules_are_empty_when_the_command_may_not_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unprivileged daemon sees none, where iptables are root's."""

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with wired() as sites, sites[0].inside():
        monkeypatch.setattr(subprocess, 'run', forbidden)
        assert clear((Kind.IPTABLES,)) == Cleared()
        assert 'cannot be run: Permission denied' in (why_unable((Kind.IPTABLES,)) or '')


@pytest.mark.parametrize('kind', KINDS)
def test_leftovers_stay_when_a_process_only_asks(kind: Kind) -> None:
    with wired() as sites:
        with protected(sites[1], ForkedBackend((kind,))) as server:
            guarded(server)
            killed(server)
        left = rules(sites[1])
        with sites[1].inside():
            assert why_unable((kind,)) is None
        assert rules(sites[1]) == left


@pytest.mark.parametrize('kind', IPTABLES)
def test_port_stays_shut_when_killed_twice_and_nothing_is_left(kind: Kind) -> None:
    with wired() as sites:
        for _ in range(2):
            with protected(sites[1], ForkedBackend((kind,))) as server:
                guarded(server)
                with sites[1].inside():
                    queue = min(bound_queues())
                killed(server)
            assert any(str(queue) in rule for rule in rules(sites[1]))
        with plain_listener(sites[1], 179):
            with protected(sites[1], ForkedBackend((kind,))):
                assert not can_connect(sites[0], 179, timeout=0.2)
            assert rules(sites[1]) == []
            assert can_connect(sites[0], 179)

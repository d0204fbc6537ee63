"""Other sockets of the host on addresses and ports of ours: nothing is signed or verified for them.

As root here, which may do more than any user: the packet process asks whose a socket is, not who
its user is.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tcpao.installer import Install, Where
from tcpao.mkt import Mkt, SocketPair
from tcpao.refusal import Reason
from tcpao.userspace.client.backend import UserspaceBackend
from tcpao.verification.capture import read_packets
from tcpao.verification.segment import Segment, parse_ip
from tests.tcpao.conftest import rule_kinds
from tests.tcpao.test_installer_conformance import mkts
from tests.tcpao.userspace.packets import ADDRESSES, SYN, a_pair
from tests.tcpao.userspace.process.test_process import process_of
from tests.tcpao.userspace.sites import (
    PATIENCE,
    End,
    Session,
    Site,
    captured,
    connect,
    protected,
    userspace,
    wait_until,
    wired,
)

pytestmark = pytest.mark.native

AT_ONCE = socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
VERSIONS = pytest.mark.parametrize('version', [4, 6])


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    """A daemon's host and its peer."""
    with (
        wired() as (one, other),
        protected(one, UserspaceBackend(rule_kinds())) as client,
        protected(other, UserspaceBackend(rule_kinds())) as server,
    ):
        yield client, server


@contextmanager
def stranger(site: Site, pair: SocketPair) -> Iterator[socket.socket]:
    """Another socket that connects on this pair, and waits for the answer."""
    family = socket.AF_INET if pair.local.version == 4 else socket.AF_INET6
    with site.inside():
        sock = socket.socket(family, socket.SOCK_STREAM)
    with closing(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(*AT_ONCE)
        sock.bind((str(pair.local), pair.local_port))
        sock.setblocking(False)
        sock.connect_ex((str(pair.remote), pair.remote_port))
        yield sock


def is_answered(sock: socket.socket, seconds: float = 1.5) -> bool:
    """True if the connection comes up; the SYN is sent a second time after 1 s."""
    writable = select.select([], [sock], [], seconds)[1]
    return bool(writable) and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def read_to_the_end(sock: socket.socket) -> None:
    while sock.recv(100):
        pass


def unsendable(end: End) -> int:
    return process_of(end).tally().unsendable


def session(ends: tuple[End, End], version: int = 4) -> Session:
    client, server = ends
    return connect(client, server, server.listen(ADDRESSES[version][1]), version)


def release(one: Session) -> None:
    """The daemon's end of it goes, with a RST."""
    one.client.installer.drop_connection(one.ours.pair)
    one.near.setsockopt(*AT_ONCE)
    one.near.close()


def prepared(ends: tuple[End, End], version: int) -> tuple[socket.socket, Mkt]:
    """The daemon's socket, bound, with a key that the peer has too; not yet connected."""
    client, server = ends
    here, there = ADDRESSES[version]
    server.listen(there)
    ours, theirs = mkts(a_pair(version), secret=b'k' * 32)
    server.do(Install(theirs, Where.LISTENER))
    near = client.socket(here, ours.pair.local_port)
    client.installer.add_connection(ours.pair, near)
    client.do(Install(ours, Where.CONNECTION))
    return near, ours


def sent(path: Path, pair: SocketPair) -> list[Segment]:
    found = [parse_ip(each.octets) for each in read_packets(path)]
    return [one for one in found if one is not None and one.source == pair.local]


@VERSIONS
def test_other_sockets_syn_stays_here_when_a_session_has_ended(
    ends: tuple[End, End], tmp_path: Path, version: int
) -> None:
    one = session(ends, version)
    theirs = one.theirs
    # The peer still has the key on its listener, as with a keychain.
    one.server.do(Install(theirs, Where.LISTENER))
    release(one)
    path = tmp_path / 'wire.pcap'
    with captured(ends[0].site, path), stranger(ends[0].site, one.ours.pair) as sock:
        assert not is_answered(sock)
    # The first one is dropped; then nothing of ours is left on the pair, and what leaves is bare.
    opening = [each for each in sent(path, one.ours.pair) if each.flags & SYN]
    assert [each for each in opening if each.ao_option() is not None] == []


@VERSIONS
def test_other_sockets_syn_stays_here_before_the_daemon_connects(
    ends: tuple[End, End], tmp_path: Path, version: int
) -> None:
    near, ours = prepared(ends, version)
    path = tmp_path / 'wire.pcap'
    with captured(ends[0].site, path), stranger(ends[0].site, ours.pair) as sock:
        assert not is_answered(sock)
        assert unsendable(ends[0]) >= 2
        with pytest.raises(OSError, match='Cannot assign requested address'):
            near.connect((str(ours.pair.remote), ours.pair.remote_port))
    assert sent(path, ours.pair) == []
    near.connect((str(ours.pair.remote), ours.pair.remote_port))


def test_another_daemon_has_a_session_when_the_pair_lingers(ends: tuple[End, End]) -> None:
    """The other daemon's SYN comes to the first one's queue, which forgets the pair; the next SYN
    is its own."""
    one = session(ends)
    listener = next(sock for sock in ends[1].sockets if sock.getsockname()[1] == 179)
    release(one)
    with userspace(ends[0].site, rule_kinds()) as other:
        again = connect(other, ends[1], listener, 4, port=one.ours.pair.local_port)
        again.talk()
        again.nothing_bad()
        again.close()


def test_forked_child_says_nothing_when_the_daemon_has_closed(
    ends: tuple[End, End], tmp_path: Path
) -> None:
    one = session(ends)
    with closing(one.near.dup()) as held:
        one.client.installer.drop_connection(one.ours.pair)
        one.near.close()
        before = unsendable(one.client)
        path = tmp_path / 'wire.pcap'
        with captured(ends[0].site, path):
            held.sendall(b'UPDATE')
            wait_until(lambda: unsendable(one.client) > before)
        assert [each for each in sent(path, one.ours.pair) if each.payload] == []
        held.setsockopt(*AT_ONCE)


def test_good_syn_reaches_no_socket_when_another_listens(ends: tuple[End, End]) -> None:
    """The daemon's socket is guarded and bound, and another process is faster with listen()."""
    client, server = ends
    pair = a_pair()
    ours, theirs = mkts(pair, secret=b'k' * 32)
    slow = server.socket(pair.remote, pair.remote_port)
    server.installer.add_listener(slow)
    server.do(Install(theirs, Where.LISTENER))
    with server.site.inside(), closing(socket.socket()) as fast:
        fast.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        fast.bind((str(pair.remote), pair.remote_port))
        fast.listen()
        near = client.socket(pair.local, pair.local_port)
        client.installer.add_connection(pair, near)
        client.do(Install(ours, Where.CONNECTION))
        near.setblocking(False)
        near.connect_ex((str(pair.remote), pair.remote_port))
        assert not is_answered(near)
        assert not select.select([fast], [], [], 0)[0]
    slow.listen()
    assert is_answered(near, PATIENCE)


@VERSIONS
def test_session_is_reset_when_a_rule_accepts_before_ours(
    ends: tuple[End, End], version: int
) -> None:
    """At both ends, so that the octets flow in clear."""
    if not rule_kinds()[0].value.startswith('iptables'):
        pytest.skip('what another table of nftables accepts goes through ours too')
    one = session(ends, version)
    one.talk()
    tool = 'iptables' if version == 4 else 'ip6tables'
    for end in ends:
        for chain in ('INPUT', 'OUTPUT'):
            end.site.run(tool, '-w', '-t', 'mangle', '-I', chain, '-p', 'tcp', '-j', 'ACCEPT')
    with suppress(ConnectionError):
        one.far.sendall(b'in clear')
        one.near.sendall(b'in clear')
    with pytest.raises(ConnectionError):
        read_to_the_end(one.near)
    # Whichever looks first resets both ends: its RST is in clear, too.
    told = [each for end in ends for each in process_of(end).refusals()]
    assert {each.reason for each in told} == {Reason.BYPASSED}
    assert {each.pair for each in told} <= {one.ours.pair, one.theirs.pair}

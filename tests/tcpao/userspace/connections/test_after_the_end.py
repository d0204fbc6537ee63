"""After the end that opened a connection has ended it, what its TCP still says is signed.

No guard covers that end's port, and TCP knows no such connection any more: it answers whatever of
the peer's still arrives with a RST.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tcpao.installer import Install, Where
from tcpao.verification.capture import read_packets
from tcpao.verification.segment import Segment, parse_ip
from tests.tcpao.conftest import rule_kinds
from tests.tcpao.test_installer_conformance import mkts
from tests.tcpao.userspace.packets import ADDRESSES, RST, a_pair
from tests.tcpao.userspace.process.test_process import inject
from tests.tcpao.userspace.sites import (
    End,
    Session,
    captured,
    connect,
    userspace,
    wait_until,
    wired,
)

pytestmark = pytest.mark.native

AT_ONCE = socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
VERSIONS = pytest.mark.parametrize('version', [4, 6])


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    """Two, over a wire."""
    with (
        wired() as (one, other),
        userspace(one, rule_kinds()) as client,
        userspace(other, rule_kinds()) as server,
    ):
        yield client, server


class Deaf:
    """An end that doesn't receive segments with this flag, for as long as it lasts."""

    def __init__(self, end: End, version: int, flag: str) -> None:
        self._end = end
        self._table = ('iptables' if version == 4 else 'ip6tables', '-w', '-t', 'raw')
        self._rule = ('PREROUTING', '-p', 'tcp', '--tcp-flags', flag, flag, '-j', 'DROP')

    def __enter__(self) -> Self:
        self._end.site.run(*self._table, '-A', *self._rule)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.site.run(*self._table, '-D', *self._rule)

    def has_missed_one(self) -> bool:
        """True once there was one."""
        (rule,) = self._end.site.run(*self._table, '-vnxL', 'PREROUTING').splitlines()[2:]
        return int(rule.split()[0]) > 0


def session(ends: tuple[End, End], version: int) -> Session:
    client, server = ends
    return connect(client, server, server.listen(ADDRESSES[version][1]), version)


def abort(one: Session) -> None:
    """The opener's end, with a RST."""
    one.client.installer.drop_connection(one.ours.pair)
    one.near.setsockopt(*AT_ONCE)
    one.near.close()


def segments(path: Path) -> list[Segment]:
    found = [parse_ip(each.octets) for each in read_packets(path)]
    return [one for one in found if one is not None]


def resets(path: Path, sender: object) -> int:
    return sum(1 for one in segments(path) if one.source == sender and one.flags & RST)


def nothing_was_bare(path: Path) -> None:
    seen = segments(path)
    assert seen
    assert [one for one in seen if one.ao_option() is None] == []


@VERSIONS
def test_transfer_is_ended_when_the_socket_is_dropped(
    ends: tuple[End, End], tmp_path: Path, version: int
) -> None:
    client, server = ends
    path, until_then = tmp_path / 'wire.pcap', tmp_path / 'until-then.pcap'
    with captured(client.site, path):
        one = session(ends, version)
        with captured(client.site, until_then), Deaf(client, version, 'PSH') as deaf:
            one.far.sendall(bytes(100))
            wait_until(deaf.has_missed_one)
            abort(one)
            with pytest.raises(ConnectionResetError):
                one.far.recv(1)
        # It was under way all the time, and arrives now.
        (under_way, *_) = (
            each.octets
            for each in read_packets(until_then)
            for segment in [parse_ip(each.octets)]
            if segment is not None and segment.payload
        )
        said = resets_sent(client)
        inject(server.site, under_way, to=0)
        wait_until(lambda: resets_sent(client) > said)
        # It may wait in the queue, but not behind a command.
        client.backend.counters()
    nothing_was_bare(path)
    assert resets(path, one.ours.pair.local) > 1


@VERSIONS
def test_peer_is_ended_when_the_rst_was_lost(
    ends: tuple[End, End], tmp_path: Path, version: int
) -> None:
    path = tmp_path / 'wire.pcap'
    with captured(ends[0].site, path):
        one = session(ends, version)
        one.talk()
        with Deaf(ends[1], version, 'RST') as deaf:
            abort(one)
            wait_until(deaf.has_missed_one)
        one.far.sendall(b'still there?')
        with pytest.raises(ConnectionResetError):
            one.far.recv(1)
    nothing_was_bare(path)
    assert resets(path, one.ours.pair.local) > 1


@VERSIONS
def test_peer_is_ended_when_its_answer_comes_too_late(
    ends: tuple[End, End], tmp_path: Path, version: int
) -> None:
    client, server = ends
    here, there = ADDRESSES[version]
    path = tmp_path / 'wire.pcap'
    with captured(client.site, path):
        server.listen(there)
        ours, theirs = mkts(a_pair(version), secret=b'k' * 32)
        server.do(Install(theirs, Where.LISTENER))
        near = client.socket(here, ours.pair.local_port)
        client.installer.add_connection(ours.pair, near)
        client.do(Install(ours, Where.CONNECTION))
        near.setblocking(False)
        with Deaf(client, version, 'SYN') as deaf:
            near.connect_ex((str(there), 179))
            wait_until(deaf.has_missed_one)
            client.installer.drop_connection(ours.pair)
            near.close()
        # The peer repeats its SYN-ACK, and believes the RST.
        wait_until(lambda: not half_open(server))
        assert server.site.run('ss', '-Htn', 'state', 'established') == ''
    nothing_was_bare(path)
    assert resets(path, here)


def resets_sent(end: End) -> int:
    """By its TCP, whatever became of them."""
    return int(float(end.site.run('nstat', '-asz', 'TcpOutRsts').split()[-2]))


def half_open(end: End) -> bool:
    return end.site.run('ss', '-Htn', 'state', 'syn-recv') != ''

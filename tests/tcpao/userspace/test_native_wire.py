"""Packet processes on both ends of a real wire, on whatever kernel this is.

Loss comes from iptables' `statistic`, for this kernel may have no netem. The same and more between
packet process and kernel is in `test_interop`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tcpao.installer import Install, Remove, SetRNext, Where
from tcpao.mkt import ALGORITHMS, Mkt
from tcpao.verification.known_keys import KnownKey
from tcpao.verification.report import verify_capture
from tests.tcpao.conftest import rule_kinds
from tests.tcpao.test_installer_conformance import mkts
from tests.tcpao.userspace.interop_table import Table
from tests.tcpao.userspace.packets import ADDRESSES
from tests.tcpao.userspace.sites import (
    End,
    Session,
    captured,
    connect,
    meet,
    routed,
    userspace,
    wait_until,
    wired,
)

pytestmark = pytest.mark.native

MIB = 1 << 20

row = partial(Table('tcp-ao-packet-processes').of, client='packet process', server='packet process')


@pytest.fixture
def mtu() -> int:
    """Return the MTU of the wire, where a test has no parameter of that name."""
    return 1500


@pytest.fixture
def ends(mtu: int) -> Iterator[tuple[End, End]]:
    """Two, over a wire."""
    with (
        wired(mtu) as (one, other),
        userspace(one, rule_kinds()) as client,
        userspace(other, rule_kinds()) as server,
    ):
        yield client, server


def session(ends: tuple[End, End], version: int = 4, **more: object) -> Session:
    client, server = ends
    listener = server.listen(ADDRESSES[version][1])
    return connect(client, server, listener, version, **more)  # type: ignore[arg-type]


def _is_current(end: End, mkt: Mkt) -> bool:
    return end.state(mkt.pair).current == mkt.send_id


def rotate(session: Session) -> None:
    """A successor on both ends, and the old key away, as the gatekeeper does it."""
    client, server = session.client, session.server
    new_ours, new_theirs = mkts(session.ours.pair, (5, 6), b'successor')
    server.do(Install(new_theirs, Where.CONNECTION))
    client.do(Install(new_ours, Where.CONNECTION), SetRNext(new_ours))
    session.talk()
    server.do(SetRNext(new_theirs))
    session.talk()
    session.talk()
    client.do(Remove(session.ours, Where.CONNECTION))
    server.do(Remove(session.theirs, Where.CONNECTION))
    session.ours, session.theirs = new_ours, new_theirs


@pytest.mark.parametrize('version', [4, 6])
@pytest.mark.parametrize('algorithm', sorted(ALGORITHMS))
@row('a session')
def test_every_suite_works_between_two_packet_processes(
    ends: tuple[End, End], version: int, algorithm: str
) -> None:
    one = session(ends, version, algorithm=algorithm)
    one.talk()
    one.transfer(MIB // 4)
    one.nothing_bad()


@row('64 MiB intact by hash')
def test_full_table_arrives_intact(ends: tuple[End, End]) -> None:
    one = session(ends)
    one.transfer(64 * MIB)
    one.transfer(8 * MIB, back=True)
    one.nothing_bad()


@pytest.mark.parametrize('mtu', [1280, 9000])
@pytest.mark.parametrize('version', [4, 6])
@row('MTU {mtu}')
def test_segments_fit_the_mtu(ends: tuple[End, End], mtu: int, version: int) -> None:
    one = session(ends, version)
    one.transfer(4 * MIB)
    one.transfer(4 * MIB, back=True)
    one.nothing_bad()
    for end in ends:
        counters = end.site.run('nstat', '-asz', 'IpFragCreates', 'Ip6FragCreates', 'IpFragFails')
        assert [line.split()[1] for line in counters.splitlines()[1:]] == ['0'] * 3


def lose(ends: tuple[End, End], version: int, percent: int) -> None:
    """So many of all segments, at random, both ways."""
    for end in ends:
        end.site.run(
            *('iptables' if version == 4 else 'ip6tables', '-t', 'raw', '-A', 'PREROUTING'),
            *('-p', 'tcp', '-m', 'statistic', '--mode', 'random'),
            *('--probability', str(percent / 100), '-j', 'DROP'),
        )


@pytest.mark.parametrize('percent', [1, 10])
@pytest.mark.parametrize('version', [4, 6])
@row('loss of {percent} %, rotation meanwhile')
def test_loss_costs_time_and_nothing_else(
    ends: tuple[End, End], version: int, percent: int
) -> None:
    one = session(ends, version)
    lose(ends, version, percent)
    one.transfer(2 * MIB if percent == 1 else MIB // 4)
    rotate(one)
    one.transfer(MIB // 4, back=True)
    one.nothing_bad()


@row('SACK-heavy')
def test_transfer_is_whole_when_sack_blocks_fill_the_header(ends: tuple[End, End]) -> None:
    # Every eighth segment is lost, in a long window: the receiver's ACKs are full of blocks.
    one = session(ends)
    ends[1].site.run(
        *('iptables', '-t', 'raw', '-A', 'PREROUTING', '-p', 'tcp', '--dport', '179'),
        *('-m', 'statistic', '--mode', 'nth', '--every', '8', '--packet', '0', '-j', 'DROP'),
    )
    one.transfer(2 * MIB)
    one.nothing_bad()
    sacks = ends[0].site.run('nstat', '-asz', 'TcpExtTCPSackRecovery', 'TcpExtTCPSACKReneging')
    recovered, reneged = (int(line.split()[1]) for line in sacks.splitlines()[1:])
    assert recovered > 0
    assert reneged == 0


@pytest.mark.parametrize('version', [4, 6])
@row('wrap of the sequence space, 3 % lost')
def test_connection_stays_when_the_sequence_wraps(ends: tuple[End, End], version: int) -> None:
    one = session(ends, version, isn=2**32 - 100_000)
    # What is lost comes again after its successors: on this side of the wrap and on that.
    lose(ends, version, 3)
    one.transfer(MIB)
    rotate(one)
    one.transfer(MIB // 4, back=True)
    one.nothing_bad()


@pytest.mark.parametrize('version', [4, 6])
@row('wrap of the sequence space both ways, 3 % lost')
def test_connection_stays_when_both_sequences_wrap(
    ends: tuple[End, End], tmp_path: Path, version: int
) -> None:
    path = tmp_path / 'wire.pcap'
    with captured(ends[0].site, path):
        one = meet(*ends, version, isn=2**32 - 100_000)
        keys = [KnownKey(one.ours.algorithm, one.ours.master_key)]
        lose(ends, version, 3)
        one.transfer(MIB // 4)
        one.transfer(MIB // 4, back=True)
        rotate(one)
        keys.append(KnownKey(one.ours.algorithm, one.ours.master_key))
        one.nothing_bad()
    report = verify_capture(path, keys)
    assert report.passed(require_all=True), report.to_text()
    # The SYN that is lost counts as a connection of its own, before or after.
    wraps = [connection['sne_wraps'] for connection in report.to_json()['connections']]
    assert {'client': 1, 'server': 1} in wraps


@pytest.mark.parametrize('version', [4, 6])
@row('SYN cookies')
def test_connection_comes_up_when_syn_cookies_are_on(ends: tuple[End, End], version: int) -> None:
    ends[1].site.set('ipv4/tcp_syncookies', 2)
    one = session(ends, version)
    one.transfer(MIB)
    one.nothing_bad()
    sent = ends[1].site.run('nstat', '-asz', 'TcpExtSyncookiesSent', 'TcpExtSyncookiesRecv')
    assert [int(line.split()[1]) > 0 for line in sent.splitlines()[1:]] == [True, True]


@row('rotations under load')
def test_rotation_works_under_load(ends: tuple[End, End]) -> None:
    one = session(ends)
    for number in range(5):
        one.transfer(MIB)
        old = one.ours, one.theirs
        new = mkts(one.ours.pair, (10 + number, 20 + number), bytes([number]) * 20)
        one.server.do(Install(new[1], Where.CONNECTION))
        one.client.do(Install(new[0], Where.CONNECTION), SetRNext(new[0]))
        one.transfer(MIB)
        one.server.do(SetRNext(new[1]))
        one.transfer(MIB, back=True)
        one.talk()
        wait_until(partial(_is_current, one.client, new[0]))
        one.client.do(Remove(old[0], Where.CONNECTION))
        one.server.do(Remove(old[1], Where.CONNECTION))
        one.ours, one.theirs = new
    one.nothing_bad()


@pytest.mark.parametrize('version', [4, 6])
@row('a path narrower than the link')
def test_session_needs_no_icmp_when_its_path_is_narrow(version: int) -> None:
    # "Fragmentation needed" must be ignored (RFC 5925 7.8).
    with (
        routed(1300) as (one, other),
        userspace(one, rule_kinds()) as client,
        userspace(other, rule_kinds()) as server,
    ):
        through = session((client, server), version)
        through.transfer(MIB)
        through.nothing_bad()

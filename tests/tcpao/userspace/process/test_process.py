"""The packet process itself: its rules, its end, its privacy, and what it keeps from TCP.

A real one, started as the daemon starts it, on a real wire.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from lab.tcpao_kernel import has_tcp_ao
from tcpao.backend import BackendError
from tcpao.installer import (
    Abort,
    AdapterDied,
    Cause,
    Failed,
    Guard,
    Install,
    Read,
    Where,
)
from tcpao.refusal import Reason
from tcpao.userspace.client import channel
from tcpao.userspace.client.backend import UserspaceBackend
from tcpao.userspace.netlink import destroy_socket as orphans
from tcpao.userspace.netlink import nfqueue
from tcpao.userspace.netlink.nfqueue import bound_queues
from tcpao.userspace.process.startup import why_unable
from tcpao.userspace.protocol.messages import LARGEST
from tcpao.userspace.rules import iptables as rules_iptables
from tcpao.userspace.rules import iptables_command
from tcpao.userspace.rules.interface import NAME, Kind
from tcpao.userspace.rules.iptables_lock_watch import LOCK_FILE, LockWatch
from tests.tcpao.conftest import rule_kinds
from tests.tcpao.test_installer_conformance import mkts
from tests.tcpao.userspace.forked import ForkedBackend
from tests.tcpao.userspace.packets import (
    ADDRESSES,
    SYN,
    SYN_OPTIONS,
    a_pair,
    packet,
)
from tests.tcpao.userspace.sites import (
    MACS,
    PATIENCE,
    End,
    Session,
    Site,
    connect,
    protected,
    wait_until,
    wired,
)
from tests.tcpao.userspace.wire.test_icmp import (
    HOP_BY_HOP,
    error,
    with_extension,
    with_options,
)

pytestmark = pytest.mark.native

IPTABLES = [Kind.IPTABLES, Kind.IPTABLES_LEGACY, Kind.IPTABLES_NFT]

# Both tools' rules, whichever of them this kernel knows.
LISTINGS = (
    ('iptables-legacy-save',),
    ('ip6tables-legacy-save',),
    ('nft', 'list', 'ruleset'),
)


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    with wired() as both:
        yield both


@pytest.fixture
def ends(sites: tuple[Site, Site]) -> Iterator[tuple[End, End]]:
    """A client by a forked process; the server's is the real one."""
    with (
        protected(sites[0], ForkedBackend(rule_kinds())) as client,
        protected(sites[1], UserspaceBackend(rule_kinds())) as server,
    ):
        yield client, server


def rules(site: Site) -> list[str]:
    """All that have to do with us."""
    found = []
    for command in LISTINGS:
        lines = site.run(*command, check=False).splitlines()
        # nft shows iptables' rules without their comments.
        found += [line.strip() for line in lines if NAME in line or 'queue' in line]
    return [re.sub(r'counter packets \d+ bytes \d+ ', '', one) for one in found if one[0] != '#']


def process_of(end: End) -> UserspaceBackend:
    assert isinstance(end.backend, UserspaceBackend)
    return end.backend


@contextmanager
def plain_listener(site: Site, port: int) -> Iterator[socket.socket]:
    with site.inside(), socket.create_server((str(ADDRESSES[4][1]), port)) as listener:
        yield listener


def can_connect(site: Site, port: int, source_port: int = 0, timeout: float = PATIENCE) -> bool:
    with site.inside(), socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(timeout)
        sock.bind((str(ADDRESSES[4][0]), source_port))
        try:
            sock.connect((str(ADDRESSES[4][1]), port))
        except TimeoutError:
            return False
        return True


def guarded(end: End, port: int = 179) -> socket.socket:
    listener = end.listen(ADDRESSES[4][1], port)
    end.do(Guard(ip_network(ADDRESSES[4][0]), port))
    return listener


# --- rules ----------------------------------------------------------------------------------


def test_rules_come_with_keys_and_go_with_them(ends: tuple[End, End]) -> None:
    site = ends[1].site
    assert not any('sport' in line or 'saddr' in line for line in rules(site))
    listener = guarded(ends[1])
    assert rules(site)
    ends[1].installer.drop_listener(listener)
    assert not any('sport' in line or 'saddr' in line for line in rules(site))


def test_rules_name_us_and_the_queue(ends: tuple[End, End]) -> None:
    guarded(ends[1])
    process = process_of(ends[1])
    queue = process.ready.queue
    if process.ready.rules == Kind.NFTABLES:
        text = ends[1].site.run('nft', 'list', 'ruleset')
        assert f'{NAME}-queue-{queue}' in text
    else:
        text = ends[1].site.run(f'{process.ready.rules}-save')
        ours = [line for line in text.splitlines() if 'NFQUEUE' in line]
        assert ours
        # Unusual quotes of ICMP are for no selector: nothing follows the queue there.
        named = (f'"{NAME} queue {queue}: ', f'"{NAME} queue {queue}"')
        assert all(any(name in line for name in named) for line in ours)
    assert 'bypass' not in text, 'nobody on the queue: dropped'


def test_stopped_process_leaves_no_rules(sites: tuple[Site, Site]) -> None:
    with protected(sites[1], UserspaceBackend(rule_kinds())) as server:
        guarded(server)
    assert rules(sites[1]) == []
    with plain_listener(sites[1], 179):
        assert can_connect(sites[0], 179)


def test_rules_of_others_stay(sites: tuple[Site, Site]) -> None:
    mine = ('-t', 'mangle', '-A', 'INPUT', '-p', 'tcp', '--dport', '7777', '-j', 'ACCEPT')
    sites[1].run('iptables', *mine)
    before = sites[1].run('iptables', '-t', 'mangle', '-S')
    with protected(sites[1], UserspaceBackend(rule_kinds())) as server:
        guarded(server)
    assert sites[1].run('iptables', '-t', 'mangle', '-S') == before


def test_other_traffic_is_not_touched(ends: tuple[End, End]) -> None:
    guarded(ends[1])
    with plain_listener(ends[1].site, 4444):
        assert can_connect(ends[0].site, 4444)
    tally = process_of(ends[1]).tally()
    assert tally.unsigned == tally.good == tally.malformed == 0
    assert not can_connect(ends[0].site, 179, timeout=0.5)
    wait_until(lambda: process_of(ends[1]).tally().unsigned > 0)


def test_dropped_syn_is_told_to_the_daemon_which_is_woken(
    ends: tuple[End, End],
) -> None:
    backend = process_of(ends[1])
    guarded(ends[1])
    descriptor = backend.refusals_fileno()
    assert descriptor is not None
    assert not select.select([descriptor], [], [], 0)[0]
    with ends[0].site.inside(), socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex((str(ADDRESSES[4][1]), 179))
        # It may have come too early, and is told only when it has been sent again for a while.
        assert select.select([descriptor], [], [], PATIENCE)[0]
        assert not select.select([], [sock], [], 0)[1]
    (refusal,) = backend.refusals()
    assert (refusal.reason, refusal.pair.local_port) == (Reason.UNSIGNED, 179)
    assert refusal.pair.remote == ADDRESSES[4][0]
    assert backend.refusals() == []


@pytest.mark.parametrize('kind', IPTABLES)
@pytest.mark.parametrize('version', [4, 6])
def test_each_way_to_make_rules_works(sites: tuple[Site, Site], kind: Kind, version: int) -> None:
    with (
        protected(sites[0], ForkedBackend((kind,))) as client,
        protected(sites[1], ForkedBackend((kind,))) as server,
    ):
        assert process_of(server).ready.rules == kind
        assert process_of(server).ready.without == (), 'ICMP errors and IPv6 too'
        one = connect(client, server, server.listen(ADDRESSES[version][1]), version)
        one.talk()
        one.nothing_bad()
        one.close()
    assert rules(sites[0]) == rules(sites[1]) == []


def test_every_way_is_tried_until_one_works(sites: tuple[Site, Site]) -> None:
    with protected(sites[0], UserspaceBackend()) as end:
        assert process_of(end).ready.rules in set(Kind)
        guard = Guard(ip_network('192.0.2.0/24'), 179)
        end.listen(ADDRESSES[4][0])
        end.do(guard)


@pytest.mark.skipif(has_tcp_ao(), reason='that kernel has CONFIG_NFT_QUEUE; test_interop uses it')
def test_way_that_does_not_work_tells_why(sites: tuple[Site, Site]) -> None:
    with sites[0].inside(), pytest.raises(BackendError, match='nftables: the kernel said'):
        UserspaceBackend((Kind.NFTABLES,)).start()
    with sites[0].inside():
        assert str(why_unable((Kind.NFTABLES,))).startswith(
            'packets can be sent to a queue neither'
        )


def test_probe_leaves_nothing_when_it_asks_if_it_can_serve(sites: tuple[Site, Site]) -> None:
    with sites[0].inside():
        assert why_unable() is None
        assert not bound_queues()
    assert rules(sites[0]) == []


def test_two_processes_in_one_namespace_are_independent(
    sites: tuple[Site, Site],
) -> None:
    with (
        protected(sites[0], ForkedBackend(rule_kinds())) as client,
        protected(sites[1], ForkedBackend(rule_kinds())) as server,
    ):
        one = connect(client, server, server.listen(ADDRESSES[4][1]), 4)
        with protected(sites[1], ForkedBackend(rule_kinds())) as second:
            assert process_of(second).ready.removed == ()
            two = connect(client, second, second.listen(ADDRESSES[4][1], 180), 4, 40002)
            one.talk()
            two.talk()
            two.close()
        one.talk()
        one.close()


@pytest.mark.parametrize('kind', IPTABLES)
def test_rules_return_and_sessions_reset_when_they_are_flushed(
    sites: tuple[Site, Site], kind: Kind
) -> None:
    with (
        protected(sites[0], ForkedBackend((kind,))) as client,
        protected(sites[1], ForkedBackend((kind,))) as server,
    ):
        one = connect(client, server, guarded(server), 4)
        one.talk()
        before = sorted(rules(sites[1]))
        sites[1].run(kind.value, '-t', 'mangle', '-F')
        with pytest.raises(ConnectionResetError):
            one.near.recv(1)
        assert sorted(rules(sites[1])) == before
        one.close()
        again = connect(client, server, server.listen(ADDRESSES[4][1], 180), 4, 40002)
        again.talk()
        again.close()


@pytest.mark.parametrize('kind', IPTABLES)
def test_rules_stay_when_a_firewall_reloads_its_own(sites: tuple[Site, Site], kind: Kind) -> None:
    """A reload by `iptables-restore` leaves its tables as its file says, ours not among them."""
    firewall = '*mangle\n-A INPUT -p tcp -m tcp --dport 7777 -j ACCEPT\nCOMMIT\n'
    with (
        protected(sites[0], ForkedBackend((kind,))) as client,
        protected(sites[1], ForkedBackend((kind,))) as server,
    ):
        one = connect(client, server, guarded(server), 4)
        before = sorted(rules(sites[1]))
        sites[1].run(f'{kind}-restore', text=firewall)
        with pytest.raises(ConnectionResetError):
            one.near.recv(1)
        assert sorted(rules(sites[1])) == before
        one.close()
    listed = sites[1].run(kind.value, '-t', 'mangle', '-S')
    assert [line for line in listed.splitlines() if line.startswith('-A')] == [
        '-A INPUT -p tcp -m tcp --dport 7777 -j ACCEPT'
    ]


@pytest.mark.parametrize('kind', IPTABLES)
def test_old_rules_are_not_ours_when_a_firewall_restores_them(
    sites: tuple[Site, Site], kind: Kind
) -> None:
    """The old rules are as many, and for another port."""
    with (
        protected(sites[0], ForkedBackend((kind,))) as client,
        protected(sites[1], ForkedBackend((kind,))) as server,
    ):
        one = connect(client, server, guarded(server, 180), 4)
        before = sorted(rules(sites[1]))
        saved = sites[1].run(f'{kind}-save').replace(' 180', ' 179')
        sites[1].run(f'{kind}-restore', text=saved)
        with pytest.raises(ConnectionResetError):
            one.near.recv(1)
        assert sorted(rules(sites[1])) == before
        one.close()


@pytest.mark.parametrize('kind', IPTABLES)
def test_nothing_is_reset_when_a_firewall_keeps_our_rules(
    sites: tuple[Site, Site], kind: Kind
) -> None:
    with (
        protected(sites[0], ForkedBackend((kind,))) as client,
        protected(sites[1], ForkedBackend((kind,))) as server,
    ):
        one = connect(client, server, guarded(server), 4)
        before = sorted(rules(sites[1]))
        for _ in range(3):
            sites[1].run(kind.value, '-F')
            sites[1].run(kind.value, '-t', 'mangle', '-A', 'INPUT', '-p', 'udp', '-j', 'ACCEPT')
            sites[1].run(kind.value, '-t', 'mangle', '-D', 'INPUT', '-p', 'udp', '-j', 'ACCEPT')
            one.talk()
        assert sorted(rules(sites[1])) == before
        one.close()


def stays_shut(one: Session, listed: list[str], said: str) -> None:
    """Deaf, not open, and the operator is told what is shut and why."""
    one.near.sendall(b'lost')
    one.far.settimeout(0.5)
    with pytest.raises(TimeoutError):
        one.far.recv(4)
    assert sorted(rules(one.server.site)) == listed
    (line,) = [line for line in said.splitlines() if 'could not be reset' in line]
    assert str(one.theirs.pair) in line
    assert 'CONFIG_INET_DIAG_DESTROY' in line


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no socket be reset, as with a kernel that has no SOCK_DESTROY."""
    monkeypatch.setattr(orphans, 'destroy', lambda pair, cookie, interface: False)


@pytest.mark.usefixtures('lasting')
def test_flushed_rules_shut_sessions_that_cannot_be_reset(
    sites: tuple[Site, Site], capfd: pytest.CaptureFixture[str]
) -> None:
    """Segments that came in between are unknown."""
    (kind,) = rule_kinds()
    with (
        protected(sites[0], ForkedBackend((kind,))) as client,
        protected(sites[1], ForkedBackend((kind,))) as server,
    ):
        one = connect(client, server, guarded(server), 4)
        one.talk()
        before = sorted(rules(sites[1]))
        sites[1].run(kind.value, '-t', 'mangle', '-F')
        assert select.select([process_of(server)], [], [], PATIENCE)[0], 'it ends'
        stays_shut(one, before, capfd.readouterr().err)
        assert process_of(server).died == 'the packet process ended with status 0'


@pytest.mark.usefixtures('lasting')
def test_rules_stay_for_sessions_that_cannot_be_reset_at_end(
    sites: tuple[Site, Site], capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        protected(sites[0], ForkedBackend(rule_kinds())) as client,
        protected(sites[1], ForkedBackend(rule_kinds())) as server,
    ):
        one = connect(client, server, guarded(server), 4)
        one.talk()
        before = sorted(rules(sites[1]))
        server.backend.stop()
        stays_shut(one, before, capfd.readouterr().err)


def test_look_at_the_rules_causes_no_further_look(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The process notices its own iptables too: once, for the look itself takes no lock."""
    path = str(tmp_path / 'lock')
    monkeypatch.setattr(rules_iptables, 'LockWatch', partial(LockWatch, path))
    monkeypatch.setitem(iptables_command.ENVIRONMENT, 'XTABLES_LOCKFILE', path)
    with (
        protected(sites[1], ForkedBackend((Kind.IPTABLES_LEGACY,))) as server,
        closing(LockWatch(path)) as watch,
    ):
        guarded(server)
        assert watch.removals(), 'rules were made'
        # When it has answered twice, a turn has passed in which it has looked.
        process_of(server).loaded(frozenset())
        process_of(server).loaded(frozenset())
        assert not watch.removals()


def test_rules_are_not_made_when_there_is_no_watch(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> LockWatch:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), LOCK_FILE)

    monkeypatch.setattr(rules_iptables, 'LockWatch', refused)
    with (
        sites[0].inside(),
        pytest.raises(BackendError, match=r'cannot be noticed .* Too many open files: .*lock'),
    ):
        ForkedBackend((Kind.IPTABLES_LEGACY,)).start()
    assert rules(sites[0]) == []


def test_rules_are_not_made_when_the_watch_notices_nothing(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The iptables here have another lock than the one that is known."""
    other = partial(LockWatch, str(tmp_path / 'lock'))
    monkeypatch.setattr(rules_iptables, 'LockWatch', other)
    with sites[0].inside(), pytest.raises(BackendError, match='lock says nothing'):
        ForkedBackend((Kind.IPTABLES_LEGACY,)).start()
    assert rules(sites[0]) == []


# --- its death ------------------------------------------------------------------------------


def test_everything_stays_shut_when_the_process_is_killed(ends: tuple[End, End]) -> None:
    client, server = ends
    listener = guarded(server)
    one = connect(client, server, listener, 4)
    one.talk()
    process = process_of(server)
    os.kill(process.pid, signal.SIGKILL)
    (ready, _, _) = select.select([process], [], [], PATIENCE)
    assert ready, 'the descriptor tells'
    assert process.died == 'the packet process ended with status -9'
    one.near.sendall(b'lost')
    one.far.settimeout(0.5)
    with pytest.raises(TimeoutError):
        one.far.recv(4)
    assert not can_connect(client.site, 179, timeout=0.5)
    server.installer.submit(Read(one.theirs.pair))
    failed, died = server.installer.events()
    assert isinstance(failed, Failed)
    assert failed.cause is Cause.GONE
    assert isinstance(died, AdapterDied)
    server.installer.submit(Abort(one.theirs.pair, 'the backend died'))
    assert not any(isinstance(event, AdapterDied) for event in server.installer.events()), 'once'


def test_hanging_process_is_killed(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    process = process_of(ends[1])
    process._channels[0]._socket.settimeout(0.3)
    os.kill(process.pid, signal.SIGSTOP)
    process.loaded(frozenset())
    with pytest.raises(channel.ChannelError):
        process.tally()
    (ready, _, _) = select.select([process], [], [], PATIENCE)
    assert ready
    assert 'does not answer' in (process.died or '')


def test_channel_has_room_for_the_largest_message_at_both_ends() -> None:
    """Whatever the host has for a default."""
    for end in channel.both_ends():
        with end:
            # The kernel counts what it has doubled.
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * LARGEST


def test_session_stays_when_the_send_buffer_is_small(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nfqueue, 'SEND_BUFFER', 4096)
    with (
        protected(sites[0], ForkedBackend(rule_kinds())) as client,
        protected(sites[1], ForkedBackend(rule_kinds())) as server,
    ):
        one = connect(client, server, guarded(server), 4)
        one.transfer(1 << 20)
        one.transfer(1 << 20, back=True)
        one.nothing_bad()
        one.close()


DAEMON = """
    import os, socket, sys
    from ipaddress import ip_address
    from tcpao.installer import Guard, Install, Where
    from tcpao.mkt import SocketPair
    from tcpao.userspace.client.backend import UserspaceBackend
    from tcpao.userspace.rules.interface import Kind
    from tests.tcpao.test_installer_conformance import mkts

    backend = UserspaceBackend((Kind(sys.argv[1]),))
    backend.start()
    # As ExaBGP does.
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    installer = backend.connection_installer()
    pair = SocketPair(ip_address('10.0.0.2'), 179, ip_address('10.0.0.1'), 40001)
    listener = socket.create_server(('10.0.0.2', 1790))
    """


@contextmanager
def daemon(site: Site, kind: Kind, lines: str) -> Iterator[subprocess.Popen[str]]:
    """A daemon of its own, that drops its privileges after it has started the backend."""
    script = textwrap.dedent(DAEMON) + textwrap.dedent(lines)
    with site.inside():
        process = subprocess.Popen(
            [sys.executable, '-c', script, kind.value],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[4],
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


SESSION = """
    key = mkts(SocketPair(ip_address('10.0.0.1'), 40001, ip_address('10.0.0.2'), 1790))[1]
    installer.add_listener(listener)
    installer.submit(Install(key, Where.LISTENER))
    print(*installer.events(), backend.pid, flush=True)
    connection, _ = listener.accept()
    installer.add_connection(key.pair, connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1]) + bytes(7))
    print(connection.recv(5), flush=True)
    """
ALONE = f'{SESSION}\n    sys.stdin.read()'
WITH_AN_HEIR = f'{SESSION}\n    os.fork(); sys.stdin.read()'


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize('lines', [ALONE, WITH_AN_HEIR], ids=['alone', 'a child holds its sockets'])
def test_sessions_are_reset_and_rules_go_when_the_daemon_dies(
    sites: tuple[Site, Site], lines: str, number: signal.Signals
) -> None:
    (kind,) = rule_kinds()
    with (
        protected(sites[0], ForkedBackend((kind,))) as client,
        daemon(sites[1], kind, lines) as process,
    ):
        assert process.stdout is not None
        said = process.stdout.readline().split()
        assert said[0].startswith('Done('), 'without privileges, a rule was made'
        helper = os.pidfd_open(int(said[-1]))
        pair = a_pair()
        ours, _ = mkts(type(pair)(pair.local, 40001, pair.remote, 1790))
        near = client.socket(ours.pair.local, 40001)
        client.installer.add_connection(ours.pair, near)
        client.do(Install(ours, Where.CONNECTION))
        near.connect(('10.0.0.2', 1790))
        near.sendall(b'route')
        assert process.stdout.readline() == "b'route'\n"
        assert rules(sites[1])
        process.send_signal(number)
        with pytest.raises(ConnectionResetError):
            near.recv(1)
        assert select.select([helper], [], [], PATIENCE)[0], 'the process ends with the daemon'
        os.close(helper)
        assert rules(sites[1]) == []


# --- privacy and privileges -----------------------------------------------------------------


def test_keys_are_not_visible_from_outside(ends: tuple[End, End]) -> None:
    secret = b'a secret that is nowhere to be seen'
    listener = ends[1].listen(ADDRESSES[4][1])
    _, theirs = mkts(a_pair(), secret=secret)
    ends[1].do(Install(theirs, Where.LISTENER))
    entry = Path(f'/proc/{process_of(ends[1]).pid}')
    for name in ('cmdline', 'environ'):
        text = (entry / name).read_bytes()
        assert secret not in text
        assert secret.hex().encode() not in text
    assert (entry / 'cmdline').read_bytes().split(b'\0')[2:4] == [b'-m', b'tcpao.userspace']
    limits = (entry / 'limits').read_text().splitlines()
    (core,) = [line.split() for line in limits if line.startswith('Max core file size')]
    assert core[4:6] == ['0', '0']
    assert 'NoNewPrivs:\t1' in (entry / 'status').read_text()
    opened = {int(each.name): os.readlink(each) for each in (entry / 'fd').iterdir()}
    files = [name for number, name in opened.items() if number > 2 and name.startswith('/')]
    assert all(name.startswith('/memfd:counts ') for name in files)
    listener.close()


def test_process_is_refused_when_privileges_are_missing(sites: tuple[Site, Site]) -> None:
    # Root as in a container: a program that it starts has no CAP_NET_ADMIN.
    script = textwrap.dedent("""
        import ctypes
        from tcpao.backend import BackendError
        from tcpao.userspace.client.backend import UserspaceBackend
        PR_CAPBSET_DROP, CAP_NET_ADMIN = 24, 12
        assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0) == 0
        try:
            UserspaceBackend().start()
        except BackendError as error:
            print(error)
        """)
    assert 'CAP_NET_ADMIN' in sites[0].run(sys.executable, '-c', script)


def test_start_fails_with_the_reason_when_it_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As a Python below a home that a daemon may not enter.
    monkeypatch.setattr(sys, 'executable', '/nowhere/python')
    backend = UserspaceBackend()
    with pytest.raises(BackendError, match=r'packet process cannot be started.*/nowhere/python'):
        backend.start()
    backend.stop()


# --- packets that aren't TCP's usual ones -----------------------------------------------------


def inject(site: Site, *packets: bytes, to: int = 1) -> None:
    """Onto the wire as they are, `to` which of the two sites."""
    macs = b''.join(bytes.fromhex(one.replace(':', '')) for one in (MACS[to], MACS[1 - to]))
    with site.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(('wire', 0))
        for octets in packets:
            kind = 0x0800 if octets[0] >> 4 == 4 else 0x86DD
            raw.send(macs + struct.pack('!H', kind) + octets)


def behind_extension(octets: bytes, extension: int, header: bytes) -> bytes:
    """An IPv6 packet with an extension header in between."""
    payload = header + octets[40:]
    return octets[:4] + struct.pack('!HB', len(payload), extension) + octets[7:40] + payload


@pytest.mark.parametrize(
    ('extension', 'header'),
    [
        (0, bytes((6, 0, 1, 4, 0, 0, 0, 0))),
        (60, bytes((6, 0, 1, 4, 0, 0, 0, 0))),
        (44, bytes((6, 0)) + struct.pack('!HI', 0, 1)),
    ],
    ids=['hop-by-hop', 'destination-options', 'atomic-fragment'],
)
def test_extension_header_is_no_bypass(
    ends: tuple[End, End], extension: int, header: bytes
) -> None:
    server = ends[1]
    server.listen(ADDRESSES[6][1])
    server.do(Guard(ip_network(ADDRESSES[6][0]), 179))
    syn = packet(a_pair(6), 1, 0, SYN, SYN_OPTIONS)
    inject(ends[0].site, behind_extension(syn, extension, header))
    wait_until(lambda: process_of(server).tally().malformed == 1)
    assert 'SYN-RECV' not in server.site.run('ss', '-tan')


def test_fragments_are_no_bypass(ends: tuple[End, End]) -> None:
    server = ends[1]
    server.listen(ADDRESSES[6][1])
    server.do(Guard(ip_network(ADDRESSES[6][0]), 179))
    syn = packet(a_pair(6), 1, 0, SYN, SYN_OPTIONS)
    tcp = syn[40:]
    for at, more in ((0, 1), (24, 0)):
        header = bytes((6, 0)) + struct.pack('!HI', at | more, 77)
        part = tcp[:24] if more else tcp[24:]
        inject(ends[0].site, behind_extension(syn[:40] + part, 44, header))
    # And of IPv4, which the kernel puts together before it asks.
    listener = guarded(server)
    whole = packet(a_pair(4), 1, 0, SYN, SYN_OPTIONS)
    for at, more in ((0, 1), (24, 0)):
        part = whole[20:44] if more else whole[44:]
        head = bytearray(whole[:20])
        head[2:4] = struct.pack('!H', 20 + len(part))
        head[6:8] = struct.pack('!H', (0x2000 if more else 0) | at // 8)
        head[10:12] = b'\0\0'
        total = sum(struct.unpack('!10H', head))
        head[10:12] = struct.pack('!H', ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
        inject(ends[0].site, bytes(head) + part)
    wait_until(lambda: process_of(server).tally().unsigned >= 1)
    assert process_of(server).tally().malformed >= 1
    assert 'SYN-RECV' not in server.site.run('ss', '-tan')
    listener.close()


def sent_by(one: Session) -> bytes:
    """A segment of the server's that isn't acknowledged, so that an error about it counts."""
    # No socket reads or acknowledges behind this rule.
    command = 'iptables' if one.ours.pair.local.version == 4 else 'ip6tables'
    rule = ('PREROUTING', '-p', 'tcp', '--sport', '179', '-j', 'DROP')
    one.client.site.run(command, '-t', 'raw', '-A', *rule)
    with one.client.site.inside():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
    with tap:
        tap.settimeout(PATIENCE)
        one.far.sendall(b'unheard')
        while not (octets := tap.recv(2000)).endswith(b'unheard'):
            continue
    one.client.site.run(command, '-t', 'raw', '-D', *rule)
    return octets


@pytest.mark.parametrize(('version', 'kind', 'code'), [(4, 3, 3), (4, 3, 4), (6, 1, 4), (6, 2, 0)])
def test_icmp_errors_are_kept_from_an_established_connection(
    ends: tuple[End, End], version: int, kind: int, code: int
) -> None:
    client, server = ends
    one = connect(client, server, server.listen(ADDRESSES[version][1]), version)
    one.talk()
    inject(client.site, error(sent_by(one), kind, code, struct.pack('!HH', 0, 1290)))
    wait_until(lambda: process_of(server).tally().icmps == 1)
    assert one.near.recv(7) == b'unheard'
    one.talk()
    route = server.site.run('ip', 'route', 'get', str(ADDRESSES[version][0]))
    assert 'mtu' not in route, 'and it moves no path MTU'
    one.close()


@pytest.mark.parametrize('version', [4, 6])
def test_process_judges_an_error_when_its_quote_is_unusual(
    ends: tuple[End, End], version: int
) -> None:
    client, server = ends
    one = connect(client, server, server.listen(ADDRESSES[version][1]), version)
    one.talk()
    sent = sent_by(one)
    if version == 4:
        inject(client.site, error(with_options(sent), 3, 4, struct.pack('!HH', 0, 1290)))
    else:
        quoted = with_extension(sent, 0, HOP_BY_HOP)
        inject(client.site, error(quoted, 2, 0, struct.pack('!HH', 0, 1290)))
    wait_until(lambda: process_of(server).tally().icmps == 1)
    assert one.near.recv(7) == b'unheard'
    one.close()


def test_ipv6_listener_is_guarded_for_ipv4_when_it_hears_both(ends: tuple[End, End]) -> None:
    server = ends[1]
    with server.site.inside():
        both = socket.create_server(('::', 179), family=socket.AF_INET6, dualstack_ipv6=True)
    server.sockets.append(both)
    server.installer.add_listener(both)
    server.do(Guard(ip_network(ADDRESSES[4][0]), 179))
    assert not can_connect(ends[0].site, 179, timeout=0.5)
    server.do(Guard(ip_network(ADDRESSES[6][0]), 179))
    with ends[0].site.inside(), socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sock.connect((str(ip_address('fd00::2')), 179))

"""Waits of the packet process, and waits for it.

A lock that another process holds costs no packet its verdict, and a stuck process no daemon
its end.

Real ones, on a real wire; the lock of the legacy iptables is one of the test's own.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest

from lab.tcpao_kernel import has_tcp_ao
from tcpao.installer import Failed, Guard
from tcpao.socket_installer import SocketInstaller
from tcpao.userspace.netlink.nfqueue import bound_queues
from tcpao.userspace.rules import iptables as rules_iptables
from tcpao.userspace.rules import iptables_command
from tcpao.userspace.rules.interface import Kind
from tcpao.userspace.rules.iptables_lock_watch import LockWatch
from tests.tcpao.conftest import rule_kinds
from tests.tcpao.userspace.forked import ForkedBackend
from tests.tcpao.userspace.process.test_process import (
    daemon,
    guarded,
    rules,
)
from tests.tcpao.userspace.sites import (
    PATIENCE,
    Session,
    Site,
    connect,
    protected,
    wait_until,
    wired,
)

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(has_tcp_ao(), reason='one kernel is enough'),
]

STOPS_WITHIN = 5.0
"""Seconds, as docs/userspace-tcp-ao.md promises."""
OPEN_FOR = 0.5
"""Seconds from the end of a flush, likewise."""


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    with wired() as both:
        yield both


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The one that both sites' iptables take."""
    path = tmp_path / 'xtables.lock'
    monkeypatch.setattr(rules_iptables, 'LockWatch', partial(LockWatch, str(path)))
    monkeypatch.setitem(iptables_command.ENVIRONMENT, 'XTABLES_LOCKFILE', str(path))
    monkeypatch.setenv('XTABLES_LOCKFILE', str(path))
    return path


@contextmanager
def held(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def legacy(sites: tuple[Site, Site]) -> Iterator[Session]:
    kinds = (Kind.IPTABLES_LEGACY,)
    with (
        protected(sites[0], ForkedBackend(kinds)) as client,
        protected(sites[1], ForkedBackend(kinds)) as server,
    ):
        one = connect(client, server, guarded(server), 4)
        one.talk()
        yield one


def test_packets_are_judged_when_a_rule_waits_for_its_lock(
    sites: tuple[Site, Site], lock: Path
) -> None:
    with legacy(sites) as one, held(lock):
        installer = one.server.backend.listener_installer()
        assert isinstance(installer, SocketInstaller)
        assert isinstance(one.server.installer, SocketInstaller)
        asking = threading.Thread(
            target=lambda: installer.submit(Guard(ip_network('192.0.2.1'), 179))
        )
        installer._listeners = list(one.server.installer._listeners)
        asking.start()
        talks = 0
        while asking.is_alive():
            one.talk()
            talks += 1
        asking.join()
        (event,) = installer.events()
        assert isinstance(event, Failed)
        assert 'lock' in event.text
        assert talks > 1
        one.nothing_bad()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the lock that removed rules wait for before they are made anew."""
    path = tmp_path / 'gate'
    path.touch()
    restore = rules_iptables.IptablesRules.restore

    def waiting(self: rules_iptables.IptablesRules) -> None:
        with held(path):
            restore(self)

    monkeypatch.setattr(rules_iptables.IptablesRules, 'restore', waiting)
    return path


def test_sessions_end_when_removed_rules_must_wait(
    sites: tuple[Site, Site], lock: Path, gate: Path
) -> None:
    with legacy(sites) as one:
        with held(gate):
            sites[1].run('iptables-legacy', '-t', 'mangle', '-F')
            began = time.monotonic()
            one.far.settimeout(PATIENCE)
            with pytest.raises(ConnectionError):
                one.far.recv(1)
            open_for = time.monotonic() - began
            assert not any('NFQUEUE' in line for line in rules(sites[1]))
        assert open_for < OPEN_FOR
        wait_until(lambda: any('NFQUEUE' in line for line in rules(sites[1])))
        # The RST found no rules, and was not signed: the next segment has one that is.
        one.near.sendall(b'x')
        with pytest.raises(ConnectionResetError):
            one.near.recv(1)


STUCK = """
    key = mkts(SocketPair(ip_address('10.0.0.1'), 40001, ip_address('10.0.0.2'), 1790))[1]
    installer.add_listener(listener)
    installer.submit(Install(key, Where.LISTENER))
    print(backend.pid, flush=True)
    sys.stdin.readline()
    backend.stop()
    print('stopped', flush=True)
    sys.stdin.readline()
    """


def test_stuck_process_is_gone_when_its_daemon_runs_as_nobody(sites: tuple[Site, Site]) -> None:
    (kind,) = rule_kinds()
    with daemon(sites[1], kind, STUCK) as it:
        assert it.stdout is not None
        assert it.stdin is not None
        pid = int(it.stdout.readline())
        assert rules(sites[1])
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        print(file=it.stdin, flush=True)
        assert it.stdout.readline() == 'stopped\n'
        assert time.monotonic() - began < STOPS_WITHIN
        wait_until(lambda: not Path(f'/proc/{pid}').exists())
        wait_until(lambda: rules(sites[1]) == [])
        with sites[1].inside():
            assert not bound_queues()


def test_stuck_process_is_gone_when_its_daemon_was_killed(sites: tuple[Site, Site]) -> None:
    (kind,) = rule_kinds()
    with daemon(sites[1], kind, STUCK) as it:
        assert it.stdout is not None
        pid = int(it.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        it.kill()
        wait_until(lambda: not Path(f'/proc/{pid}').exists())
        assert rules(sites[1]), 'shut until the next start'

"""The watchdog, with a child that does as the test wants. No rules are made here."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tcpao.userspace.process import watchdog
from tcpao.userspace.protocol.messages import END, KILL

PATIENCE = 60.0
CLEARED = 3


def _hang(parents: tuple[int, ...]) -> int:
    signal.pause()
    return 0


def _obey(parents: tuple[int, ...]) -> int:
    select.select(parents, [], [])
    return 0


def _end(parents: tuple[int, ...]) -> int:
    return 7


@contextmanager
def watched(work: Callable[[tuple[int, ...]], int]) -> Iterator[tuple[socket.socket, int]]:
    """The daemon's end of the control, and the watchdog's pid."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    pid = os.fork()
    if pid == 0:
        ours.close()
        os._exit(watchdog.watch_over(work, theirs.fileno(), (), ()) & 0xFF)
    theirs.close()
    with ours:
        yield ours, pid


@pytest.fixture
def clearing(monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process, when it would clear rules away, with a status that tells so."""
    monkeypatch.setattr(watchdog, '_clear', lambda kinds: os._exit(CLEARED))


def status_of(pid: int) -> int:
    ready, _, _ = select.select([os.pidfd_open(pid)], [], [], PATIENCE)
    assert ready
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_status_is_told_when_the_process_ends() -> None:
    with watched(_end) as (control, pid):
        assert control.recv(16) == b'7'
        assert status_of(pid) == 7


@pytest.mark.usefixtures('clearing')
def test_rules_stay_when_the_process_is_killed() -> None:
    with watched(_hang) as (control, pid):
        control.send(KILL)
        assert control.recv(16) == b'-9'
        # A second thread may have found the same.
        control.send(KILL)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        control.send(END)
        assert status_of(pid) == CLEARED


def test_process_ends_when_the_daemon_is_gone_and_has_not_read() -> None:
    with watched(_hang) as (control, pid):
        control.send(KILL)
        assert select.select([control], [], [], PATIENCE)[0]
        control.close()
        assert status_of(pid) == -signal.SIGKILL


@pytest.mark.usefixtures('clearing')
def test_stuck_process_and_rules_go_when_the_daemon_stops() -> None:
    with watched(_hang) as (control, pid):
        began = time.monotonic()
        control.send(END)
        assert status_of(pid) == CLEARED
        assert time.monotonic() - began >= watchdog._GRACE


@pytest.mark.usefixtures('clearing')
def test_stuck_process_leaves_rules_when_the_daemon_is_killed() -> None:
    with watched(_hang) as (control, pid):
        control.shutdown(socket.SHUT_RDWR)
        assert status_of(pid) == -signal.SIGKILL


def test_process_sees_its_end_when_the_watchdog_is_killed() -> None:
    reading, writing = os.pipe()

    def work(parents: tuple[int, ...]) -> int:
        os.write(writing, b'begun')
        _obey(parents)
        os.write(writing, b'ended')
        return 0

    with watched(work) as (_, pid):
        assert os.read(reading, 5) == b'begun'
        os.kill(pid, signal.SIGKILL)
        assert status_of(pid) == -signal.SIGKILL
        ready, _, _ = select.select([reading], [], [], PATIENCE)
        assert ready
        assert os.read(reading, 5) == b'ended'

"""The installer of a thread that never waits: its answers come later, and of the right socket."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from tcpao.installer import Abort, Cause, Done, Failed, KeyState, Read
from tcpao.mkt import SocketPair
from tcpao.userspace.client.background_installer import BackgroundInstaller
from tcpao.userspace.client.channel import Channel
from tcpao.userspace.process.questions import Questions
from tcpao.userspace.protocol import messages
from tcpao.userspace.wire.signing import supported

PATIENCE = 60.0


@dataclass
class Stuck:
    """A packet process that answers when it is told to."""

    questions: Questions
    heard: list[messages.Request] = field(default_factory=list)

    def hear(self) -> messages.Request:
        request = self.questions.receive_request()
        assert request is not None
        self.heard.append(request)
        return request


@contextmanager
def bound() -> Iterator[tuple[SocketPair, socket.socket]]:
    with socket.create_server(('127.0.0.1', 0)) as server, socket.socket() as sock:
        sock.connect(server.getsockname())
        local, remote = sock.getsockname(), sock.getpeername()
        yield SocketPair(ip_address(local[0]), local[1], ip_address(remote[0]), remote[1]), sock


@pytest.fixture
def killed() -> threading.Event:
    return threading.Event()


@pytest.fixture
def process() -> Iterator[tuple[socket.socket, Stuck]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, Stuck(Questions(theirs))


@pytest.fixture
def installer(
    process: tuple[socket.socket, Stuck], killed: threading.Event
) -> Iterator[BackgroundInstaller]:
    channel = Channel(process[0], killed.set)
    made = BackgroundInstaller(channel, supported())
    yield made
    made.close()
    channel.close('the test is over')


def answered(installer: BackgroundInstaller) -> list[object]:
    assert select.select([installer.fileno()], [], [], PATIENCE)[0]
    return list(installer.events())


def test_read_returns_at_once_when_the_process_is_stuck(
    installer: BackgroundInstaller, process: tuple[socket.socket, Stuck]
) -> None:
    with bound() as (pair, sock):
        installer.add_connection(pair, sock)
        installer.submit(Read(pair))
        assert installer.events() == []
        assert isinstance(process[1].hear(), messages.Read)
        process[1].questions.answer(messages.State(None))
        (state,) = answered(installer)
        assert state == KeyState(pair, None, None, (), 0, 0)


def test_abort_returns_at_once_when_the_process_is_stuck(
    installer: BackgroundInstaller, process: tuple[socket.socket, Stuck]
) -> None:
    with bound() as (pair, sock):
        installer.add_connection(pair, sock)
        installer.submit(Read(pair))
        process[1].hear()
        abort = Abort(pair, 'its hard lifetime')
        installer.submit(abort)
        assert installer.events() == [Done(abort)]
        with pytest.raises(OSError, match='not connected'):
            sock.getpeername()


def test_drop_returns_at_once_when_the_process_is_stuck(
    installer: BackgroundInstaller, process: tuple[socket.socket, Stuck]
) -> None:
    with bound() as (pair, sock):
        installer.add_connection(pair, sock)
        installer.drop_connection(pair)
        assert isinstance(process[1].hear(), messages.Release)


def test_answer_is_not_used_for_the_socket_that_came_after(
    installer: BackgroundInstaller, process: tuple[socket.socket, Stuck]
) -> None:
    with bound() as (pair, sock), closing(sock.dup()) as other:
        installer.add_connection(pair, sock)
        installer.submit(Read(pair))
        process[1].hear()
        installer.drop_connection(pair)
        installer.add_connection(pair, other)
        process[1].questions.answer(messages.State(None))
        (event,) = answered(installer)
        assert isinstance(event, Failed)
        assert event.cause is Cause.GONE


def test_process_is_killed_when_it_gives_no_sign_of_life(
    installer: BackgroundInstaller,
    process: tuple[socket.socket, Stuck],
    killed: threading.Event,
) -> None:
    process[0].settimeout(0.05)
    with bound() as (pair, sock):
        installer.add_connection(pair, sock)
        installer.submit(Read(pair))
        (event, *_) = answered(installer)
    assert isinstance(event, Failed)
    assert event.cause is Cause.GONE
    assert killed.is_set()


def test_process_is_not_killed_when_it_waits_for_rules(
    installer: BackgroundInstaller,
    process: tuple[socket.socket, Stuck],
    killed: threading.Event,
) -> None:
    process[0].settimeout(0.5)
    with bound() as (pair, sock):
        installer.add_connection(pair, sock)
        installer.submit(Read(pair))
        process[1].hear()
        process[1].questions.keep_waiting()
        assert not select.select([installer.fileno()], [], [], 1.0)[0]
        process[1].questions.answer(messages.State(None))
        (event,) = answered(installer)
    assert isinstance(event, KeyState)
    assert not killed.is_set()

"""Connections that began with a SYN cookie are told from those that began with a SYN.

SYN cookies are older than TCP-AO: any Linux will do.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from tcpao.installer import Cause
from tcpao.kernel import saved_syn
from tcpao.kernel.backend import KernelBackend
from tcpao.kernel.installer import LinuxInstaller, endpoint_of
from tcpao.key_socket import InstallError
from tcpao.mkt import SocketPair

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='Linux only')

SYNCOOKIES = Path('/proc/sys/net/ipv4/tcp_syncookies')


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def accept(
    stack: ExitStack, installer: LinuxInstaller, *, guarded: bool = True
) -> tuple[SocketPair, socket.socket]:
    """A connection over loopback, as its listener's owner gets it."""
    listener = stack.enter_context(socket.socket())
    listener.bind(('127.0.0.1', 0))
    if guarded:
        installer.add_listener(listener)
    listener.listen()
    client = stack.enter_context(socket.create_connection(listener.getsockname()))
    child = stack.enter_context(listener.accept()[0])
    remote = ip_address('127.0.0.1'), client.getsockname()[1]
    return SocketPair(*endpoint_of(child.getsockname()), *remote), child


def test_installer_takes_a_child_when_it_has_its_syn(stack: ExitStack) -> None:
    installer = LinuxInstaller()
    installer.add_accepted(*accept(stack, installer))


def test_installer_refuses_a_child_when_no_syn_was_saved(stack: ExitStack) -> None:
    installer = LinuxInstaller()
    pair, child = accept(stack, installer, guarded=False)
    with pytest.raises(InstallError, match='SYN cookie') as refused:
        installer.add_accepted(pair, child)
    assert refused.value.cause is Cause.REFUSED


@pytest.mark.netns
def test_installer_refuses_a_child_when_cookies_are_always_on(
    stack: ExitStack, own_namespace: None
) -> None:
    SYNCOOKIES.write_text('2')
    installer = LinuxInstaller()
    pair, child = accept(stack, installer)
    with pytest.raises(InstallError, match='SYN cookie'):
        installer.add_accepted(pair, child)


@pytest.mark.netns
def test_backend_warns_when_cookies_are_always_on(own_namespace: None) -> None:
    assert not KernelBackend().warnings()
    SYNCOOKIES.write_text('2')
    assert KernelBackend().warnings() == (saved_syn.ALWAYS_COOKIES,)


def test_backend_warns_of_nothing_when_the_kernel_has_no_cookies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_syn, '_SYNCOOKIES', tmp_path / 'missing')
    assert not KernelBackend().warnings()

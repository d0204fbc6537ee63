"""Connections that began with a SYN cookie are told from those that began with a SYN.

SYN cookies are older than TCP-AO: any Linux will do.
"""

from __future__ import annotations

import socket
import subprocess
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

FASTOPEN = Path('/proc/sys/net/ipv4/tcp_fastopen')
FOR_ALL_LISTENERS = 0x607
"""Client, server, data in a SYN without a cookie, for all listening sockets (ip-sysctl.rst)."""
PATIENCE = 10.0
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


def test_installer_shortens_half_open_time_of_a_listener(stack: ExitStack) -> None:
    listener = stack.enter_context(socket.socket())
    listener.bind(('127.0.0.1', 0))
    LinuxInstaller().add_listener(listener)
    assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT) == 2


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
def test_installer_refuses_a_child_when_only_a_syn_has_come(
    stack: ExitStack, own_namespace: None
) -> None:
    """A recorded SYN would be played back so: no answer to ours comes."""
    FASTOPEN.write_text(str(FOR_ALL_LISTENERS))
    installer = LinuxInstaller()
    listener = stack.enter_context(socket.socket())
    listener.bind(('127.0.0.1', 0))
    installer.add_listener(listener)
    listener.listen()
    for line in (
        'add table inet one_way',
        'add chain inet one_way in { type filter hook input priority 0; }',
        f'add rule inet one_way in tcp sport {listener.getsockname()[1]} drop',
    ):
        subprocess.run(['nft', line], check=True)
    client = stack.enter_context(socket.socket())
    client.setblocking(False)
    client.sendto(b'OPEN', socket.MSG_FASTOPEN, listener.getsockname())
    listener.settimeout(PATIENCE)
    child = stack.enter_context(listener.accept()[0])
    assert child.recv(4) == b'OPEN'
    pair = SocketPair(*endpoint_of(child.getsockname()), *endpoint_of(child.getpeername()))
    with pytest.raises(InstallError, match='tcp_fastopen') as refused:
        installer.add_accepted(pair, child)
    assert refused.value.cause is Cause.REFUSED


@pytest.mark.netns
def test_backend_warns_when_cookies_are_always_on(own_namespace: None) -> None:
    assert not KernelBackend().warnings()
    SYNCOOKIES.write_text('2')
    assert KernelBackend().warnings() == (saved_syn.ALWAYS_COOKIES,)


def test_backend_does_not_warn_when_the_kernel_has_no_cookies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_syn, '_SYNCOOKIES', tmp_path / 'missing')
    assert not KernelBackend().warnings()

"""Listening begins when what it must keep out is known."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from exabgp.environment import getenv
from exabgp.protocol.ip import IP

from plugin.connections import runtime
from plugin.reactor import listeners
from plugin.reactor.hooks import LONG_QUEUE
from tests.plugin.doubles import Daemon
from tests.plugin.peers import OURS, PEER, connected, free_port
from tests.plugin.texts import neighbor

Start = Callable[..., Daemon]
SOMAXCONN = Path('/proc/sys/net/core/somaxconn')
PASSIVE = '    passive;\n'


def bound(daemon: Start, text: str) -> tuple[Daemon, int]:
    """A daemon with exabgp.tcp.bind, before its first load."""
    port = free_port()
    one = daemon(text, tcp_bind=[IP.create(OURS)], tcp_port=port)
    return one, port


def test_global_bind_listens_after_the_first_load_when_protected(daemon: Start) -> None:
    one, port = bound(daemon, neighbor(more=PASSIVE))
    assert one.reactor.listener.listen_on(getenv().tcp.bind[0], None, port, None, False, None)
    with pytest.raises(ConnectionRefusedError):
        connected(port)
    assert one.reactor.reload()
    assert one.gatekeeper.log[:3] == ['start', 'configure', f'add_listener {port} bound']
    connected(port).close()


def test_global_bind_listens_after_the_first_load_when_plain(daemon: Start) -> None:
    one, port = bound(daemon, neighbor(section='', more=PASSIVE))
    assert one.begin()
    assert runtime.of(one.reactor) is None
    connected(port).close()


def test_daemon_does_not_start_when_another_listens_by_then(daemon: Start) -> None:
    one, port = bound(daemon, neighbor(section='', more=PASSIVE))
    assert one.reactor.listener.listen_on(getenv().tcp.bind[0], None, port, None, False, None)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((OURS, port))
        other.listen()
        assert not one.reactor.reload()
    assert f'cannot listen on {OURS} port {port}' in str(one.configuration.error)


@pytest.mark.parametrize('protected_by_reload', [False, True])
def test_queue_is_long_when_a_neighbor_is_protected(
    daemon: Start, protected_by_reload: bool
) -> None:
    """A full one means SYN cookies, and connections from those are refused."""
    protected, plain = neighbor(more=PASSIVE), neighbor(section='', more=PASSIVE)
    one, _ = bound(daemon, plain if protected_by_reload else protected)
    assert one.begin()
    if protected_by_reload:
        assert queue_of(one) == one.reactor.listener._backlog
        assert one.reload(protected)
    assert queue_of(one) == min(LONG_QUEUE, int(SOMAXCONN.read_text()))


def queue_of(one: Daemon) -> int:
    """The backlog of its listening socket: tcpi_sacked, of one that listens (tcp_get_info())."""
    (sock,) = one.reactor.listener._sockets
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[28:32], sys.byteorder)


def test_half_open_connections_go_when_a_reload_protects(daemon: Start) -> None:
    """Such a connection is not accepted yet, and its SYN-ACK was not signed."""
    one, port = bound(daemon, neighbor(section='', more=PASSIVE))
    assert one.begin()
    with connected(port) as before:
        assert one.reload(neighbor(more=PASSIVE))
        with pytest.raises(ConnectionResetError):
            before.recv(1)
    with connected(port, source=PEER):
        one.until(lambda: one.gatekeeper.proofs)


@pytest.mark.parametrize('refused', [False, True])
def test_md5_key_makes_way_and_is_back_when_load_is_refused(
    refused: bool, daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer without the MD5 key gets no answer for as long as that is on the listener."""
    keys: list[str | None] = []
    monkeypatch.setattr(
        listeners, 'md5', lambda sock, address, port, password, base64: keys.append(password)
    )
    one, _ = bound(daemon, neighbor(section='', more=PASSIVE + '    md5-password old;\n'))
    assert one.begin()
    one.gatekeeper.refuse_policies = 'no' if refused else None
    assert one.reload(neighbor(more=PASSIVE)) is not refused
    assert keys == ([None, 'old'] if refused else [None])

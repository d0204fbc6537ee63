"""Connections are ended by their pair, and nothing else is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tcpao.mkt import SocketPair
from tcpao.userspace.netlink import destroy_socket as orphans

pytestmark = [pytest.mark.native, pytest.mark.usefixtures('own_namespace')]

LOOPBACK = {4: '127.0.0.1', 6: '::1'}
SECONDS = 30.0


@pytest.fixture(params=[4, 6])
def listener(request: pytest.FixtureRequest, own_namespace: None) -> Iterator[socket.socket]:
    version: int = request.param
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.create_server((LOOPBACK[version], 0), family=family) as sock:
        sock.settimeout(SECONDS)
        yield sock


def connected(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(listener.getsockname()[:2], timeout=SECONDS)
    server, _ = listener.accept()
    server.settimeout(SECONDS)
    return client, server


def pair_of(sock: socket.socket) -> SocketPair:
    (local, local_port, *_), (remote, remote_port, *_) = sock.getsockname(), sock.getpeername()
    return SocketPair(ip_address(local), local_port, ip_address(remote), remote_port)


def cookie_of(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, 57, 8), 'little')  # SO_COOKIE


@pytest.mark.parametrize('known', [True, False], ids=['by cookie', 'by pair'])
def test_destroy_resets_a_connection(listener: socket.socket, known: bool) -> None:
    client, server = connected(listener)
    with client, server:
        assert orphans.destroy(pair_of(server), cookie_of(server) if known else None)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_destroy_leaves_another_socket_on_the_pair(listener: socket.socket) -> None:
    client, server = connected(listener)
    with client, server:
        assert orphans.destroy(pair_of(server), cookie_of(client))
        client.sendall(b'octets')
        assert server.recv(6) == b'octets'


def test_destroy_leaves_the_listener_when_there_is_no_connection(listener: socket.socket) -> None:
    client, server = connected(listener)
    with client, server:
        pair = pair_of(server)
        assert orphans.destroy(pair, None)
    assert orphans.destroy(pair, None)
    client, server = connected(listener)
    client.close()
    server.close()


def test_destroy_leaves_nothing_when_there_is_no_listener(listener: socket.socket) -> None:
    client, server = connected(listener)
    with client, server:
        pair = pair_of(server)
        assert orphans.destroy(pair, None)
    listener.close()
    assert orphans.destroy(pair, None)

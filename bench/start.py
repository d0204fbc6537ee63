"""A start with many peers at once, as after a power cut: when has the last one its key?

All peers ask in the same moment, each for an IKE SA and one routing-protocol SA. In memory the
peers cost nothing and the hub has one core to itself: its clock goes on by the CPU time that it
uses, so the load of the machine hardly counts. Over UDP the hub and all peers are two processes of
this machine, with a socket each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address
from multiprocessing.connection import Connection
from typing import Any, Final

from bench.population import HUB_ID, SESSION_ID, SUITES, name_of
from ikev2.authentication.auth import PresharedKey
from ikev2.authentication.identity import Identity
from ikev2.endpoint import Endpoint
from ikev2.events import (
    Datagram,
    IkeSaFailed,
    RpSaFailed,
    RpSaNegotiated,
    RpSaRequest,
    RpSaRequested,
    Selector,
)
from ikev2.peer import Peer
from ikev2.proposals.ike import IkePolicy
from ikev2.udp import UdpSockets
from keymaterial import Secret

COUNTS: Final = (10, 100, 1000, 3000)
HUB, FIRST = IPv4Address('127.0.0.1'), IPv4Address('127.1.0.1')
DELAY: Final = 0.005
"""Seconds that a datagram takes, in memory."""
ROOM: Final = 2730
"""Datagrams that wait in the receive buffer of our sockets: 2 MiB, 768 octets for a short one."""
LIMIT: Final = 300.0
AGAIN: Final = 1.0
"""Seconds until a peer asks again after a failure, like the gatekeeper's first wait."""
LIFETIME: Final = 3600

_Ports = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Start:
    """The figures of one start."""

    peers: int
    way: str
    seconds: float
    """Until the last peer has its key."""
    cpu: float
    """Milliseconds of the hub's CPU for a peer."""
    dropped: int
    """Datagrams for which the hub's buffer had no room; 0 over UDP, where it isn't counted."""
    failures: int
    """Attempts that failed and were made again."""


@dataclass
class End:
    """One endpoint: the hub, or all peers together."""

    endpoint: Endpoint
    is_hub: bool
    up: int = 0
    failures: int = 0
    again: deque[tuple[float, str]] = field(default_factory=deque)

    def events(self, now: float) -> None:
        """Act on everything that has happened, as a gatekeeper would."""
        while (event := self.endpoint.next_event()) is not None:
            match event:
                case RpSaRequested():
                    suite, tcp_options = event.offer.proposals[0]
                    self.endpoint.prepare(event.token, suite, tcp_options, 2, LIFETIME, now)
                    self.endpoint.answer(event.token, now)
                case RpSaNegotiated():
                    self.up += 1
                case RpSaFailed(peer=peer):
                    self.failures += 1
                    self.again.append((now + AGAIN, peer))
                case IkeSaFailed():
                    pass

    def turn(self, now: float) -> None:
        """Run the timers that are due, and repeat failed requests."""
        self.endpoint.handle_timer(now)
        while self.again and self.again[0][0] <= now:
            request(self.endpoint, self.again.popleft()[1], now)
        self.events(now)

    def next_timer(self) -> float:
        """Return when `turn` must be called next."""
        due = [self.endpoint.next_timer(), self.again[0][0] if self.again else None]
        return min((when for when in due if when is not None), default=float('inf'))


def request(spokes: Endpoint, name: str, now: float) -> None:
    """Ask the hub for a key, as one peer."""
    spoke = FIRST + int(name[1:])
    wanted = RpSaRequest(
        keyid=1,
        suites=SUITES,
        tcp_options=True,
        tsi=Selector(spoke, 40001),
        tsr=Selector(HUB, 179),
        session_id=SESSION_ID,
        lifetime=LIFETIME,
    )
    spokes.request(name, wanted, now)


def ends(count: int, ports: tuple[_Ports, _Ports], cpu: Callable[[], float]) -> tuple[End, End]:
    """Return the hub and the peers, configured for each other."""
    made = tuple(
        Endpoint(random=os.urandom, has_mkts=lambda _: False, local_ports=own, cpu=clock)
        for own, clock in zip(ports, (cpu, time.thread_time), strict=True)
    )
    key = PresharedKey(Secret(os.urandom(32)))
    for number in range(count):
        name, address = name_of(number), FIRST + number
        hers = Identity.parse('fqdn', f'{name}.example')
        for endpoint, ids, addresses, port in (
            (made[0], (HUB_ID, hers), (HUB, address), ports[1][0]),
            (made[1], (hers, HUB_ID), (address, HUB), ports[0][0]),
        ):
            peer = Peer(name, *ids, key, key, (addresses,), remote_port=port, policy=IkePolicy())
            endpoint.set_peer(peer, 0.0)
    return End(made[0], is_hub=True), End(made[1], is_hub=False)


# --- in memory --------------------------------------------------------------------------------


class Core:
    """The one core of the hub: its CPU seconds so far, and the time that they make pass."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._began: float | None = None

    def __call__(self) -> float:
        return self.spent + (0.0 if self._began is None else time.thread_time() - self._began)

    def do(self, work: Callable[[], None]) -> float:
        """Do it, and return the CPU seconds that it has cost."""
        self._began = time.thread_time()
        work()
        cost = time.thread_time() - self._began
        self._began = None
        self.spent += cost
        return cost


class Memory:
    """A start in memory."""

    def __init__(self, count: int, room: int = ROOM) -> None:
        self._core = Core()
        self._hub, self._spokes = ends(count, ((500, 4500), (500, 4500)), self._core)
        self._count, self._room = count, room
        self._to_hub: deque[tuple[float, Datagram]] = deque()
        self._to_spokes: deque[tuple[float, Datagram]] = deque()
        self._buffer: deque[Datagram] = deque()
        self._dropped = 0
        self.now = 0.0

    def run(self) -> Start:
        """Let all peers ask at once, until the last one has its key."""
        for number in range(self._count):
            request(self._spokes.endpoint, name_of(number), self.now)
        while self._spokes.up < self._count and self.now < LIMIT:
            self._arrive()
            if self._buffer or self._hub.next_timer() <= self.now:
                self.now += self._core.do(self._serve)
                self._send(self._hub, self._to_spokes)
            elif self._spokes.up < self._count:
                self.now = max(self.now, self._next())
        milliseconds = 1000 * self._core.spent / self._count
        failures = self._spokes.failures
        return Start(self._count, 'memory', self.now, milliseconds, self._dropped, failures)

    def _arrive(self) -> None:
        while self._to_hub and self._to_hub[0][0] <= self.now:
            datagram = self._to_hub.popleft()[1]
            if len(self._buffer) < self._room:
                self._buffer.append(datagram)
            else:
                self._dropped += 1
        while self._to_spokes and self._to_spokes[0][0] <= self.now:
            self._spokes.endpoint.receive_datagram(self._to_spokes.popleft()[1], self.now)
        self._spokes.turn(self.now)
        self._send(self._spokes, self._to_hub)

    def _serve(self) -> None:
        if self._buffer:
            self._hub.endpoint.receive_datagram(self._buffer.popleft(), self.now)
        self._hub.turn(self.now)

    def _send(self, end: End, queue: deque[tuple[float, Datagram]]) -> None:
        for one in end.endpoint.datagrams_to_send():
            turned = Datagram(one.data, one.remote, one.remote_port, one.local, one.local_port)
            queue.append((self.now + DELAY, turned))

    def _next(self) -> float:
        queues = [queue[0][0] for queue in (self._to_hub, self._to_spokes) if queue]
        return min([*queues, self._hub.next_timer(), self._spokes.next_timer()])


# --- over UDP ---------------------------------------------------------------------------------


def over_udp(count: int) -> Start:
    """Do a start with two processes on this host's loopback interface."""
    sockets = [UdpSockets((0, 0), (socket.AF_INET,)) for _ in range(2)]
    hub, spokes = ends(count, (sockets[0].ports, sockets[1].ports), time.thread_time)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context('fork').Process(
        target=_ask, args=(spokes, sockets[1], count, theirs)
    )
    before = time.thread_time()
    child.start()
    try:
        _pump(hub, sockets[0], ours.poll)
        seconds, failures = ours.recv()
    finally:
        child.kill()
        child.join()
        for one in sockets:
            one.close()
    milliseconds = 1000 * (time.thread_time() - before) / count
    return Start(count, 'UDP', seconds, milliseconds, 0, failures)


def _ask(spokes: End, udp: UdpSockets, count: int, told: Connection) -> None:
    began = time.monotonic()
    for number in range(count):
        request(spokes.endpoint, name_of(number), began)
    _pump(spokes, udp, lambda: spokes.up >= count or time.monotonic() - began > LIMIT)
    told.send((time.monotonic() - began, spokes.failures))


def _pump(end: End, udp: UdpSockets, is_over: Callable[[], bool]) -> None:
    with selectors.DefaultSelector() as selector:
        for descriptor in udp.filenos():
            selector.register(descriptor, selectors.EVENT_READ)
        while not is_over():
            selector.select(min(0.1, max(0.0, end.next_timer() - time.monotonic())))
            now = time.monotonic()
            for datagram in udp.receive():
                end.endpoint.receive_datagram(datagram, now)
            end.turn(now)
            for datagram in end.endpoint.datagrams_to_send():
                udp.send(datagram)


# --- the command line -------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument('--peers', type=int, nargs='+', default=COUNTS)
    parser.add_argument(
        '--room', type=int, default=ROOM, help="datagrams in the hub's buffer, in memory"
    )


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure and print."""
    print(f'{"peers":>6} {"way":7} {"seconds":>8} {"ms a peer":>10} {"dropped":>8} {"failures":>9}')
    found = []
    for count in arguments.peers:
        for one in (Memory(count, arguments.room).run(), over_udp(count)):
            print(
                f'{one.peers:6} {one.way:7} {one.seconds:8.2f} {one.cpu:10.2f} '
                f'{one.dropped:8} {one.failures:9}',
                flush=True,
            )
            found.append(asdict(one))
    return found

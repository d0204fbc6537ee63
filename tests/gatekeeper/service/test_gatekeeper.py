"""The gatekeeper's thread around real sockets: UDP on loopback, and this kernel's TCP-AO."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from gatekeeper.errors import PolicyError
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.events import OperatorEvent
from gatekeeper.service.gatekeeper import Gatekeeper, GatekeeperError
from gatekeeper.state.ticket import Ticket
from ikev2.authentication.identity import Identity
from tcpao.backend import Backend
from tcpao.installer import Abort, Close
from tcpao.kernel.backend import KernelBackend
from tcpao.kernel.installer import LinuxSocket, why_unsupported
from tcpao.mkt import SocketPair
from tests.descriptors import descriptors
from tests.gatekeeper.world import FAMILIES, PORTS, R1, R2, policies
from tests.tcpao.benches import namespace

pytestmark = pytest.mark.kernel

PATIENCE = 60.0
IKE_PORTS = {'r1': (1500, 14500), 'r2': (2500, 24500)}
ABORT_ON_CLOSE = struct.pack('ii', 1, 0)
TCP_MD5SIG = 14


@pytest.fixture(autouse=True)
def loopback() -> Iterator[None]:
    reason = why_unsupported('hmac-sha-1-96')
    if reason is not None:
        pytest.fail(f'this kernel has no TCP-AO: {reason}')
    with namespace():
        yield


class Daemon:
    """The little of a BGP speaker that matters, on one thread: the test's."""

    def __init__(self, name: str, backend: Backend | None = None) -> None:
        """Without a backend: this kernel's."""
        backend = backend or KernelBackend()
        self.name = name
        self.address = R1 if name == 'r1' else R2
        self.records: list[OperatorEvent] = []
        self.gatekeeper = Gatekeeper(
            router=name,
            ike_ports=IKE_PORTS[name],
            record=self.records.append,
            backend=backend,
        )
        self.gatekeeper.start()
        self.installer = backend.connection_installer()
        self.sockets: dict[SocketPair, socket.socket] = {}
        self.opening: dict[SocketPair, Ticket] = {}
        self.connecting: set[SocketPair] = set()
        self.proving: dict[SocketPair, Ticket] = {}
        self.up: dict[str, socket.socket] = {}
        self.errors: list[str] = []
        self.aborted: list[SocketPair] = []
        self.listener: socket.socket | None = None

    def policies(self, **changes: Any) -> list[SessionPolicy]:
        """Both sessions, with the peer's UDP port."""
        other = 'r2' if self.name == 'r1' else 'r1'
        found = policies(self.name, **changes)
        return [replace(p, pad=replace(p.entry, ike_port=IKE_PORTS[other][0])) for p in found]

    def bound(self, port: int = 179, *, shared: bool = False) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT_ON_CLOSE)
        sock.bind((str(self.address), port))
        sock.setblocking(False)
        return sock

    def listen(self, *, shared: bool = False) -> None:
        self.listener = self.bound(shared=shared)
        self.gatekeeper.add_listener(self.listener)
        self.listener.listen()

    def open(self, session: str) -> SocketPair:
        pair = SocketPair(R1, PORTS[session], R2, 179)
        sock = self.bound(pair.local_port)
        self.sockets[pair] = sock
        self.installer.add_connection(pair, sock)
        self.opening[pair] = self.gatekeeper.request(f'{self.name} {session}', pair)
        return pair

    def close(self, pair: SocketPair) -> None:
        sock = self.sockets.pop(pair, None)
        if sock is None:
            return
        self.connecting.discard(pair)
        for key in [key for key, up in self.up.items() if up is sock]:
            del self.up[key]
        self.installer.drop_connection(pair)
        sock.close()
        self.gatekeeper.gone(pair)

    def turn(self) -> None:
        for command in self.gatekeeper.take_commands():
            if isinstance(command, Close | Abort):
                self.aborted.append(command.pair)
                self.close(command.pair)
            else:
                self.installer.submit(command)
        for event in self.installer.events():
            self.gatekeeper.post(event)
        for pair in [pair for pair, ticket in self.opening.items() if ticket.done]:
            if not self.failed(pair, self.opening.pop(pair)):
                self.connecting.add(pair)
                self.sockets[pair].connect_ex((str(pair.remote), pair.remote_port))
        for pair in list(self.connecting):
            with suppress(OSError):
                self.sockets[pair].getpeername()
                self.connecting.discard(pair)
                self.proving[pair] = self.gatekeeper.prove(None, pair)
        self.accept()
        for pair in [pair for pair, ticket in self.proving.items() if ticket.done]:
            ticket = self.proving.pop(pair)
            if not self.failed(pair, ticket):
                assert ticket.session_key is not None
                self.up[ticket.session_key] = self.sockets[pair]
                self.gatekeeper.up(pair)

    def accept(self) -> None:
        while self.listener is not None:
            try:
                child, (address, port) = self.listener.accept()
            except BlockingIOError:
                return
            child.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT_ON_CLOSE)
            pair = SocketPair(self.address, 179, ip_address(address), port)
            self.sockets[pair] = child
            self.installer.add_connection(pair, child)
            self.proving[pair] = self.gatekeeper.prove(None, pair)

    def failed(self, pair: SocketPair, ticket: Ticket) -> bool:
        if ticket.error is not None:
            self.errors.append(str(ticket.error))
            self.close(pair)
        return ticket.error is not None

    def story(self) -> str:
        """Return what has happened here, for the failure of a test that waited in vain."""
        happened = (*self.errors, *self.aborted, *self.records[-20:])
        return '\n'.join(f'{self.name}: {one}' for one in happened)

    def end(self) -> None:
        for pair in list(self.sockets):
            self.close(pair)
        if self.listener is not None:
            self.listener.close()
        self.gatekeeper.stop()


def run(until: Callable[[], bool], *daemons: Daemon) -> None:
    """Turns of the daemons, whenever something wakes them."""
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, '\n'.join(map(Daemon.story, daemons))
        for daemon in daemons:
            daemon.turn()
        if not until():
            reading = [d.gatekeeper.fileno() for d in daemons]
            reading += [d.listener.fileno() for d in daemons if d.listener is not None]
            writing = [d.sockets[pair].fileno() for d in daemons for pair in d.connecting]
            select.select(reading, writing, [], 1.0)


@pytest.fixture
def r1() -> Iterator[Daemon]:
    daemon = Daemon('r1')
    yield daemon
    daemon.end()


@pytest.fixture
def r2() -> Iterator[Daemon]:
    daemon = Daemon('r2')
    yield daemon
    daemon.end()


def both_up(r1: Daemon, r2: Daemon) -> None:
    r2.listen()
    r2.gatekeeper.configure(r2.policies())
    r1.gatekeeper.configure(r1.policies())
    for name in FAMILIES:
        r1.open(name)
    run(lambda: len(r1.up) == len(r2.up) == 2, r1, r2)


def keys_on(sock: socket.socket) -> list[tuple[int, int]]:
    state = LinuxSocket(sock).read()
    return sorted((key.send_id, key.recv_id) for key in state.keys) if state else []


def die(daemon: Daemon) -> None:
    """Make its thread die, and wait for that."""

    def raise_it(now: float) -> None:
        raise RuntimeError('a defect')

    thread = daemon.gatekeeper._thread
    assert thread is not None
    daemon.gatekeeper._calls.post(raise_it)
    thread.join(PATIENCE)
    assert not thread.is_alive()


# --- a session ----------------------------------------------------------------------------------


def test_both_sessions_come_up_under_their_own_keys(r1: Daemon, r2: Daemon) -> None:
    both_up(r1, r2)
    assert set(r1.up) == {f'r1 {name}' for name in FAMILIES}
    assert set(r2.up) == {f'r2 {name}' for name in FAMILIES}
    # The daemon may act upon a ticket before the gatekeeper's thread goes on.
    run(lambda: r2.listener is not None and keys_on(r2.listener) == [(0, 0)], r1, r2)
    seen = set()
    for name in FAMILIES:
        ours, theirs = r1.up[f'r1 {name}'], r2.up[f'r2 {name}']
        ((send_id, recv_id),) = keys_on(ours)
        assert keys_on(theirs) == [(recv_id, send_id)]
        seen.add(send_id)
        ours.sendall(b'OPEN')
        theirs.setblocking(True)
        theirs.settimeout(PATIENCE)
        assert theirs.recv(16) == b'OPEN'
    assert len(seen) == 2
    rows = r1.gatekeeper.snapshot()
    assert [row['state'] for row in rows] == ['in use', 'in use']


def test_ended_session_frees_its_pair_for_the_next_one(r1: Daemon, r2: Daemon) -> None:
    both_up(r1, r2)
    pair = next(iter(r1.sockets))
    r1.close(pair)
    run(lambda: len(r2.gatekeeper.snapshot()) == 2 and not any_in_use(r2, pair), r1, r2)
    r2.close(pair.reversed())
    r1.open('ipv4 unicast')
    run(lambda: len(r1.up) == len(r2.up) == 2, r1, r2)


def any_in_use(daemon: Daemon, pair: SocketPair) -> bool:
    """True while the kernel has the daemon's end of `pair` up."""
    sock = daemon.sockets.get(pair.reversed())
    try:
        return sock is not None and sock.getpeername() is not None
    except OSError:
        return False


def test_stop_tells_the_peer(r1: Daemon, r2: Daemon) -> None:
    """At once, as a daemon stops: the DELETEs of its sessions are still to be answered."""
    both_up(r1, r2)
    for pair in list(r1.sockets):
        r1.close(pair)
    r1.gatekeeper.stop()
    run(lambda: all(row['ike'] == 'down' for row in r2.gatekeeper.snapshot()), r2)


def test_stop_does_not_wait_for_a_peer_that_is_dead(r1: Daemon, r2: Daemon) -> None:
    both_up(r1, r2)
    die(r2)
    for pair in list(r1.sockets):
        r1.close(pair)
    r1.gatekeeper.stop(PATIENCE)
    assert not r1.gatekeeper.alive


# --- the end of the thread ----------------------------------------------------------------------


def test_connections_are_aborted_when_the_thread_dies(r1: Daemon, r2: Daemon) -> None:
    both_up(r1, r2)
    die(r2)
    assert not r2.gatekeeper.alive
    assert select.select([r2.gatekeeper.fileno()], [], [], 0)[0]
    aborts = [c for c in r2.gatekeeper.take_commands() if isinstance(c, Abort)]
    assert {command.pair for command in aborts} == set(r2.sockets)
    assert 'a defect' in aborts[0].cause
    assert any('a defect' in str(record.details) for record in r2.records)


def test_callers_are_answered_when_the_thread_dies(r1: Daemon) -> None:
    r1.gatekeeper.configure(r1.policies())
    pair = r1.open('ipv4 unicast')
    r1.gatekeeper.snapshot()
    busy, go = threading.Event(), threading.Event()

    def fail(now: float) -> None:
        busy.set()
        go.wait(PATIENCE)
        raise RuntimeError('a defect')

    r1.gatekeeper._calls.post(fail)
    assert busy.wait(PATIENCE)
    # These come while the thread is busy dying.
    later = r1.gatekeeper.request('r1 ipv6 unicast', SocketPair(R1, 40002, R2, 179))
    errors: list[str] = []

    def look() -> None:
        try:
            r1.gatekeeper.snapshot()
        except GatekeeperError as error:
            errors.append(str(error))

    looking = threading.Thread(target=look)
    looking.start()
    while r1.gatekeeper._calls.waiting() < 2:
        time.sleep(0.001)
    go.set()
    looking.join(PATIENCE)
    assert not looking.is_alive()
    # And not that it gave up by itself.
    assert 'a defect' in errors[0]
    for ticket in (r1.opening[pair], later):
        assert ticket.done
        assert 'a defect' in str(ticket.error)


def test_dead_gatekeeper_refuses_at_once_and_tells_why(r1: Daemon) -> None:
    die(r1)
    ticket = r1.gatekeeper.request('r1 ipv4 unicast', SocketPair(R1, 40001, R2, 179))
    assert 'a defect' in str(ticket.error)
    for call in (
        r1.gatekeeper.snapshot,
        lambda: r1.gatekeeper.configure([]),
        lambda: r1.gatekeeper.add_listener(r1.bound()),
    ):
        with pytest.raises(GatekeeperError, match='a defect'):
            call()
    r1.gatekeeper.gone(SocketPair(R1, 40001, R2, 179))
    r1.gatekeeper.stop()


def test_stop_is_idempotent_and_settles_what_waits(r1: Daemon) -> None:
    r1.gatekeeper.configure(r1.policies())
    pair = r1.open('ipv4 unicast')
    r1.gatekeeper.stop()
    r1.gatekeeper.stop()
    assert not r1.gatekeeper.alive
    assert 'stopped' in str(r1.opening[pair].error)
    with pytest.raises(GatekeeperError, match='stopped'):
        r1.gatekeeper.snapshot()


def test_stop_gives_the_ports_back(r1: Daemon) -> None:
    r1.listen()
    r1.gatekeeper.stop()
    assert r1.listener is not None
    r1.listener.close()
    r1.listener = None
    r1.bound().listen()
    again = Daemon('r1')
    again.end()


def test_forked_child_has_no_gatekeeper(r1: Daemon) -> None:
    child = os.fork()
    if not child:
        status = 1
        with suppress(BaseException):
            if not r1.gatekeeper.alive:
                try:
                    r1.gatekeeper.configure([])
                except GatekeeperError:
                    status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert r1.gatekeeper.alive


def test_start_leaves_nothing_when_a_port_is_taken(r1: Daemon) -> None:
    r1.gatekeeper.configure(r1.policies())
    second = Daemon('r1')
    before = descriptors()
    with pytest.raises(GatekeeperError, match='1500'):
        second.gatekeeper.configure(r1.policies())
    assert descriptors() == before
    assert second.gatekeeper.snapshot() == []
    second.end()


# --- configurations -----------------------------------------------------------------------------


def test_old_configuration_stays_when_the_new_one_is_refused(r1: Daemon) -> None:
    r1.gatekeeper.configure(r1.policies())
    # What IKE finds out meanwhile stands in the rows too.
    names = [(row['neighbor'], row['session']) for row in r1.gatekeeper.snapshot()]
    first = r1.policies()[0]
    with pytest.raises(PolicyError, match='twice'):
        r1.gatekeeper.configure([first, first])
    assert [(row['neighbor'], row['session']) for row in r1.gatekeeper.snapshot()] == names
    assert r1.gatekeeper.alive


def test_old_configuration_stays_when_a_deny_key_is_refused(r2: Daemon) -> None:
    r2.listen()
    assert r2.listener is not None
    r2.gatekeeper.configure(r2.policies())
    # AO and MD5 for one peer don't go together.
    md5 = ip_address('10.0.0.3')
    key = struct.pack('=H2x4s120xBBHi80s', socket.AF_INET, md5.packed, 0, 0, 3, 0, b'md5')
    r2.listener.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, key)
    # One peer before it in order, and one after.
    others = [
        replace(
            policy,
            key=f'{remote} {policy.key}',
            remote=ip_address(remote),
            pad=replace(policy.entry, peer_id=Identity.parse('fqdn', f'{remote}.lab')),
        )
        for remote in ('10.0.0.0', '10.0.0.3')
        for policy in r2.policies()[:1]
    ]
    with pytest.raises(GatekeeperError, match=r'10\.0\.0\.3'):
        r2.gatekeeper.configure([*r2.policies(), *others])
    assert len(r2.gatekeeper.snapshot()) == 2
    state = LinuxSocket(r2.listener).read()
    assert state is not None
    assert [str(key.peer) for key in state.keys] == [f'{R1}/32']


def test_failed_look_stops_nothing(r1: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    r1.gatekeeper.configure(r1.policies())
    with monkeypatch.context() as patched:
        patched.setattr('gatekeeper.state.snapshot.snapshot', lambda *_: 1 / 0)
        with pytest.raises(GatekeeperError, match='internal error'):
            r1.gatekeeper.snapshot()
    assert len(r1.gatekeeper.snapshot()) == 2


# --- listening sockets --------------------------------------------------------------------------


def test_listener_is_guarded_before_it_is_known_to_be_one(r2: Daemon) -> None:
    r2.gatekeeper.configure(r2.policies())
    sock = r2.bound()
    r2.gatekeeper.add_listener(sock)
    assert keys_on(sock) == [(0, 0)]
    sock.close()


def test_listening_socket_is_guarded_before_its_neighbor_is_set(
    r2: Daemon,
) -> None:
    r2.listen()
    assert r2.listener is not None
    assert keys_on(r2.listener) == []
    r2.gatekeeper.configure(r2.policies())
    assert keys_on(r2.listener) == [(0, 0)]
    r2.gatekeeper.configure([])
    assert keys_on(r2.listener) == []


def test_unsigned_syn_gets_no_answer_from_a_guarded_listener(r2: Daemon) -> None:
    r2.gatekeeper.configure(r2.policies())
    r2.listen()
    with socket.socket() as stranger:
        stranger.bind((str(R1), 0))
        stranger.settimeout(0.5)
        with pytest.raises(TimeoutError):
            stranger.connect((str(R2), 179))
    with socket.socket() as other:
        other.bind(('10.0.0.3', 0))
        other.settimeout(PATIENCE)
        other.connect((str(R2), 179))


def test_dropped_listener_is_released(r2: Daemon) -> None:
    r2.listen()
    assert r2.listener is not None
    r2.gatekeeper.drop_listener(r2.listener).result()
    r2.listener.close()
    r2.listener = None
    r2.listen()


def test_closed_listener_is_released_with_its_number(r2: Daemon) -> None:
    first = r2.bound(1179)
    r2.gatekeeper.add_listener(first)
    first.listen()
    number = first.fileno()
    first.close()
    second = r2.bound(2179)
    assert second.fileno() == number
    r2.gatekeeper.add_listener(second)
    # No socket holds the first one's port any more.
    r2.bound(1179).listen()
    second.close()


def test_unguardable_socket_is_an_error_and_harms_nothing(r2: Daemon) -> None:
    r2.gatekeeper.configure(r2.policies())
    closed = r2.bound()
    closed.close()
    with pytest.raises(GatekeeperError, match='listening socket'):
        r2.gatekeeper.add_listener(closed)
    with socket.socket() as unbound, pytest.raises(GatekeeperError, match='bound'):
        r2.gatekeeper.add_listener(unbound)
    r2.listen()


def test_listener_may_come_at_the_moment_a_key_goes(r1: Daemon, r2: Daemon) -> None:
    r2.listen(shared=True)
    r2.gatekeeper.configure(r2.policies())
    r1.gatekeeper.configure(r1.policies())
    r1.open('ipv4 unicast')
    # r1 is to install its key: r2 has answered.
    assert select.select([r1.gatekeeper.fileno()], [], [], PATIENCE)[0]
    assert r2.listener is not None
    assert len(keys_on(r2.listener)) == 2
    another = r2.bound(shared=True)
    go = threading.Event()
    # Both are done in one turn: the key's end, and the socket that would have got it.

    def wait(now: float) -> None:
        go.wait(PATIENCE)

    r2.gatekeeper._calls.post(wait)
    r2.gatekeeper._calls.post(
        lambda now: r2.gatekeeper._loop.core.configure(r2.policies()[1:], now)
    )
    adding = threading.Thread(target=r2.gatekeeper.add_listener, args=(another,))
    adding.start()
    while r2.gatekeeper._calls.waiting() < 2:
        time.sleep(0.001)
    go.set()
    adding.join(PATIENCE)
    assert r2.gatekeeper.alive
    assert keys_on(r2.listener) == keys_on(another) == [(0, 0)]
    another.close()

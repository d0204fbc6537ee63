"""The gatekeeper's thread: UDP sockets, listening sockets and deadlines around the core.

ExaBGP closes and reuses descriptors on its own thread, so only that thread touches connections:
their commands wait in a queue until the daemon drains it. Listening sockets are handed over as
dup()ed descriptors that only this thread changes. The thread sleeps until an input or a deadline.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from queue import Empty, SimpleQueue
from traceback import extract_tb

from gatekeeper.clock import Alarm, ClockWatch, boottime, both_clocks
from gatekeeper.engine.core import Core
from gatekeeper.errors import GateError, GatekeeperError, PolicyError
from gatekeeper.policy.algorithm_support import check_suites
from gatekeeper.policy.sessions import SessionPolicy, check
from gatekeeper.reporting.events import EventName, OperatorEvent
from gatekeeper.service.ike_sockets import IkeSockets, UdpError
from gatekeeper.service.listeners import Listeners, is_for_listeners
from gatekeeper.service.mailbox import Mailbox
from gatekeeper.state import snapshot as show
from gatekeeper.state.ticket import Ticket
from ikev2.limits import KeyLog
from tcpao.backend import Backend, BackendError
from tcpao.backend_choice import choose
from tcpao.installer import (
    Abort,
    Capabilities,
    Command,
    ConnectionGone,
    ConnectionUp,
    Event,
)
from tcpao.key_socket import InstallError
from tcpao.mkt import Mkt, SocketPair
from tcpao.socket_installer import SocketInstaller

__all__ = ['Gatekeeper', 'GatekeeperError']

PARTING_WITHIN = 1.0
"""Seconds that the end waits for what peers still have to answer; less than `stop` waits."""


class Gatekeeper:
    """The face that a routing protocol's adapter sees. Methods may be called from any thread,
    except `fileno`, `take_commands` and `post`: only from the one that owns the connections."""

    def __init__(
        self,
        *,
        router: str,
        ike_ports: tuple[int, int] = (500, 4500),
        record: Callable[[OperatorEvent], None],
        backend: Backend | None = None,
        key_table: Callable[[SessionPolicy, bool, Mkt], None] | None = None,
        ike_key_log: KeyLog | None = None,
    ) -> None:
        """`backend` protects the connections; without one the kernel is asked (tcpao.backend).

        `record` and `key_table` are called on the gatekeeper's thread; `key_table` only for
        a demo or debug run: it gets the policy, whether we open the connection, and the MKT.
        `ike_key_log` likewise: it gets the keys of every IKE SA."""
        self._router = router
        self._ike_ports = ike_ports
        self._record = record
        self._key_table = key_table
        self._ike_key_log = ike_key_log
        self._backend = backend or choose()
        self._calls = Mailbox()
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._waiting: set[Ticket] = set()
        self._records: list[OperatorEvent] = []
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """False before start, after stop, when the thread died, and in a forked child."""
        return self._calls.alive

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the backend, which needs privileges, and the thread. Raises GatekeeperError; then
        nothing is left behind. UDP is for the first session that negotiates."""
        try:
            self._backend.start()
        except BackendError as error:
            raise GatekeeperError(f'no neighbor can be protected here: {error}') from None
        self._installer = self._backend.listener_installer()
        self.capabilities: Capabilities = self._backend.capabilities()
        self._udp = IkeSockets(self._ike_ports)
        try:
            self._open_descriptors()
        except OSError as error:
            self._backend.stop()
            raise GatekeeperError(f'cannot start: {error}') from None
        self._listeners = Listeners(self._installer)
        self._core = Core(
            random=os.urandom,
            ike_ports=self._ike_ports,
            algorithms=self.capabilities.algorithms,
            backend=self.capabilities.backend,
            ike_key_log=self._ike_key_log,
        )
        reference = weakref.ref(self._calls)
        os.register_at_fork(after_in_child=lambda: _without_thread(reference()))
        self._calls.alive = True
        self._thread = threading.Thread(target=self._run, name='gatekeeper', daemon=True)
        self._thread.start()

    def _open_descriptors(self) -> None:
        self._calls.open()
        # Never closed: another thread may be about to write to it.
        self._for_daemon = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._alarm = Alarm()
        self._clock = ClockWatch()
        self._selector = selectors.DefaultSelector()

    def stop(self, timeout: float = 2.0) -> None:
        """Say good-bye to the peers and end the thread; idempotent."""
        if self._thread is None:
            return
        self._stopping = True
        self._calls.post(lambda now: None)
        self._thread.join(timeout)
        self._thread = None
        self._backend.stop()

    # --- what the daemon asks -------------------------------------------------------------------

    def configure(self, policies: Sequence[SessionPolicy]) -> None:
        """The whole new set of sessions. Returns when the deny keys of all are in place.

        Raises PolicyError or GatekeeperError; then the old set stays in force.
        """
        self._calls.call(lambda now: self._configure(tuple(policies), now))

    def add_listener(self, sock: socket.socket) -> None:
        """A bound socket that is about to listen, or listens: guard it. Raises GatekeeperError;
        then it must not listen."""
        descriptor = sock.fileno()
        try:
            duplicate = sock.dup()
        except OSError as error:
            raise GatekeeperError(f'cannot protect the listening socket: {error}') from None

        def add(now: float) -> None:
            self._listeners.add(descriptor, duplicate, self._core.state.policies.values())

        try:
            self._calls.call(add)
        except BaseException:
            duplicate.close()
            raise

    def drop_listener(self, sock: socket.socket) -> None:
        """The daemon is about to close this listening socket."""
        descriptor = sock.fileno()
        self._calls.call(lambda now: self._listeners.drop(descriptor))

    def request(self, session_key: str, pair: SocketPair) -> Ticket:
        """A socket for `pair` is bound, closed, and known to the daemon's installer. When the
        ticket is done without error the MKT is on it: connect within 10 s."""
        return self._ticket(
            pair, lambda ticket, now: self._core.open(session_key, pair, ticket, now)
        )

    def prove(self, session_key: str | None, pair: SocketPair) -> Ticket:
        """TCP is up on `pair` and nothing was sent. Done without error: the socket is protected
        by the key that was negotiated for it, and belongs to `ticket.session_key`."""
        return self._ticket(pair, lambda ticket, now: self._core.prove(pair, ticket, now))

    def up(self, pair: SocketPair) -> None:
        """The routing protocol has the proven connection."""
        self._calls.post(lambda now: self._core.handle(ConnectionUp(pair), now))

    def gone(self, pair: SocketPair) -> None:
        """The socket of `pair` is closed, or never came up."""
        self._calls.post(lambda now: self._core.handle(ConnectionGone(pair), now))

    def snapshot(self) -> list[dict[str, object]]:
        """Rows for `show`. Raises GatekeeperError."""
        return [row | {'backend_why': self._backend.why} for row in self._calls.call(self._look)]

    def counted(self) -> dict[str, object]:
        """The backend for `show`: which, why, and its counters. Raises GatekeeperError."""
        try:
            counters = asdict(self._backend.counters())
        except (InstallError, OSError) as error:
            raise GatekeeperError(f'the {self.backend} backend does not answer: {error}') from None
        return {'backend': self._backend.name, 'backend_why': self._backend.why} | counters

    def _ticket(self, pair: SocketPair, work: Callable[[Ticket, float], None]) -> Ticket:
        ticket = Ticket(lambda: self._calls.post(lambda now: self._core.cancel(pair, ticket, now)))

        def begin(now: float) -> None:
            self._waiting.add(ticket)
            work(ticket, now)

        self._calls.post(
            begin, lambda cause: ticket.fail(GateError(f'{cause}: restart the daemon'))
        )
        return ticket

    # --- the thread that owns the connections ---------------------------------------------------

    def connection_installer(self) -> SocketInstaller[socket.socket]:
        """For the thread that owns the connections; the gatekeeper's own is for listeners."""
        return self._backend.connection_installer()

    @property
    def backend(self) -> str:
        """Which backend protects connections, and why this one."""
        return f'{self._backend.name}, since {self._backend.why}'

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the backend's start has found, for the log."""
        return self._backend.remarks()

    def fileno(self) -> int:
        """Readable when commands wait or a ticket was settled."""
        return self._for_daemon

    def take_commands(self) -> list[Command]:
        """What is to be done on connections, oldest first."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._for_daemon)
        taken = []
        while True:
            try:
                taken.append(self._commands.get_nowait())
            except Empty:
                return taken

    def post(self, event: Event) -> None:
        """What came of a command."""
        self._calls.post(lambda now: self._core.handle(event, now))

    # --- the gatekeeper's thread ----------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
            self._end('the gatekeeper was stopped')
        except BaseException as error:
            place = extract_tb(error.__traceback__)[-1]
            self._died(f'the gatekeeper died: {error!r} in {place.name}, line {place.lineno}')
        finally:
            self._udp.close()
            self._listeners.close()
            self._selector.close()
            self._alarm.close()
            self._clock.close()

    def _loop(self) -> None:
        ends = (self._backend.fileno(), self._backend.refusals_fileno())
        for descriptor in (self._calls, self._alarm, self._clock, *ends):
            if descriptor is not None:
                self._selector.register(descriptor, selectors.EVENT_READ)
        while not self._stopping:
            self._alarm.set(self._core.next_timer())
            self._selector.select()
            self._turn()
        self._step(self._core.stop, boottime())
        self._flush(boottime())
        self._part(boottime() + PARTING_WITHIN)

    def _part(self, until: float) -> None:
        """Sessions that have just ended are being deleted; the IKE SAs come after them."""
        for descriptor in (self._calls, self._backend.refusals_fileno()):
            if descriptor is not None:
                self._selector.unregister(descriptor)
        while self._core.part(self._udp.receive(), now := boottime()) and now < until:
            self._flush(now)
            self._alarm.set(min(until, self._core.endpoint.next_timer() or until))
            self._selector.select()
            self._alarm.clear()
            self._clock.clear()
            if self._backend.died is not None:
                break
        self._flush(boottime())

    def _turn(self) -> None:
        died = self._backend.died
        if died is not None:
            raise GatekeeperError(f'the {self._backend.name} backend is dead: {died}')
        self._alarm.clear()
        self._clock.clear()
        self._calls.clear()
        wall, now = both_clocks()
        self._core.set_clock(wall, now)
        for work in self._calls.take():
            self._step(work, now)
            # What it wants is done before the next one asks how things stand.
            self._obey(now)
        for datagram in self._udp.receive():
            self._step(partial(self._core.receive_datagram, datagram), now)
        for refusal in self._backend.refusals():
            self._step(partial(self._core.syn_dropped, refusal), now)
        self._step(self._core.handle_timer, now)
        self._flush(now)

    def _step(self, step: Callable[[float], None], now: float) -> None:
        """A step of the core. Its events bear the time before it: what it settles, the daemon's
        thread may act upon, and tell, before this one goes on."""
        stamp = time.time()
        step(now)
        for note in self._core.take_notes():
            self._records.append(
                OperatorEvent(stamp, self._router, note.session, note.event, note.details)
            )

    def _obey(self, now: float) -> None:
        """Carry out the core's commands, until there are no more."""
        while commands := self._core.take_commands():
            for command in commands:
                if is_for_listeners(command):
                    self._installer.submit(command)
                else:
                    self._commands.put(command)
                    os.eventfd_write(self._for_daemon, 1)
            for event in self._installer.events():
                self._step(partial(self._core.handle, event), now)

    def _flush(self, now: float) -> None:
        """Carry out, send and tell what the core wants."""
        self._obey(now)
        for policy, opener, mkt in self._core.take_keyed():
            if self._key_table is not None:
                self._key_table(policy, opener, mkt)
        for datagram in self._core.datagrams_to_send():
            self._udp.send(datagram)
        records, self._records = self._records, []
        for record in records:
            self._record(record)
        settled = {ticket for ticket in self._waiting if ticket.done}
        if settled:
            self._waiting -= settled
            os.eventfd_write(self._for_daemon, 1)

    def _died(self, cause: str) -> None:
        """Fail closed: every session goes down, and nothing new is granted."""
        for pair in list(self._core.state.connections):
            self._commands.put(Abort(pair, cause))
        self._end(cause)
        self._record(
            OperatorEvent(time.time(), self._router, None, EventName.REFUSED, {'cause': cause})
        )

    def _end(self, cause: str) -> None:
        """Nobody waits in vain."""
        self._calls.end(cause)
        for ticket in self._waiting:
            ticket.fail(GateError(f'{cause}: restart the daemon'))
        os.eventfd_write(self._for_daemon, 1)

    # --- what the daemon asks for, on this thread -------------------------------------------------

    def _configure(self, policies: tuple[SessionPolicy, ...], now: float) -> None:
        check(policies)
        check_suites(policies, self.capabilities)
        if any(policy.pad is not None for policy in policies):
            try:
                self._udp.open(self._selector)
            except UdpError as error:
                cause = f'{error}; exabgp.ikev2.port chooses other ports'
                raise GatekeeperError(cause) from None
        added = self._listeners.guard(policies)
        try:
            self._core.configure(policies, now)
        except PolicyError:
            self._listeners.unguard(added)
            raise
        self._listeners.keep(policies)
        self._backend.loaded(frozenset(policy.remote for policy in policies))

    def _look(self, now: float) -> list[dict[str, object]]:
        try:
            return show.snapshot(self._core.state, now)
        except Exception as error:
            # Who only looks takes nothing down.
            raise GatekeeperError(f'internal error: {error!r}') from error


def _without_thread(calls: Mailbox | None) -> None:
    """In a forked child, which has no thread but the one that forked."""
    if calls is not None:
        calls.alive = False

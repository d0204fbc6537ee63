"""The gatekeeper's interface for adapters: calls from any thread, commands for one thread.

A routing daemon closes and reuses descriptors on its own thread, so only that thread touches
connections: their commands wait in a queue until that thread takes them. Listening sockets are
handed over as dup()ed descriptors that only the gatekeeper's thread changes.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict
from functools import partial

from gatekeeper.clock import boottime
from gatekeeper.errors import BusyError, GateError, GatekeeperError
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.adapter_names import AdapterNames
from gatekeeper.reporting.events import OperatorEvent
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.service.command_queue import CommandQueue
from gatekeeper.service.loop import Loop, Settings
from gatekeeper.service.mailbox import Mailbox, wait_for, without_thread
from gatekeeper.state.selection import Operation, Selection
from gatekeeper.state.ticket import Ticket
from ikev2.limits import KeyLog
from tcpao.backend import Backend, BackendError
from tcpao.backend_choice import choose
from tcpao.installer import (
    Capabilities,
    Command,
    ConnectionGone,
    ConnectionUp,
    Event,
    Installer,
)
from tcpao.key_socket import InstallError
from tcpao.mkt import Mkt, SocketPair
from tcpao.second_net.client import SecondNet

__all__ = ['Gatekeeper', 'GatekeeperError']


class Gatekeeper:
    """The gatekeeper for a routing protocol's adapter.

    Methods may be called from any thread, except `fileno`, `take_commands` and `post`: only from
    the thread that owns the connections.
    """

    def __init__(
        self,
        *,
        router: str,
        ike_ports: tuple[int, int] = (500, 4500),
        record: Callable[[OperatorEvent], None],
        backend: Backend | None = None,
        key_table: Callable[[SessionPolicy, bool, Mkt], None] | None = None,
        ike_key_log: KeyLog | None = None,
        names: AdapterNames | None = None,
        net: SecondNet | None = None,
    ) -> None:
        """Prepare a gatekeeper. `backend` protects the connections; without one the kernel is
        asked.

        `record` and `key_table` are called on the gatekeeper's thread; `key_table` only for a demo
        or debug run: it gets the policy, whether we open the connection, and the MKT. `ike_key_log`
        likewise gets the keys of every IKE SA. `names` are filled into the hints. `net` is the
        second net, beneath the backend; there may be none.
        """
        self._settings = Settings(
            router=router,
            ike_ports=ike_ports,
            record=record,
            key_table=key_table,
            ike_key_log=ike_key_log,
            names=names or AdapterNames(),
            net=net or SecondNet(),
        )
        self._net = net
        self._backend = backend or choose()
        self._calls = Mailbox()
        self._commands = CommandQueue()
        self._thread: threading.Thread | None = None
        self._late: tuple[tuple[SessionPolicy, ...], Future[None]] | None = None
        """The last `reconfigure` that did not finish in time."""

    @property
    def alive(self) -> bool:
        """Return False before start, after stop, when the thread died, and in a forked child."""
        return self._calls.alive

    # --- start and end --------------------------------------------------------------------------

    def start(self) -> None:
        """Start the backend, which needs privileges, and the thread.

        Raises GatekeeperError; then nothing is left behind. UDP sockets are opened with the first
        session that negotiates.
        """
        try:
            self._backend.start()
        except BackendError as error:
            raise GatekeeperError(f'no neighbor can be protected here: {error}') from None
        if self._net is not None:
            self._net.start()
        try:
            self._calls.open()
            self._commands.open()
            self._loop = Loop(self._settings, self._backend, self._calls, self._commands)
        except OSError as error:
            self._stop_backend()
            raise GatekeeperError(f'cannot start: {error}') from None
        reference = weakref.ref(self._calls)
        os.register_at_fork(after_in_child=lambda: without_thread(reference()))
        self._calls.alive = True
        self._thread = threading.Thread(target=self._loop.run, name='gatekeeper', daemon=True)
        self._thread.start()

    def _stop_backend(self) -> None:
        """Stop the backend, when no session is left.

        The second net ends last, since it must cover the rest.
        """
        self._backend.stop()
        if self._net is not None:
            self._net.stop()

    @property
    def capabilities(self) -> Capabilities:
        """Return the capabilities of the backend."""
        return self._loop.capabilities

    def stop(self, timeout: float = 2.0) -> None:
        """End all sessions with the peers, then the thread; a second call changes nothing."""
        if self._thread is None:
            return
        self._loop.stopping = True
        self._calls.post(lambda now: None)
        self._thread.join(timeout)
        self._thread = None
        self._stop_backend()

    # --- requests of the daemon -----------------------------------------------------------------

    def configure(self, policies: Sequence[SessionPolicy]) -> None:
        """Put the whole new set of sessions in force; returns when the deny keys of all are in
        place.

        Raises PolicyError or GatekeeperError; then the old set stays in force.
        """
        self._calls.call(partial(self._loop.configure, tuple(policies)))

    def reconfigure(self, policies: Sequence[SessionPolicy], within: float) -> None:
        """Put a new set of sessions in force as `configure`, in at most `within` seconds.

        For a thread that has other sessions to serve. Raises BusyError too: then the old set is in
        force, and deny keys of the new set may stay until the next call, or until `withdraw`.
        """
        until = time.monotonic() + within
        wanted = tuple(policies)
        late, self._late = self._late, None
        if late is not None and late[0] == wanted and late[1].done():
            # The result of an earlier call that came too late: its error is reported now.
            late[1].result()
        prepared = self._calls.ask(partial(self._loop.prepare, wanted))
        try:
            prepared.result(within)
        except TimeoutError:
            self._late = wanted, prepared
            raise BusyError(prepared) from None
        in_force: Future[None] = Future()
        done = self._calls.ask(
            partial(self._loop.configure, wanted, in_force=lambda: in_force.set_result(None))
        )
        try:
            done.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            if done.cancel():
                raise BusyError(self._calls.ask(lambda now: None)) from None
            # It has begun, and asks no other process anything until the set is in force.
            wait((done, in_force), return_when=FIRST_COMPLETED)
        if not in_force.done():
            done.result()

    def withdraw(self) -> None:
        """Remove deny keys of a `reconfigure` that will not be repeated."""
        self._calls.post(self._loop.withdraw)

    def add_listener(self, sock: socket.socket) -> None:
        """Guard a bound socket that is about to listen, or listens.

        Raises GatekeeperError; then it must not listen.
        """
        wait_for(self.guard_listener(sock))

    def guard_listener(self, sock: socket.socket) -> Future[None]:
        """Guard a bound socket as `add_listener`, without waiting.

        The socket must not listen before the future is done. Raises GatekeeperError.
        """
        descriptor = sock.fileno()
        try:
            duplicate = sock.dup()
        except OSError as error:
            raise GatekeeperError(f'cannot protect the listening socket: {error}') from None

        def add(now: float) -> None:
            self._loop.listeners.add(descriptor, duplicate, self._loop.core.state.policies.values())

        def added(future: Future[None]) -> None:
            if future.cancelled() or future.exception() is not None:
                duplicate.close()

        future = self._calls.ask(add)
        future.add_done_callback(added)
        return future

    def drop_listener(self, sock: socket.socket) -> Future[None]:
        """Forget a listening socket that the daemon is about to close, once the future is done."""
        descriptor = sock.fileno()
        return self._calls.ask(lambda now: self._loop.listeners.drop(descriptor))

    def request(self, session_key: str, pair: SocketPair) -> Ticket:
        """Request a key for `pair`: its socket is bound, closed, and known to the daemon's
        installer.

        When the ticket is done without error the MKT is on the socket: connect within 10 s.
        """
        return self._ticket(
            pair, lambda ticket, now: self._loop.core.open(session_key, pair, ticket, now)
        )

    def prove(self, session_key: str | None, pair: SocketPair) -> Ticket:
        """Prove the connection `pair`: TCP is up and nothing was sent.

        If done without error, the socket is protected by the key that was negotiated for it, and
        belongs to `ticket.session_key`.
        """
        return self._ticket(pair, lambda ticket, now: self._loop.core.prove(pair, ticket, now))

    def up(self, pair: SocketPair) -> None:
        """Note that the routing protocol has the proven connection."""
        self._calls.post(lambda now: self._loop.core.handle(ConnectionUp(pair), now))

    def gone(self, pair: SocketPair) -> None:
        """Note that the socket of `pair` is closed, or never came up."""
        self._calls.post(lambda now: self._loop.core.handle(ConnectionGone(pair), now))

    def attempt_failed(self, session_key: str, why: Explanation) -> None:
        """Note that the daemon could not open this session's connection, for a reason of its
        own.
        """
        self._calls.post(lambda now: self._loop.core.attempt_failed(session_key, why))

    def session_ended(self, session_key: str, notification: str) -> None:
        """Note that the routing protocol has ended a session, with this text for operators."""
        self._calls.post(lambda now: self._loop.core.session_ended(session_key, notification))

    def operate(self, operation: Operation, selection: Selection) -> Future[str]:
        """Rekey, revoke, drain, or undo; the future has the result's text, or GatekeeperError."""
        return self._calls.ask(lambda now: self._loop.core.operate(operation, selection, now).text)

    def look(self) -> Future[list[dict[str, object]]]:
        """Ask for the rows of `show`; the future has them, or GatekeeperError."""
        why = {'backend_why': self._backend.why}
        return self._calls.ask(lambda now: [row | why for row in self._loop.look(now)])

    def key_table(self) -> Future[list[dict[str, object]]]:
        """Return the rows of the crypto key table (RFC 7210), without keys."""
        return self._calls.ask(self._loop.key_table)

    def snapshot(self) -> list[dict[str, object]]:
        """Return the rows of `show`, for a thread that may wait. Raises GatekeeperError."""
        return wait_for(self.look())

    def counted(self) -> dict[str, object]:
        """Return the backend for `show`: name, reason, and counters. Raises GatekeeperError."""
        try:
            counters = asdict(self._backend.counters())
        except (InstallError, OSError) as error:
            raise GatekeeperError(f'the {self.backend} backend does not answer: {error}') from None
        net = self._net.counters() if self._net is not None else {}
        # Unsigned segments that the second net drops never reach the backend.
        counters['required_but_missing'] += net.get('dropped_in', 0)
        named = {f'second_net_{name}': number for name, number in net.items()}
        return {'backend': self._backend.name, 'backend_why': self._backend.why} | counters | named

    def _ticket(self, pair: SocketPair, work: Callable[[Ticket, float], None]) -> Ticket:
        ticket = Ticket(
            lambda: self._calls.post(lambda now: self._loop.core.cancel(pair, ticket, now))
        )

        def begin(now: float) -> None:
            self._loop.expect(ticket)
            work(ticket, now)

        self._calls.post(
            begin, lambda cause: ticket.fail(GateError(f'{cause}: restart the daemon'))
        )
        return ticket

    # --- the thread that owns the connections ---------------------------------------------------

    def connection_installer(self) -> Installer[socket.socket]:
        """Return the installer for the thread that owns the connections; the listeners' is
        separate.
        """
        return self._backend.background_installer()

    @property
    def backend(self) -> str:
        """Return the name of the backend, and the reason for it."""
        return f'{self._backend.name}, since {self._backend.why}'

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return remarks of the backend's start, for the log."""
        return self._backend.remarks()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the settings of this host that will prevent connections, for the log."""
        if self._net is None or self._net.missing is None:
            return self._backend.warnings()
        return (*self._backend.warnings(), f'there is no second net here: {self._net.missing}')

    def fileno(self) -> int:
        """Return a descriptor that is readable when commands wait or a ticket was settled."""
        return self._commands.fileno()

    def is_settled(self) -> bool:
        """Return True if connections may be read and written now.

        All deadlines so far were acted upon, and `take_commands` would return nothing.
        """
        return self._commands.is_settled(boottime())

    def take_commands(self) -> list[Command]:
        """Return the commands for connections, oldest first."""
        return self._commands.take()

    def post(self, event: Event) -> None:
        """Report the result of a command."""
        self._calls.post(lambda now: self._loop.core.handle(event, now))

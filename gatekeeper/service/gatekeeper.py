"""The gatekeeper as its adapter sees it: calls from any thread, commands for one.

A routing daemon closes and reuses descriptors on its own thread, so only that thread touches
connections: their commands wait in a queue until it drains them. Listening sockets are handed over
as dup()ed descriptors that only the gatekeeper's thread changes.
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
from gatekeeper.service.mailbox import Mailbox, wait_for
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
)
from tcpao.key_socket import InstallError
from tcpao.mkt import Mkt, SocketPair
from tcpao.second_net.client import SecondNet
from tcpao.socket_installer import SocketInstaller

__all__ = ['Gatekeeper', 'GatekeeperError']


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
        names: AdapterNames | None = None,
        net: SecondNet | None = None,
    ) -> None:
        """`backend` protects the connections; without one the kernel is asked (tcpao.backend).

        `record` and `key_table` are called on the gatekeeper's thread; `key_table` only for
        a demo or debug run: it gets the policy, whether we open the connection, and the MKT.
        `ike_key_log` likewise: it gets the keys of every IKE SA. `names` stand in the hints.
        `net` is the second net, beneath what protects connections; there may be none."""
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
        """What `reconfigure` has not waited for."""

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
        os.register_at_fork(after_in_child=lambda: _without_thread(reference()))
        self._calls.alive = True
        self._thread = threading.Thread(target=self._loop.run, name='gatekeeper', daemon=True)
        self._thread.start()

    def _stop_backend(self) -> None:
        """No session is left. The net goes last, since nothing else is in its way then."""
        self._backend.stop()
        if self._net is not None:
            self._net.stop()

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can do."""
        return self._loop.capabilities

    def stop(self, timeout: float = 2.0) -> None:
        """Say good-bye to the peers and end the thread; idempotent."""
        if self._thread is None:
            return
        self._loop.stopping = True
        self._calls.post(lambda now: None)
        self._thread.join(timeout)
        self._thread = None
        self._stop_backend()

    # --- what the daemon asks -------------------------------------------------------------------

    def configure(self, policies: Sequence[SessionPolicy]) -> None:
        """The whole new set of sessions. Returns when the deny keys of all are in place.

        Raises PolicyError or GatekeeperError; then the old set stays in force.
        """
        self._calls.call(partial(self._loop.configure, tuple(policies)))

    def reconfigure(self, policies: Sequence[SessionPolicy], within: float) -> None:
        """As `configure`, in at most `within` seconds, for a thread that has other sessions to
        serve. Raises BusyError too: then the old set is in force, and deny keys of the new one
        may stay until the next call of this, or of `withdraw`."""
        until = time.monotonic() + within
        wanted = tuple(policies)
        late, self._late = self._late, None
        if late is not None and late[0] == wanted and late[1].done():
            # What came of it when nobody waited any more: why it can't be is told this time.
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
            # It has begun, and asks nobody anything before they are in force.
            wait((done, in_force), return_when=FIRST_COMPLETED)
        if not in_force.done():
            done.result()

    def withdraw(self) -> None:
        """What `reconfigure` was asked for will not come: the deny keys for it go."""
        self._calls.post(self._loop.withdraw)

    def add_listener(self, sock: socket.socket) -> None:
        """A bound socket that is about to listen, or listens: guard it. Raises GatekeeperError;
        then it must not listen."""
        wait_for(self.guard_listener(sock))

    def guard_listener(self, sock: socket.socket) -> Future[None]:
        """As `add_listener`, for who can't wait: it must not listen before this is done. Raises
        GatekeeperError."""
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
        """The daemon is about to close this listening socket; it is free once this is done."""
        descriptor = sock.fileno()
        return self._calls.ask(lambda now: self._loop.listeners.drop(descriptor))

    def request(self, session_key: str, pair: SocketPair) -> Ticket:
        """A socket for `pair` is bound, closed, and known to the daemon's installer. When the
        ticket is done without error the MKT is on it: connect within 10 s."""
        return self._ticket(
            pair, lambda ticket, now: self._loop.core.open(session_key, pair, ticket, now)
        )

    def prove(self, session_key: str | None, pair: SocketPair) -> Ticket:
        """TCP is up on `pair` and nothing was sent. Done without error: the socket is protected
        by the key that was negotiated for it, and belongs to `ticket.session_key`."""
        return self._ticket(pair, lambda ticket, now: self._loop.core.prove(pair, ticket, now))

    def up(self, pair: SocketPair) -> None:
        """The routing protocol has the proven connection."""
        self._calls.post(lambda now: self._loop.core.handle(ConnectionUp(pair), now))

    def gone(self, pair: SocketPair) -> None:
        """The socket of `pair` is closed, or never came up."""
        self._calls.post(lambda now: self._loop.core.handle(ConnectionGone(pair), now))

    def attempt_failed(self, session_key: str, why: Explanation) -> None:
        """The daemon could not open this session's connection, for a reason of its own."""
        self._calls.post(lambda now: self._loop.core.attempt_failed(session_key, why))

    def session_ended(self, session_key: str, notification: str) -> None:
        """The routing protocol has ended a session: with these words, for operators."""
        self._calls.post(lambda now: self._loop.core.session_ended(session_key, notification))

    def operate(self, operation: Operation, selection: Selection) -> Future[str]:
        """Rekey, revoke, drain, or take back; the future has what it did, or GatekeeperError."""
        return self._calls.ask(lambda now: self._loop.core.operate(operation, selection, now).text)

    def look(self) -> Future[list[dict[str, object]]]:
        """Rows for `show`, or GatekeeperError."""
        why = {'backend_why': self._backend.why}
        return self._calls.ask(lambda now: [row | why for row in self._loop.look(now)])

    def snapshot(self) -> list[dict[str, object]]:
        """As `look`, for who may wait. Raises GatekeeperError."""
        return wait_for(self.look())

    def counted(self) -> dict[str, object]:
        """The backend for `show`: which, why, and its counters. Raises GatekeeperError."""
        try:
            counters = asdict(self._backend.counters())
        except (InstallError, OSError) as error:
            raise GatekeeperError(f'the {self.backend} backend does not answer: {error}') from None
        net = self._net.counters() if self._net is not None else {}
        # Unsigned segments that the net drops are never seen by what protects connections.
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

    def connection_installer(self) -> SocketInstaller[socket.socket]:
        """For the thread that owns the connections; the gatekeeper's own is for listeners."""
        return self._backend.background_installer()

    @property
    def backend(self) -> str:
        """Which backend protects connections, and why this one."""
        return f'{self._backend.name}, since {self._backend.why}'

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the backend's start has found, for the log."""
        return self._backend.remarks()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Settings of this host that will keep connections out, for the log."""
        if self._net is None or self._net.missing is None:
            return self._backend.warnings()
        return (*self._backend.warnings(), f'there is no second net here: {self._net.missing}')

    def fileno(self) -> int:
        """Readable when commands wait or a ticket was settled."""
        return self._commands.fileno()

    def is_settled(self) -> bool:
        """Return True if connections may be read and written now: no deadline has come that was
        not acted upon, and `take_commands` would return nothing."""
        return self._commands.is_settled(boottime())

    def take_commands(self) -> list[Command]:
        """What is to be done on connections, oldest first."""
        return self._commands.take()

    def post(self, event: Event) -> None:
        """What came of a command."""
        self._calls.post(lambda now: self._loop.core.handle(event, now))


def _without_thread(calls: Mailbox | None) -> None:
    """In a forked child, which has no thread but the one that forked."""
    if calls is not None:
        calls.alive = False

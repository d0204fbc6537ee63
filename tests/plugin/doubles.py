"""A gatekeeper that grants what the test tells it to, and an ExaBGP daemon turned by hand."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from threading import Timer
from typing import Any

from exabgp.configuration.configuration import Configuration
from exabgp.reactor.loop import Reactor
from exabgp.reactor.peer import ACTION

from gatekeeper.errors import BusyError, GateError, PolicyError
from gatekeeper.policy.algorithm_support import check_suites
from gatekeeper.policy.sessions import PadEntry, SessionId, SessionPolicy
from gatekeeper.reporting.events import OperatorEvent
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.service.gatekeeper import Gatekeeper, GatekeeperError
from gatekeeper.state.ticket import Ticket
from ikev2.authentication.auth import PresharedKey
from ikev2.authentication.identity import Identity
from keymaterial import Secret
from plugin.connections import runtime
from plugin.connections.runtime import Runtime
from plugin.log import Recorder
from tcpao.backend import Preference
from tcpao.installer import Capabilities, Command, Event
from tcpao.kernel.installer import LinuxInstaller
from tcpao.kernel.saved_syn import save_syns
from tcpao.mkt import ALGORITHMS, Mkt, SocketPair
from tests.plugin.peers import SECONDS


def an_mkt(pair: SocketPair) -> Mkt:
    return Mkt(
        identity=f'test {pair}',
        protects=pair,
        algorithm=ALGORITHMS['hmac-sha-1-96'],
        tcp_options=True,
        send_id=1,
        recv_id=17,
        master_key=Secret(bytes(range(20))),
        not_after=0.0,
    )


def a_policy() -> SessionPolicy:
    shared = PresharedKey(Secret(b'x'))
    return SessionPolicy(
        key='k',
        neighbor='10.0.0.2',
        session=SessionId('bgp', 'ipv4 unicast', ((1, 1),)),
        local=ip_address('10.0.0.1'),
        remote=ip_address('10.0.0.2'),
        connect_port=179,
        listen_port=None,
        pad=PadEntry(Identity.parse('fqdn', 'a'), Identity.parse('fqdn', 'b'), shared, shared),
    )


class Asked:
    """A request or a proof that was asked for."""

    def __init__(self, session_key: str | None, pair: SocketPair, wake: Callable[[], None]) -> None:
        self.session_key = session_key
        self.pair = pair
        self.cancelled = False
        self.ticket = Ticket(self._cancel)
        self._wake = wake
        self.tell: Callable[[str | None, str], None] = lambda key, text: None

    def _cancel(self) -> None:
        self.cancelled = True

    def grant(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        assert key is not None
        self.ticket.settle(key, an_mkt(self.pair))
        self._wake()

    def refuse(self, text: str) -> None:
        self.tell(self.session_key, text)
        self.ticket.fail(GateError(text))
        self._wake()

    def grant_after(self, seconds: float) -> None:
        """From another thread, as the real one does."""
        Timer(seconds, self.grant).start()


class FakeGatekeeper(Gatekeeper):
    """The gatekeeper's face; nothing behind it but what the test says."""

    capabilities = Capabilities('kernel', frozenset(ALGORITHMS), False, False)

    def __init__(self) -> None:
        self.records: list[OperatorEvent] = []
        super().__init__(router='test', record=self.records.append)
        self._calls.alive = True
        self._wake_daemon = os.eventfd(0, os.EFD_NONBLOCK)
        self.requests: list[Asked] = []
        self.proofs: list[Asked] = []
        self.is_gone: list[SocketPair] = []
        self.is_up: list[SocketPair] = []
        self.posted: list[Event] = []
        self.failures: list[str] = []
        """What the adapter told of its own attempts."""
        self.notifications: list[str] = []
        self.recorder: Recorder | None = None
        self.log: list[str] = []
        self.policies: list[SessionPolicy] = []
        self.grants_after: float | None = None
        """Seconds after which everything is granted by itself."""
        self.cleared_after: list[list[str]] = []
        """What it had been told whenever the daemon cleared what is left of a packet process."""
        self.refuse_policies: str | None = None
        self.refuse_listeners: str | None = None
        self.busy: Future[None] | None = None
        """What a load waits for."""
        self.withdrawn = 0
        self.guarded: Future[None] | None = None
        """What a listener waits for."""
        self.settled = True
        """False while a deadline waits that was not acted upon."""
        self._waiting_commands: list[Command] = []

    def start(self) -> None:
        self.log.append('start')

    def stop(self, timeout: float = 2.0) -> None:
        self.log.append('stop')
        self._calls.alive = False

    def configure(self, policies: Sequence[SessionPolicy]) -> None:
        if self.refuse_policies is not None:
            raise PolicyError(self.refuse_policies)
        check_suites(policies, self.capabilities)
        self.policies = list(policies)
        self.log.append('configure')

    def reconfigure(self, policies: Sequence[SessionPolicy], within: float) -> None:
        if self.busy is not None:
            raise BusyError(self.busy)
        self.configure(policies)

    def withdraw(self) -> None:
        self.withdrawn += 1

    def clear(self) -> None:
        self.cleared_after.append(list(self.log))

    def guard_listener(self, sock: socket.socket) -> Future[None]:
        guarded: Future[None] = Future()
        if self.refuse_listeners is not None:
            guarded.set_exception(GatekeeperError(self.refuse_listeners))
            return guarded
        save_syns(sock)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        state = 'listening' if listening else 'bound'
        self.log.append(f'add_listener {sock.getsockname()[1]} {state}')
        if self.guarded is not None:
            return self.guarded
        guarded.set_result(None)
        return guarded

    def drop_listener(self, sock: socket.socket) -> Future[None]:
        self.log.append(f'drop_listener {sock.getsockname()[1]}')
        dropped: Future[None] = Future()
        dropped.set_result(None)
        return dropped

    def request(self, session_key: str, pair: SocketPair) -> Ticket:
        asked = Asked(session_key, pair, self.wake)
        asked.tell = self.tell
        self.requests.append(asked)
        if self.grants_after is not None:
            asked.grant_after(self.grants_after)
        return asked.ticket

    def prove(self, session_key: str | None, pair: SocketPair) -> Ticket:
        asked = Asked(session_key, pair, self.wake)
        asked.tell = self.tell
        self.proofs.append(asked)
        if self.grants_after is not None:
            asked.grant_after(self.grants_after)
        return asked.ticket

    def gone(self, pair: SocketPair) -> None:
        self.is_gone.append(pair)

    def up(self, pair: SocketPair) -> None:
        self.is_up.append(pair)

    def attempt_failed(self, session_key: str, why: Explanation) -> None:
        self.failures.append(f'{why}; {why.hint}')
        self.tell(session_key, self.failures[-1])

    def tell(self, session_key: str | None, text: str) -> None:
        """Report a failure as the real gatekeeper's events are reported."""
        for policy in self.policies:
            if policy.key == session_key and self.recorder is not None:
                name = f'neighbor {policy.neighbor} session {policy.session.name}: '
                self.recorder.tell(policy.neighbor, policy.session.name, text.removeprefix(name))

    def session_ended(self, session_key: str, notification: str) -> None:
        self.notifications.append(notification)

    def look(self) -> Future[list[dict[str, object]]]:
        rows: Future[list[dict[str, object]]] = Future()
        rows.set_result([{'neighbor': policy.neighbor} for policy in self.policies])
        return rows

    def counted(self) -> dict[str, object]:
        return {'backend': 'userspace', 'backend_why': 'it was asked for', 'good': 7, 'bad': 2}

    def fileno(self) -> int:
        return self._wake_daemon

    def wake(self) -> None:
        os.eventfd_write(self._wake_daemon, 1)

    def command(self, command: Command) -> None:
        self._waiting_commands.append(command)
        self.wake()

    def take_commands(self) -> list[Command]:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_daemon)
        taken, self._waiting_commands = self._waiting_commands, []
        return taken

    def is_settled(self) -> bool:
        return self.settled and not self._waiting_commands

    def post(self, event: Event) -> None:
        self.posted.append(event)


class Processes:
    """ExaBGP's helper processes: none; what is written to them is kept."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.fds: list[int] = []

    def write(self, service: str, text: str) -> None:
        text.encode('ascii')
        self.written.append(text)

    def received(self) -> list[Any]:
        return []

    def __getattr__(self, name: str) -> Callable[..., bool]:
        return lambda *arguments, **named: False


class Daemon:
    """A real Reactor, brought to where its loop begins, and turned by hand."""

    def __init__(self, path: Path, gatekeeper: FakeGatekeeper) -> None:
        self.path = path
        self.gatekeeper = gatekeeper
        self.configuration = Configuration([str(path)])
        self.reactor = Reactor(self.configuration)
        self.processes = Processes()
        self.reactor.processes = self.processes
        self._at_once = False

    def starter(self, reactor: Any, preference: Preference) -> Runtime:
        self.gatekeeper.start()
        self.gatekeeper.recorder = Recorder('test')
        return Runtime(reactor, self.gatekeeper, LinuxInstaller(), self.gatekeeper.recorder)

    @property
    def runtime(self) -> Runtime:
        running = runtime.of(self.reactor)
        assert running is not None
        return running

    def begin(self) -> bool:
        """Do what Reactor.run does before its loop."""
        for ip in self.reactor._ips:
            self.reactor.listener.listen_on(ip, None, self.reactor._port, None, False, None)
        if not self.reactor.reload():
            return False
        # From 5.0.14 on the reload has done it already, and this changes nothing.
        for one in self.configuration.neighbors.values():
            if one['listen']:
                self.reactor.listener.listen_on(
                    one['md5-ip'], one['peer-address'], one['listen'], None, False, None
                )
        return True

    def reload(self, text: str) -> bool:
        self.path.write_text(text)
        return bool(self.reactor.reload())

    def peer(self, family: str = '') -> Any:
        (found,) = [peer for key, peer in self.reactor._peers.items() if family in key]
        return found

    def turn(self) -> None:
        """One turn of Reactor.run's loop, in its order."""
        self.work()
        self.wait()

    def work(self) -> None:
        """Do what comes before the reactor sleeps."""
        reactor = self.reactor
        if reactor.listener.incoming():
            reactor.asynchronous.schedule('test', 'accept', reactor.listener.new_connections())
        self._at_once = False
        for key in reactor.active_peers():
            peer = reactor._peers[key]
            action = peer.run()
            if action == ACTION.CLOSE:
                del reactor._peers[key]
            elif action == ACTION.LATER and peer.socket() != -1:
                reactor._poller.register(peer.socket(), select.POLLIN)
            self._at_once |= action == ACTION.NOW
        reactor.asynchronous.run()

    def wait(self, milliseconds: float = 20) -> None:
        """The reactor's sleep, and what it wakes up for."""
        for _ in self.reactor._wait_for_io(0 if self._at_once else milliseconds):
            pass

    def until(self, what: Callable[[], object], sleep: float = 20) -> None:
        """Turn until it is so; `sleep` is as long as the reactor's, in milliseconds."""
        deadline = time.monotonic() + SECONDS
        self.work()
        while not what():
            assert time.monotonic() < deadline, 'it never happened'
            self.wait(sleep)
            self.work()

    def stop(self) -> None:
        if self.reactor.listener is not None:
            self.reactor.shutdown()

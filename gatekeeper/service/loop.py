"""The objects that only the gatekeeper's thread touches: the core, and the descriptors around it.

The thread sleeps until an input or a deadline; nothing is polled. It ends when it is told to, and
on an unexpected failure: then every connection is aborted.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from traceback import extract_tb

from gatekeeper.clock import Alarm, ClockWatch, boottime, both_clocks
from gatekeeper.engine.core import Core
from gatekeeper.errors import GateError, GatekeeperError, PolicyError
from gatekeeper.policy.algorithm_support import check_suites
from gatekeeper.policy.sessions import SessionPolicy, check
from gatekeeper.reporting.adapter_names import AdapterNames
from gatekeeper.reporting.events import EventName, OperatorEvent
from gatekeeper.service.command_queue import CommandQueue
from gatekeeper.service.ike_sockets import IkeSockets, UdpError
from gatekeeper.service.listeners import Listeners, is_for_listeners
from gatekeeper.service.mailbox import Mailbox
from gatekeeper.service.protected_services import ProtectedServices
from gatekeeper.state import key_table
from gatekeeper.state import snapshot as show
from gatekeeper.state.ticket import Ticket
from ikev2.limits import KeyLog
from tcpao.backend import Backend
from tcpao.installer import Abort
from tcpao.mkt import Mkt
from tcpao.second_net.client import SecondNet

PARTING_WITHIN = 1.0
"""Seconds that the end waits for the peers' answers; less than `stop` waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The adapter's settings for the gatekeeper; see Gatekeeper."""

    router: str
    ike_ports: tuple[int, int]
    record: Callable[[OperatorEvent], None]
    key_table: Callable[[SessionPolicy, bool, Mkt], None] | None
    ike_key_log: KeyLog | None
    net: SecondNet
    names: AdapterNames


class Loop:
    """The thread's work, from its start to its end."""

    def __init__(
        self, settings: Settings, backend: Backend, calls: Mailbox, commands: CommandQueue
    ) -> None:
        """Prepare the work; the backend is started.

        Raises OSError; then all of its own is closed.
        """
        self._settings = settings
        self._backend = backend
        self._calls = calls
        self._commands = commands
        self._installer = backend.listener_installer()
        self.capabilities = backend.capabilities()
        self._udp = IkeSockets(settings.ike_ports)
        self._alarm = Alarm()
        self._clock = ClockWatch()
        self._selector = selectors.DefaultSelector()
        self.listeners = Listeners(self._installer)
        self._services = ProtectedServices(settings.net, self._tell)
        self.core = Core(
            random=os.urandom,
            ike_ports=settings.ike_ports,
            algorithms=self.capabilities.algorithms,
            backend=self.capabilities.backend,
            ike_key_log=settings.ike_key_log,
            names=settings.names,
        )
        self._waiting: set[Ticket] = set()
        self._records: list[OperatorEvent] = []
        self.stopping = False

    def expect(self, ticket: Ticket) -> None:
        """Wake the daemon's thread once this ticket is settled."""
        self._waiting.add(ticket)

    def run(self) -> None:
        """Work until the end; never raises."""
        try:
            self._loop()
            self._end('the gatekeeper was stopped')
        except BaseException as error:
            place = extract_tb(error.__traceback__)[-1]
            self._died(f'the gatekeeper died: {error!r} in {place.name}, line {place.lineno}')
        finally:
            self._udp.close()
            self.listeners.close()
            self._selector.close()
            self._alarm.close()
            self._clock.close()

    def _loop(self) -> None:
        ends = (self._backend.fileno(), self._backend.refusals_fileno())
        for descriptor in (self._calls, self._alarm, self._clock, *ends):
            if descriptor is not None:
                self._selector.register(descriptor, selectors.EVENT_READ)
        net = self._settings.net.fileno()
        if net is not None:
            self._selector.register(net, selectors.EVENT_READ)
        while not self.stopping:
            due = self.core.next_timer()
            self._commands.expect(due)
            self._alarm.set(due)
            ready = {key.fd for key, _ in self._selector.select()}
            if net is not None and net in ready:
                self._selector.unregister(net)
                self._services.lose()
                net = None
            self._turn()
        if net is not None:
            self._selector.unregister(net)
        self._step(self.core.stop, boottime())
        self._flush(boottime())
        self._part(boottime() + PARTING_WITHIN)

    def _part(self, until: float) -> None:
        """Wait for the deletion of the sessions that have just ended, then of the IKE SAs."""
        for descriptor in (self._calls, self._backend.refusals_fileno()):
            if descriptor is not None:
                self._selector.unregister(descriptor)
        while self.core.part(self._udp.receive(), now := boottime()) and now < until:
            self._flush(now)
            self._alarm.set(min(until, self.core.endpoint.next_timer() or until))
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
        self.core.set_clock(wall, now)
        for work in self._calls.take():
            self._step(work, now)
            # Its commands are executed before the next call asks for the state.
            self._obey(now)
        for datagram in self._udp.receive():
            self._step(partial(self.core.receive_datagram, datagram), now)
        for refusal in self._backend.refusals():
            self._step(partial(self.core.syn_dropped, refusal), now)
        self._step(self.core.handle_timer, now)
        self._flush(now)

    def _step(self, step: Callable[[float], None], now: float) -> None:
        """Do a step of the core.

        Its events have the time before it: the daemon's thread may act upon its results, and
        report, before this thread goes on.
        """
        stamp = time.time()
        step(now)
        for note in self.core.take_notes():
            self._records.append(
                OperatorEvent(stamp, self._settings.router, note.session, note.event, note.details)
            )

    def _obey(self, now: float) -> None:
        """Execute the core's commands, until there are no more."""
        while commands := self.core.take_commands():
            for command in commands:
                if is_for_listeners(command):
                    self._installer.submit(command)
                else:
                    self._commands.put(command)
            for event in self._installer.events():
                self._step(partial(self.core.handle, event), now)

    def _flush(self, now: float) -> None:
        """Execute, send and report everything that the core has ready."""
        self._obey(now)
        for policy, opener, mkt in self.core.take_keyed():
            if self._settings.key_table is not None:
                self._settings.key_table(policy, opener, mkt)
        for datagram in self.core.datagrams_to_send():
            self._udp.send(datagram)
        for failure in self._udp.take_failures():
            self._step(partial(self.core.send_failed, failure), now)
        records, self._records = self._records, []
        for record in records:
            self._settings.record(record)
        settled = {ticket for ticket in self._waiting if ticket.done}
        if settled:
            self._waiting -= settled
            self._commands.wake()

    def _died(self, cause: str) -> None:
        """Fail closed: every session is aborted, and nothing new is granted."""
        for pair in list(self.core.state.connections):
            self._commands.put(Abort(pair, cause))
        self._end(cause)
        self._settings.record(
            OperatorEvent(
                time.time(), self._settings.router, None, EventName.REFUSED, {'cause': cause}
            )
        )

    def _end(self, cause: str) -> None:
        """Fail all waiting calls and tickets."""
        self._calls.end(cause)
        for ticket in self._waiting:
            ticket.fail(GateError(f'{cause}: restart the daemon'))
        self._commands.wake()

    def _tell(self, cause: str, hint: str) -> None:
        """Report a problem that does not concern a single neighbor to operators."""
        event = OperatorEvent(time.time(), self._settings.router, None, EventName.REFUSED)
        event.details.update(step='configuration', cause=cause, hint=hint)
        self._settings.record(event)

    # --- calls of the daemon --------------------------------------------------------------------

    def prepare(self, policies: tuple[SessionPolicy, ...], now: float) -> None:
        """Add the deny keys for policies that are about to come.

        Raises PolicyError or GatekeeperError; then none of them is added.
        """
        check(policies)
        check_suites(policies, self.capabilities)
        self.listeners.guard(policies)
        self._services.widen(policies)

    def withdraw(self, now: float) -> None:
        """Remove the deny keys of a prepared configuration that does not come."""
        in_force = tuple(self.core.state.policies.values())
        self.listeners.keep(in_force)
        self._services.keep(in_force)

    def configure(
        self,
        policies: tuple[SessionPolicy, ...],
        now: float,
        in_force: Callable[[], None] = lambda: None,
    ) -> None:
        """Put policies in force, and call `in_force` then, before any other process is asked.

        Raises PolicyError or GatekeeperError; then the old policies stay.
        """
        self.prepare(policies, now)
        try:
            self._open_udp(policies)
            self.core.configure(policies, now)
        except (GatekeeperError, PolicyError):
            self._calls.post(self.withdraw)
            raise
        in_force()
        # Keys that the new policies end are off the listening sockets when this returns: the kernel
        # accepts no TCP-MD5 key beside one.
        self._obey(now)
        self._udp.use_interfaces(policies)
        self.listeners.keep(policies)
        self._services.keep(policies)
        self._backend.loaded(frozenset(policy.remote for policy in policies))

    def _open_udp(self, policies: tuple[SessionPolicy, ...]) -> None:
        """Open the UDP sockets, if a session negotiates. Raises GatekeeperError."""
        if all(policy.pad is None for policy in policies):
            return
        try:
            self._udp.open(self._selector, policies)
        except UdpError as error:
            setting = self._settings.names.ike_port_setting
            raise GatekeeperError(f'{error}; {setting} chooses other ports') from None

    def look(self, now: float) -> list[dict[str, object]]:
        """Return the rows of every session. Raises GatekeeperError."""
        try:
            return show.snapshot(self.core.state, now)
        except Exception as error:
            # A failing `show` must not stop the gatekeeper.
            raise GatekeeperError(f'internal error: {error!r}') from error

    def key_table(self, now: float) -> list[dict[str, object]]:
        """Return the rows of the crypto key table, without keys. Raises GatekeeperError."""
        try:
            return [row.to_json() for row in key_table.rows(self.core.state, now)]
        except Exception as error:
            raise GatekeeperError(f'internal error: {error!r}') from error

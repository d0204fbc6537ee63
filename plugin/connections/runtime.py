"""What a daemon with gated neighbors has: the gatekeeper, the sockets, and their turn in ExaBGP's
loop. Everything here runs in the reactor's thread, the only one that touches connections.

The rooms: `gate` before connect(), `accepting` after accept(), `parting` after NOTIFICATION.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from inspect import GEN_CREATED, getgeneratorstate, isgenerator
from typing import Any

from exabgp.bgp.fsm import FSM
from exabgp.debug.report import format_exception
from exabgp.logger import log

from gatekeeper.adapter.closing import ClosingSockets
from gatekeeper.adapter.sockets import ProtectedSockets
from gatekeeper.adapter.wakeup import COMMANDS, INCOMING, Wakeup
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.ike_key_log import IkeKeyLog
from gatekeeper.reporting.keys_json import KeyTable
from gatekeeper.service.gatekeeper import Gatekeeper, GatekeeperError
from plugin.configuration.neighbors import protection_of
from plugin.connections import bgp_session as sessions
from plugin.connections.incoming import IncomingConnections
from plugin.log import LOG, Recorder
from tcpao.installer import Abort, Close, Command
from tcpao.mkt import SocketPair
from tcpao.socket_installer import SocketInstaller


class Runtime:
    """One per reactor, from the first gated neighbor on."""

    def __init__(
        self,
        reactor: Any,
        gatekeeper: Gatekeeper,
        installer: SocketInstaller[socket.socket],
        recorder: Recorder,
        secret_files: Sequence[KeyTable | IkeKeyLog] = (),
    ) -> None:
        self.reactor = reactor
        self.gatekeeper = gatekeeper
        self.installer = installer
        self.recorder = recorder
        self.secret_files = secret_files
        """For debugging, if the environment asks for them."""
        self.policies: dict[str, SessionPolicy] = {}
        self.failures: dict[str, str] = {}
        """Per session key: what its last attempt died of, for `show`."""
        self.waker = Wakeup()
        self.waker.watch(gatekeeper.fileno(), COMMANDS)
        self.links = ProtectedSockets(installer, self._gone, self.waker)
        self.parting = ClosingSockets(self.links, self.waker)
        self.accepting = IncomingConnections(self)
        self.again = False
        """True if the next turn should come at once."""
        self.stopped = False
        self._dead = False

    # --- policies and listeners -----------------------------------------------------------------

    def configure(self, policies: Sequence[SessionPolicy]) -> None:
        """Put policies in force: deny keys first. Raises PolicyError or GatekeeperError; then
        the old ones stay."""
        self.gatekeeper.configure(policies)
        self.recorder.reloaded()
        self.policies = {policy.key: policy for policy in policies}
        for key in set(self.failures) - set(self.policies):
            del self.failures[key]

    def guard(self, listener: socket.socket) -> None:
        """Deny keys for a bound socket, before listen() where that is still possible. Raises
        GatekeeperError; then it must not listen."""
        self.gatekeeper.add_listener(listener)

    def listens(self, listener: socket.socket) -> None:
        """The socket listens: wake for arrivals."""
        self.waker.watch(listener, INCOMING)

    def unguard(self, listener: socket.socket) -> None:
        """The socket is about to be closed."""
        self.waker.forget(listener)
        # A gatekeeper that died has closed its own descriptor of it.
        with suppress(GatekeeperError):
            self.gatekeeper.drop_listener(listener)

    # --- the reactor's turn ---------------------------------------------------------------------

    def bounded(self, sleep: float) -> float:
        """How long the reactor may sleep: milliseconds, at most `sleep`."""
        if self.again:
            self.again = False
            return 0
        now = time.monotonic()
        dues = [link.deadline - now for link in self.links if link.deadline is not None]
        wall = time.time()
        for peer in self.reactor._peers.values():
            due = _due(peer, wall)
            if due is not None:
                dues.append(due)
        if not dues:
            return sleep
        # Rounded up: a millisecond too early is a turn for nothing.
        return min(sleep, max(0.0, min(dues)) * 1000 + 1)

    def turn(self, woken: bool) -> None:
        """Carry out what the gatekeeper wants, hand back what came of it, settle what is due.

        `woken`: the waker was readable. It is for as long as a command waits.
        """
        try:
            if woken:
                self._obey()
            self._turn()
        except Exception as error:
            # Our fault must not take the neighbors down that aren't ours.
            report = format_exception(error)
            log.critical(lambda: report, LOG)
            self._fail_closed(f'internal error: {error!r}')

    def _obey(self) -> None:
        self.waker.clear()
        for command in self.gatekeeper.take_commands():
            self._run(command)

    def _turn(self) -> None:
        for event in self.installer.events():
            self.gatekeeper.post(event)
        if not self.gatekeeper.alive and not self._dead:
            self._dead = True
            self.waker.forget(self.gatekeeper.fileno())
            self._fail_closed('the gatekeeper is dead')
        self.accepting.settle()
        self.parting.settle()

    def _run(self, command: Command) -> None:
        match command:
            case Close(pair, cause):
                link = self.links.get(pair)
                if link is not None:
                    sessions.close(self, link, cause)
            case Abort(pair, cause):
                self.installer.submit(command)
                link = self.links.get(pair)
                if link is not None:
                    sessions.abort(self, link, cause)
            case _:
                self.installer.submit(command)

    def _fail_closed(self, cause: str) -> None:
        """Loudly: nothing can be proven now."""
        log.critical(
            lambda: f'{cause}: every neighbor with an ikev2 section goes down; restart the daemon',
            LOG,
        )
        for link in self.links:
            sessions.abort(self, link, cause)

    def _gone(self, pair: SocketPair) -> None:
        if self.gatekeeper.alive:
            self.gatekeeper.gone(pair)

    # --- the end --------------------------------------------------------------------------------

    def stop(self) -> None:
        """The daemon ends. Idempotent."""
        if self.stopped:
            return
        self.stopped = True
        self.parting.finish()
        for link in self.links:
            self.links.end(link, 'the daemon stops')
        self.gatekeeper.stop()
        with suppress(KeyError):
            self.reactor._poller.unregister(self.waker.fileno())
        self.waker.close()
        self.recorder.close()
        for file in self.secret_files:
            file.close()


def _due(peer: Any, wall: float) -> float | None:
    """Seconds until a gated peer must have a turn although no descriptor will wake for it."""
    if protection_of(peer.neighbor) is None:
        return None
    if peer.generator is None:
        idle = peer.fsm == FSM.ESTABLISHED or (peer.neighbor['passive'] and peer.proto is None)
        return None if idle else float(peer._delay._time - wall)
    if isgenerator(peer.generator) and getgeneratorstate(peer.generator) == GEN_CREATED:
        # ExaBGP goes through "a clean loop" before it begins.
        return 0
    return None


def of(reactor: Any) -> Runtime | None:
    """The reactor's runtime; None while it has had no gated neighbor."""
    found: Runtime | None = getattr(reactor, 'ikev2', None)
    return found

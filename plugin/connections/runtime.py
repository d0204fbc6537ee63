"""The runtime of a daemon with gated neighbors: the gatekeeper, the sockets, and their turn in
ExaBGP's loop.

Everything here runs in the reactor's thread, the only one that touches connections. `outgoing` is
the part before connect(), `incoming` the part after accept().
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from inspect import GEN_CREATED, getgeneratorstate, isgenerator
from typing import Any

from exabgp.bgp.fsm import FSM
from exabgp.debug.report import format_exception
from exabgp.logger import log

from gatekeeper.adapter.driver import Driver
from gatekeeper.adapter.sockets import ProtectedSocket
from gatekeeper.adapter.wakeup import INCOMING
from gatekeeper.policy.addresses import address_of
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.ike_key_log import IkeKeyLog
from gatekeeper.reporting.keys_json import KeyTable
from gatekeeper.service.gatekeeper import Gatekeeper
from plugin.connections import bgp_session as sessions
from plugin.connections.context import Context
from plugin.connections.incoming import IncomingConnections
from plugin.connections.peers import protection_in_force
from plugin.connections.waits import Waits
from plugin.log import LOG, Recorder
from tcpao.installer import Installer
from tcpao.mkt import IPAddress


class Runtime(Context):
    """The shared state, and the turns that use it."""

    def __init__(
        self,
        reactor: Any,
        gatekeeper: Gatekeeper,
        installer: Installer[socket.socket],
        recorder: Recorder,
        secret_files: Sequence[KeyTable | IkeKeyLog] = (),
    ) -> None:
        super().__init__(reactor, gatekeeper, recorder)
        self.secret_files = secret_files
        """Files of keys for debugging, if the environment names them."""
        self.drive(Driver(gatekeeper, installer, self))
        self.accepting = IncomingConnections(self)
        self.waits = Waits()
        self.stopped = False
        self._protected: set[IPAddress] = set()
        """Every address that was protected since the daemon's start."""

    # --- policies and listeners -----------------------------------------------------------------

    def configure(self, policies: Sequence[SessionPolicy]) -> None:
        """Put policies in force: deny keys first.

        Raises PolicyError or GatekeeperError (BusyError once the daemon runs); then the old ones
        stay.
        """
        if self.waits.is_running:
            with self.waits.waiting() as within:
                self.gatekeeper.reconfigure(policies, within)
        else:
            self.gatekeeper.configure(policies)
        self.recorder.reloaded()
        self.policies = {policy.key: policy for policy in policies}
        self._protected |= self.guarded()
        self.pinned_ports.keep(
            {(one.local, one.source_port) for one in policies if one.source_port is not None}
        )

    def guarded(self) -> set[IPAddress]:
        """Return the addresses that are protected."""
        return {policy.remote for policy in self.policies.values()}

    def was_protected(self, peer: Any) -> bool:
        """Return True if the peer's address is protected, or was since the daemon's start."""
        return address_of(peer.neighbor['peer-address']) in self._protected

    def guard(self, listener: socket.socket, guarded: Callable[[], None]) -> None:
        """Add the deny keys to a bound socket, if possible before listen(), then call `guarded`.

        In a later turn if that takes long. Raises GatekeeperError; then it must not listen.
        """
        self.waits.finish(self.gatekeeper.guard_listener(listener), guarded)

    def listens(self, listener: socket.socket) -> None:
        """Wake for arrivals on a listening socket."""
        self.waker.watch(listener, INCOMING)

    def unguard(self, listener: socket.socket) -> None:
        """Forget a socket that is about to be closed."""
        self.waker.forget(listener)
        if not self.waits.is_over(self.gatekeeper.drop_listener(listener)):
            # The gatekeeper closes its own descriptor of it later.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RD)

    # --- the reactor's turn ---------------------------------------------------------------------

    def bounded(self, sleep: float) -> float:
        """Return how long the reactor may sleep: milliseconds, at most `sleep`."""
        if self.again:
            self.again = False
            return 0
        looked_at = [_due(peer) for peer in self.reactor._peers.values()]
        looked_at.append(self.driver.due(time.monotonic()))
        dues = [due for due in looked_at if due is not None]
        if not dues:
            return sleep
        # Rounded up: waking a millisecond too early is a turn without effect.
        return min(sleep, max(0.0, min(dues)) * 1000 + 1)

    def turn(self, woken: bool) -> None:
        """Do what is due; `woken`: the wakeup was readable."""
        self.driver.turn(woken)
        self.waits.settle()

    def settle(self) -> None:
        """Hand proven incoming connections to BGP."""
        self.accepting.settle()

    def close(self, link: ProtectedSocket, cause: str) -> None:
        """End BGP on a socket."""
        sessions.close(self, link, cause)

    def abort(self, link: ProtectedSocket, cause: str) -> None:
        """End a socket, and BGP on it, without an octet."""
        sessions.abort(self, link, cause)

    def report_failure(self, cause: str, error: Exception | None) -> None:
        """Log that nothing can be proven any more."""
        if error is not None:
            report = format_exception(error)
            log.critical(lambda: report, LOG)
        log.critical(
            lambda: f'{cause}: every neighbor with an ikev2 section goes down; restart the daemon',
            LOG,
        )

    # --- the end --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop, with the daemon; a second call changes nothing."""
        if self.stopped:
            return
        self.stopped = True
        waker = self.waker.fileno()
        self.driver.stop()
        self.pinned_ports.close()
        with suppress(KeyError):
            self.reactor._poller.unregister(waker)
        self.recorder.close()
        for file in self.secret_files:
            file.close()


def _due(peer: Any) -> float | None:
    """Return seconds until a gated peer needs a turn without any descriptor that wakes it."""
    if protection_in_force(peer) is None:
        return None
    if peer.generator is None:
        idle = peer.fsm == FSM.ESTABLISHED or (peer.neighbor['passive'] and peer.proto is None)
        return None if idle else float(peer._delay.remaining())
    if isgenerator(peer.generator) and getgeneratorstate(peer.generator) == GEN_CREATED:
        # ExaBGP does a turn of its loop before it begins.
        return 0
    return None


def of(reactor: Any) -> Runtime | None:
    """Return the reactor's runtime; None while it has had no gated neighbor."""
    found: Runtime | None = getattr(reactor, 'ikev2', None)
    return found

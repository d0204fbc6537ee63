"""A turn of a routing daemon's loop: the gatekeeper's commands go to its connections.

Executes the commands, posts their results, wakes the daemon's thread, closes sockets, and ends
every protected connection when the gatekeeper can't prove anything any more. Runs in the thread
that owns the connections.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol

from gatekeeper.adapter.closing import ClosingSockets
from gatekeeper.adapter.sockets import ProtectedSocket, ProtectedSockets
from gatekeeper.adapter.wakeup import COMMANDS, Wakeup
from gatekeeper.clock import LATE, boottime
from tcpao.installer import Abort, Close, Command, Event, Installer, Remove
from tcpao.mkt import SocketPair

CLOSE_UNPROVEN_AFTER = 15.0
"""Seconds after which a socket that was not proven is closed, whatever the gatekeeper does. Its own
limit, PROOF_WITHIN, has the better explanation and is shorter."""


class CommandSource(Protocol):
    """The part of the gatekeeper that the driver needs."""

    @property
    def alive(self) -> bool:
        """Return False once nothing can be proven any more."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while commands wait."""

    def take_commands(self) -> Sequence[Command]:
        """Return the commands for connections, oldest first."""

    def is_settled(self) -> bool:
        """Return True if all deadlines so far were acted upon, and no command waits."""

    def post(self, event: Event) -> None:
        """Take the result of a command."""

    def gone(self, pair: SocketPair) -> None:
        """Take note that a socket is closed."""

    def stop(self) -> None:
        """Stop the gatekeeper."""


class Daemon(Protocol):
    """The adapter's operations in its routing protocol."""

    def close(self, link: ProtectedSocket, cause: str) -> None:
        """End the session over this socket as the protocol ends one, then close the socket."""

    def abort(self, link: ProtectedSocket, cause: str) -> None:
        """Close this socket now, without an octet."""

    def settle(self) -> None:
        """Handle other things that wait for the gatekeeper, in every turn."""

    def report_failure(self, cause: str, error: Exception | None) -> None:
        """Report to an operator that every protected connection is about to be aborted."""


class Driver:
    """The driver of one daemon."""

    def __init__(
        self,
        gatekeeper: CommandSource,
        installer: Installer[socket.socket],
        daemon: Daemon,
    ) -> None:
        self._gatekeeper = gatekeeper
        self._installer = installer
        self._daemon = daemon
        self.wakeup = Wakeup()
        self.wakeup.watch(gatekeeper.fileno(), COMMANDS)
        answers = installer.fileno()
        if answers is not None:
            self.wakeup.watch(answers, COMMANDS)
        self.sockets = ProtectedSockets(installer, self._gone, self.wakeup)
        self.closing = ClosingSockets(self.sockets, self.wakeup)
        self._dead = False

    def due(self, now: float) -> float | None:
        """Return seconds until the next deadline of a socket; None if there is none."""
        deadlines = [link.deadline for link in self.sockets if link.deadline is not None]
        return min(deadlines) - now if deadlines else None

    def turn(self, woken: bool) -> None:
        """Execute the gatekeeper's commands, return their results, settle what is due.

        `woken`: the wakeup was readable, as it is while a command waits.
        """
        try:
            if woken:
                self.wakeup.clear()
                for command in self._gatekeeper.take_commands():
                    self._run(command)
            for event in self._installer.events():
                self._gatekeeper.post(event)
            if not self._gatekeeper.alive and not self._dead:
                self._dead = True
                self.wakeup.forget(self._gatekeeper.fileno())
                self._fail_closed('the gatekeeper is dead', None)
            self._daemon.settle()
            self.closing.settle()
        except Exception as error:
            # A bug of ours must not end the sessions of unprotected neighbors.
            self._fail_closed(f'internal error: {error!r}', error)

    def may_use(self) -> bool:
        """Return True if a protected socket may be read or written now.

        Ask before each time: a key may have ended while this process was paused. A False becomes
        True, or the socket is aborted, within a turn or two.
        """
        return self._gatekeeper.alive and self._gatekeeper.is_settled()

    def stop(self) -> None:
        """End all sockets, and the gatekeeper, with the daemon."""
        self.closing.finish()
        for link in self.sockets:
            self.sockets.end(link, 'the daemon stops')
        self._gatekeeper.stop()
        self.wakeup.close()

    def _run(self, command: Command) -> None:
        if not isinstance(command, Close):
            self._installer.submit(command)
        if isinstance(command, Remove) and boottime() - command.mkt.not_after > LATE:
            # Segments since then may be signed under the ended key; a key of a listener has no such
            # socket.
            command = Abort(command.mkt.pair, 'an ended key was taken off too late')
        if isinstance(command, Close | Abort):
            link = self.sockets.get(command.pair)
            if link is not None:
                end = self._daemon.close if isinstance(command, Close) else self._daemon.abort
                end(link, command.cause)

    def _fail_closed(self, cause: str, error: Exception | None) -> None:
        self._daemon.report_failure(cause, error)
        for link in self.sockets:
            self._daemon.abort(link, cause)

    def _gone(self, pair: SocketPair) -> None:
        if self._gatekeeper.alive:
            self._gatekeeper.gone(pair)

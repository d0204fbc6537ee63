"""Hooks of ExaBGP's connections, listeners and main loop.

Each hook is a few lines that call the other folders. Without a gated neighbor each of them does the
same as upstream.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from errno import EAGAIN
from typing import Any

from exabgp.bgp.message import Notification, Notify
from exabgp.bgp.message.open.capability import Capability
from exabgp.protocol.family import AFI, SAFI
from exabgp.reactor import peer as peer_module
from exabgp.reactor.listener import Listener
from exabgp.reactor.loop import Reactor
from exabgp.reactor.network import outgoing as outgoing_module
from exabgp.reactor.network.connection import Connection
from exabgp.reactor.network.error import NetworkError, NotConnected
from exabgp.reactor.network.outgoing import Outgoing
from exabgp.reactor.protocol import Protocol

from gatekeeper.reporting.events import EventName
from gatekeeper.service.gatekeeper import GatekeeperError
from plugin.configuration.neighbors import protection_of
from plugin.connections import bgp_session as sessions
from plugin.connections import outgoing as gate
from plugin.connections import runtime
from plugin.connections.peers import protection_in_force
from plugin.patching import replace, wrap
from plugin.reactor import deferred_reload, listeners

ACCEPTED_IN_A_TURN = 32
"""Connections of each listener, as long as none is for a plain neighbor, whom upstream serves."""
LONG_QUEUE = 4096
"""Connections that wait on a listening socket, half-open ones too: what net.core.somaxconn permits
by default."""
UNSUPPORTED_CAPABILITY = (2, 7)

# --- connections --------------------------------------------------------------------------------


class GatedProtocol(Protocol):
    """ExaBGP's Protocol with a connection that knows its peer."""

    @property
    def connection(self) -> Any:
        return self._connection

    @connection.setter
    def connection(self, connection: Any) -> None:
        self._connection = connection
        if connection is not None:
            connection.ikev2_peer = self.peer


def _establish(original: Any, self: Any) -> Any:
    peer = getattr(self, 'ikev2_peer', None)
    if peer is None:
        return original(self)
    running = runtime.of(peer.reactor)
    protection = protection_in_force(peer)
    if (protection is None) != (protection_of(peer.neighbor) is None):
        raise NotConnected('the neighbor has changed: the next attempt goes by the new definition')
    if protection is None:
        if running is not None and running.was_protected(peer):
            return gate.establish_repeatedly(original, self)
        return original(self)
    if running is None:
        raise NotConnected('the neighbor is gated, and there is no gatekeeper')
    return gate.establish(running, self, peer)


def _close(original: Any, self: Any) -> None:
    if getattr(self, 'ikev2', None) is None:
        original(self)
    else:
        sessions.closed(self)


def _reader(original: Any, self: Any, number: int) -> Any:
    return _in_time(self, original(self, number), b'')


def _writer(original: Any, self: Any, data: bytes) -> Any:
    return _in_time(self, original(self, data), False)


def _in_time(connection: Any, steps: Iterator[Any], nothing: object) -> Iterator[Any]:
    """Yield the steps of upstream's generator; `nothing` while a past deadline was not acted upon.

    Each step may read or write. A step other than `nothing` is the last: all is read, or written.
    Upstream uses the last value, so nothing may follow it.
    """
    while True:
        ours = getattr(connection, 'ikev2', None)
        if ours is not None and not ours[0].driver.may_use():
            yield nothing
            continue
        try:
            step = next(steps)
        except StopIteration:
            return
        yield step
        if step:
            return


def _close_protocol(original: Any, self: Any, reason: str = 'no reason given') -> None:
    ours = getattr(self.connection, 'ikev2', None)
    if ours is not None:
        # Upstream's own line comes from the close() that isn't called, and has no reason.
        running, link = ours
        sessions.tell_end(running, link, reason)
    original(self, reason)


def _reset(original: Any, self: Any, message: str = '', error: Any = '') -> Any:
    running = runtime.of(self.reactor)
    if running is not None and isinstance(error, Notification):
        # A Notify is a NOTIFICATION of ours.
        way = 'sent' if isinstance(error, Notify) else 'received'
        text = f'NOTIFICATION {way} ({error.code}/{error.subcode}): {error}'
        running.gatekeeper.session_ended(self.neighbor.name(), text)
    return original(self, message, error)


def _new_notification(original: Any, self: Any, notification: Any) -> Any:
    if getattr(self.connection, 'ikev2', None) is not None:
        sessions.notification_sent(self.connection, notification.code)
    return original(self, notification)


def _new_open(original: Any, self: Any) -> Iterator[Any]:
    yield from original(self)
    _note(self, EventName.OPEN, sent=True)


def _validate_open(original: Any, self: Any) -> None:
    """Check that the OPEN is for the session that was negotiated in IKE."""
    original(self)
    if protection_of(self.neighbor) is None:
        return
    capabilities = self.negotiated.received_open.capabilities
    advertised = capabilities.get(Capability.CODE.MULTIPROTOCOL, [(AFI.ipv4, SAFI.unicast)])
    if {tuple(family) for family in advertised} != {*self.neighbor.families()}:
        cause = "the families in the peer's OPEN are not the session's"
        hint = 'compare the family blocks, and multi-session, of both ends'
        _note(self, EventName.REFUSED, step='open', cause=cause, hint=hint)
        raise Notify(*UNSUPPORTED_CAPABILITY, cause)


def _note(protocol: Any, event: EventName, **details: str | bool) -> None:
    running = runtime.of(protocol.peer.reactor)
    policy = running.policies.get(protocol.neighbor.name()) if running is not None else None
    if running is not None and policy is not None:
        running.recorder.note(policy, event, **details)


# --- listeners ----------------------------------------------------------------------------------


class GuardedListener(socket.socket):
    """A listening socket that has its deny keys before it listens."""

    reactor: Any = None
    backlog: tuple[Any, ...] = ()
    listens = False

    def listen(self, *arguments: Any) -> None:
        self.backlog = arguments
        if listeners.may_listen(self.reactor):
            self.begin_listening()

    def begin_listening(self) -> None:
        """Listen once there are deny keys. Raises NetworkError if there can be none, or OSError."""
        running = runtime.of(self.reactor)
        if running is None:
            self._listen()
            return
        try:
            running.guard(self, self._listen)
        except GatekeeperError as error:
            raise NetworkError(f'{self.getsockname()} may not listen: {error}') from None

    def _listen(self) -> None:
        if self.fileno() == -1:
            # Closed while it waited.
            return
        self._listen_long()
        self.listens = True
        running = runtime.of(self.reactor)
        if running is not None:
            running.listens(self)

    def _listen_long(self) -> None:
        """Listen, with a long queue where a neighbor is protected: the kernel answers with SYN
        cookies once it is full, and connections that are made from them are refused.
        """
        if runtime.of(self.reactor) is None:
            super().listen(*self.backlog)
        else:
            super().listen(LONG_QUEUE)

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.listens:
            raise BlockingIOError(EAGAIN, 'the socket does not listen yet')
        return super().accept()

    def forget_half_open(self) -> None:
        """Drop half-open connections, and those not accepted yet, and go on listening.

        The kernel ends them when a socket stops listening (tcp_disconnect()).
        """
        if self.listens:
            self.shutdown(socket.SHUT_RD)
            self._listen_long()

    def close(self) -> None:
        running = runtime.of(self.reactor)
        if running is not None and self.fileno() != -1:
            running.unguard(self)
        super().close()


def _new_socket(original: Any, self: Any, ip: Any) -> Any:
    made = original(self, ip)
    listener = GuardedListener(made.family, made.type, made.proto, made.detach())
    listener.reactor = self._reactor
    return listener


def _incoming(original: Any, self: Any) -> Any:
    running = runtime.of(self._reactor)
    if running is None:
        return original(self)
    accepted = False
    for _ in range(ACCEPTED_IN_A_TURN):
        # One connection of each listener, and unknown hosts may fill the queue first.
        accepted = original(self)
        # Not only the new ones: upstream can leave some of the last turn.
        if self._accepted:
            running.accepting.take(self._accepted)
        if not accepted or self._accepted:
            break
    if accepted:
        # There may be more.
        running.again = True
    return bool(self._accepted)


# --- the main loop ------------------------------------------------------------------------------


def _wait_for_io(original: Any, self: Any, sleep: Any) -> Iterator[Any]:
    running = runtime.of(self)
    if running is None or running.stopped:
        yield from original(self, sleep)
        deferred_reload.resume(self)
        return
    waker = running.waker.fileno()
    woken = False
    self._poller.register(waker, select.POLLIN)
    # A busy daemon has one turn for each message: compute the sleep only if it will sleep.
    may_sleep = sleep and not self._poller.poll(0)
    for descriptor in original(self, running.bounded(sleep) if may_sleep else 0):
        if descriptor == waker:
            woken = True
        else:
            yield descriptor
    if not running.stopped:
        running.turn(woken)
    deferred_reload.resume(self)


def install() -> None:
    """Patch ExaBGP's reactor and network."""
    replace(peer_module, 'Protocol', GatedProtocol)
    wrap(outgoing_module, 'bind', gate.bind)
    wrap(Outgoing, 'establish', _establish)
    wrap(Connection, 'close', _close)
    wrap(Connection, '_reader', _reader)
    wrap(Connection, 'writer', _writer)
    wrap(Protocol, 'close', _close_protocol)
    wrap(peer_module.Peer, '_reset', _reset)
    wrap(Protocol, 'new_notification', _new_notification)
    wrap(Protocol, 'new_open', _new_open)
    wrap(Protocol, 'validate_open', _validate_open)
    wrap(Listener, '_new_socket', _new_socket)
    wrap(Listener, 'incoming', _incoming)
    wrap(Reactor, '_wait_for_io', _wait_for_io)

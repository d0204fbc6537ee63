"""The start and end of BGP on a socket: the gatekeeper's Close and Abort in ExaBGP's terms.

ExaBGP's Peer and Connection are only changed here and by the hooks in `plugin.reactor.hooks`.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import Any

from exabgp.bgp.fsm import FSM
from exabgp.bgp.message import Notify
from exabgp.bgp.message.open.capability import Capability
from exabgp.logger import log
from exabgp.reactor.network.error import NetworkError

from gatekeeper.adapter.sockets import ProtectedSocket, abort_on_close
from gatekeeper.reporting.events import EventName
from plugin.connections.context import Context
from plugin.log import LOG

CEASE = 6
ADMINISTRATIVE_SHUTDOWN = 2
ADMINISTRATIVE_RESET = 4
HOLD_TIMER_EXPIRED = 4

_WRITES = 4
"""Turns for a NOTIFICATION's generator: more than it needs on a socket that accepts data."""


def abort(runtime: Context, link: ProtectedSocket, cause: str) -> None:
    """Close the socket now, without an octet; if BGP has it, BGP restarts after its delay."""
    peer, connection = link.peer, link.connection
    if connection is not None:
        tell_end(runtime, link, f'aborted: {cause}')
        _forget(runtime, connection)
    runtime.links.end(link, cause)
    if connection is not None:
        _reset(peer, connection, cause)


def close(runtime: Context, link: ProtectedSocket, cause: str) -> None:
    """End the session with NOTIFICATION Cease; a socket that BGP does not have yet is just
    closed.
    """
    peer, connection = link.peer, link.connection
    if connection is None:
        runtime.links.end(link, cause)
        return
    log.warning(lambda: f'{named(runtime, link)}: closing with Cease: {cause}', LOG)
    if peer.fsm == FSM.ESTABLISHED:
        # Its next turn, which comes at once, sends the NOTIFICATION and closes.
        peer.teardown(ADMINISTRATIVE_RESET)
        return
    if not runtime.driver.may_use():
        # The command has waited while this process was paused, and the key may have ended since.
        abort(runtime, link, cause)
        return
    with suppress(OSError):
        link.sock.send(Notify(CEASE, ADMINISTRATIVE_RESET).message())
    link.notification_sent = True
    _reset(peer, connection, cause)


def send_shutdown_notifications(runtime: Context) -> None:
    """Send NOTIFICATION Cease on every session when the daemon stops, before ExaBGP closes them.

    Not where graceful restart was announced: then the peer shall keep our routes.
    """
    if not runtime.driver.may_use():
        # After a pause: nothing may be signed under a key that may have ended.
        return
    for link in runtime.links:
        if link.connection is None or _restarts_gracefully(link.peer):
            continue
        link.notification_sent = True
        with suppress(OSError):
            link.sock.send(Notify(CEASE, ADMINISTRATIVE_SHUTDOWN).message())


def _restarts_gracefully(peer: Any) -> bool:
    sent = peer.proto.negotiated.sent_open if peer.proto is not None else None
    graceful = Capability.CODE.GRACEFUL_RESTART
    return bool(sent is not None and sent.capabilities.announced(graceful))


def end_unprotected_session(reactor: Any, peer: Any) -> None:
    """End an open session, or an attempt, whose neighbor is protected from now on, without an
    octet.

    Upstream would send KEEPALIVE or NOTIFICATION first.
    """
    connection = make_abrupt(peer)
    if connection is not None:
        _unwatch(reactor, connection.io)
    peer._reset('the neighbor is protected from now on')
    peer._delay.reset()


def make_abrupt(peer: Any) -> Any:
    """Make an unprotected peer's connection end with a RST; return it, or None without a socket."""
    connection = peer.proto.connection if peer.proto is not None else None
    if connection is None or connection.io is None:
        return None
    with suppress(OSError):
        abort_on_close(connection.io)
    return connection


def hand_to_bgp(runtime: Context, link: ProtectedSocket, connection: Any, peer: Any) -> None:
    """Give the proven socket to ExaBGP's connection."""
    link.deadline = None
    link.connection, link.peer = connection, peer
    connection.ikev2 = (runtime, link)
    runtime.gatekeeper.up(link.pair)


def tell_end(runtime: Context, link: ProtectedSocket, cause: str) -> None:
    """Report that BGP loses its connection."""
    link.end_reported = True
    policy = runtime.policies.get(link.session_key or '')
    if policy is not None:
        runtime.recorder.note(policy, EventName.END, pair=str(link.pair), cause=cause)


def closed(connection: Any) -> None:
    """Close the socket of a connection that ExaBGP closes."""
    runtime, link = connection.ikev2
    if not link.end_reported:
        # Upstream closes before it gives the reason, when the socket itself fails.
        tell_end(runtime, link, 'the connection was lost')
    _forget(runtime, connection)
    if link.ended is not None:
        return
    if link.notification_sent:
        runtime.closing.begin(link)
    else:
        runtime.links.end(link, 'closed by BGP')


def notification_sent(connection: Any, code: int) -> None:
    """Note a NOTIFICATION as the last message, unless the hold timer expired: then no peer reads
    it.
    """
    link: ProtectedSocket = connection.ikev2[1]
    link.notification_sent = code != HOLD_TIMER_EXPIRED


def deny(runtime: Context, link: ProtectedSocket, connection: Any, notification: Any) -> None:
    """Send a NOTIFICATION on a proven connection that BGP refuses, and close it.

    Upstream drops the generator that would have sent it.
    """
    connection.ikev2 = (runtime, link)
    link.notification_sent = True
    with suppress(NetworkError):
        for _ in islice(notification, _WRITES):
            pass
    # Its socket was ready to write and empty: if the message was not sent now, it never will be.
    connection.close()


def named(runtime: Context, link: ProtectedSocket) -> str:
    """Return `neighbor 10.0.0.2 session ipv4 unicast`, for a log line."""
    policy = runtime.policies.get(link.session_key or '')
    if policy is None:
        return f'connection {link.pair}'
    return f'neighbor {policy.neighbor} session {policy.session.name}'


def _forget(runtime: Context, connection: Any) -> None:
    """Remove the open socket from ExaBGP's connection, whose poll set would never forget it."""
    if connection.io is not None:
        _unwatch(runtime.reactor, connection.io)
    connection.io = None
    connection.ikev2 = None


def _unwatch(reactor: Any, sock: Any) -> None:
    if sock.fileno() != -1:
        with suppress(KeyError):
            reactor._poller.unregister(sock.fileno())


def _reset(peer: Any, connection: Any, cause: str) -> None:
    if peer.proto is not None and peer.proto.connection is connection:
        peer._reset('ended by the gatekeeper', cause)

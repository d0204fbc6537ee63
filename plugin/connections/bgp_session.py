"""Ending and starting BGP on a link: what the gatekeeper's Close and Abort mean to ExaBGP.

ExaBGP's Peer and Connection are only touched from here and from the hooks in
`plugin.reactor.hooks`.
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
"""Turns that a NOTIFICATION's generator gets: more than it needs on a socket that takes it."""


def abort(runtime: Context, link: ProtectedSocket, cause: str) -> None:
    """Close the socket now, without an octet; BGP, if it has it, starts anew after its delay."""
    peer, connection = link.peer, link.connection
    if connection is not None:
        tell_end(runtime, link, f'aborted: {cause}')
        _forget(runtime, connection)
    runtime.links.end(link, cause)
    if connection is not None:
        _reset(peer, connection, cause)


def close(runtime: Context, link: ProtectedSocket, cause: str) -> None:
    """End the session with NOTIFICATION Cease; a socket that BGP doesn't have yet just ends."""
    peer, connection = link.peer, link.connection
    if connection is None:
        runtime.links.end(link, cause)
        return
    log.warning(lambda: f'{named(runtime, link)}: closing with Cease: {cause}', LOG)
    if peer.fsm == FSM.ESTABLISHED:
        # Its next turn, which comes at once, sends the NOTIFICATION and closes.
        peer.teardown(ADMINISTRATIVE_RESET)
        return
    with suppress(OSError):
        link.sock.send(Notify(CEASE, ADMINISTRATIVE_RESET).message())
    link.notification_sent = True
    _reset(peer, connection, cause)


def send_shutdown_notifications(runtime: Context) -> None:
    """The daemon stops: NOTIFICATION Cease on every session, before ExaBGP, which would just
    close, closes them. Where graceful restart was announced the peer is to keep our routes."""
    if not runtime.driver.may_use():
        # After a pause: nothing is signed under a key that may have ended.
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
    """An open session, or an attempt at one, whose neighbor is protected from now on: it ends
    here, without an octet. Upstream would send KEEPALIVE or NOTIFICATION first."""
    connection = make_abrupt(peer)
    if connection is not None:
        _unwatch(reactor, connection.io)
    peer._reset('the neighbor is protected from now on')
    peer._delay.reset()


def make_abrupt(peer: Any) -> Any:
    """An unprotected peer's connection, if it has a socket, that will now end with a RST."""
    connection = peer.proto.connection if peer.proto is not None else None
    if connection is None or connection.io is None:
        return None
    with suppress(OSError):
        abort_on_close(connection.io)
    return connection


def hand_to_bgp(runtime: Context, link: ProtectedSocket, connection: Any, peer: Any) -> None:
    """From here on ExaBGP's connection has the proven socket."""
    link.deadline = None
    link.connection, link.peer = connection, peer
    connection.ikev2 = (runtime, link)
    runtime.gatekeeper.up(link.pair)


def tell_end(runtime: Context, link: ProtectedSocket, cause: str) -> None:
    """BGP loses its connection."""
    link.end_reported = True
    policy = runtime.policies.get(link.session_key or '')
    if policy is not None:
        runtime.recorder.note(policy, EventName.END, pair=str(link.pair), cause=cause)


def closed(connection: Any) -> None:
    """ExaBGP closes a connection that has one of our sockets."""
    runtime, link = connection.ikev2
    if not link.end_reported:
        # Upstream closes before it says why, when the socket itself fails.
        tell_end(runtime, link, 'the connection was lost')
    _forget(runtime, connection)
    if link.ended is not None:
        return
    if link.notification_sent:
        runtime.parting.begin(link)
    else:
        runtime.links.end(link, 'closed by BGP')


def notification_sent(connection: Any, code: int) -> None:
    """A NOTIFICATION is about to be the last message; when the hold timer expired nobody reads."""
    link: ProtectedSocket = connection.ikev2[1]
    link.notification_sent = code != HOLD_TIMER_EXPIRED


def deny(runtime: Context, link: ProtectedSocket, connection: Any, notification: Any) -> None:
    """A proven connection that BGP has no use for: the NOTIFICATION, then the end.

    Upstream drops the generator that would have sent it.
    """
    connection.ikev2 = (runtime, link)
    link.notification_sent = True
    with suppress(NetworkError):
        for _ in islice(notification, _WRITES):
            pass
    # Its socket was ready to write and empty: if the message didn't go, it never will.
    connection.close()


def named(runtime: Context, link: ProtectedSocket) -> str:
    """`neighbor 10.0.0.2 session ipv4 unicast`, for a log line."""
    policy = runtime.policies.get(link.session_key or '')
    if policy is None:
        return f'connection {link.pair}'
    return f'neighbor {policy.neighbor} session {policy.session.name}'


def _forget(runtime: Context, connection: Any) -> None:
    """Take the socket, still open, out of ExaBGP's hands: its poll set would never forget it,
    and spin."""
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

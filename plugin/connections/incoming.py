"""After accept(): a socket from a gated peer's address is kept here until it is proven.

ExaBGP doesn't see it before, so no octet leaves on it, not even a NOTIFICATION. Once proven, it
goes to the session that its key was negotiated for; otherwise it is aborted.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any

from exabgp.bgp.fsm import FSM
from exabgp.logger import log
from exabgp.protocol.family import AFI
from exabgp.reactor import listener as module
from exabgp.reactor.api.processes import ProcessError
from exabgp.reactor.network.error import NetworkError
from exabgp.reactor.network.incoming import Incoming

from gatekeeper.adapter.driver import CLOSE_UNPROVEN_AFTER
from gatekeeper.adapter.sockets import ProtectedSocket, abort_on_close, pair_of
from gatekeeper.policy.addresses import address_of
from gatekeeper.reporting.events import EventName, OperatorEvent
from gatekeeper.state.ticket import Ticket
from plugin.connections import bgp_session as sessions
from plugin.connections import hop_limits
from plugin.connections.context import Context
from plugin.log import LOG
from tcpao.key_socket import InstallError
from tcpao.mkt import IPAddress, SocketPair

MOST_HELD = 64
"""Unproven sockets at a time: keys and counters are read in milliseconds."""

UNKNOWN_TOLD_EVERY = 1.0
"""Seconds between two reports of connections from unknown addresses: there may be hundreds a
second."""

_COLLISION = (6, 7)


@dataclass(eq=False, slots=True)
class UnprovenSocket:
    """An accepted socket that waits for its proof."""

    link: ProtectedSocket
    ticket: Ticket


class IncomingConnections:
    """All accepted sockets that are not proven yet."""

    def __init__(self, runtime: Context) -> None:
        self._runtime = runtime
        self._held: list[UnprovenSocket] = []
        self._silent_until = 0.0

    def take(self, accepted: dict[Any, socket.socket]) -> None:
        """Take the gated peers' sockets out of ExaBGP's new connections."""
        gated = {policy.remote for policy in self._runtime.policies.values()}
        for listener, sock in list(accepted.items()):
            try:
                remote = address_of(sock.getpeername()[0])
            except OSError:
                # Closed already. Its peer is unknown, so nothing may be written on it.
                del accepted[listener]
                sock.close()
                continue
            if remote in gated:
                del accepted[listener]
                self._hold(sock)
            elif not _has_neighbor(self._runtime.reactor, remote):
                # Upstream would send a NOTIFICATION to an unknown peer.
                del accepted[listener]
                self._turn_away(sock, remote)
            else:
                hop_limits.restore(listener, sock)

    def _turn_away(self, sock: socket.socket, remote: object) -> None:
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + UNKNOWN_TOLD_EVERY
            cause = f'no neighbor has the address {remote}'
            self._record(cause, hint='configure it, or find out who connects')
        abort_on_close(sock)
        sock.close()

    def _refuse(self, pair: SocketPair, cause: str) -> None:
        """Report why a neighbor's connection is aborted without an octet."""
        self._record(
            cause,
            neighbor=str(pair.remote),
            pair=str(pair),
            hint='aborted without an octet; the peer tries again',
        )

    def _record(self, cause: str, **details: str) -> None:
        recorder = self._runtime.recorder
        event = OperatorEvent(
            time.time(),
            recorder.router,
            None,
            EventName.REFUSED,
            {'step': 'accept', 'cause': cause, **details},
        )
        recorder.record(event)

    def _hold(self, sock: socket.socket) -> None:
        runtime = self._runtime
        try:
            abort_on_close(sock)
            sock.setblocking(False)
            pair = pair_of(sock)
            hop_limits.expect_at_accept(runtime.reactor, sock, pair.remote)
            if len(self._held) >= MOST_HELD:
                raise OSError(f'{MOST_HELD} connections wait for their proof already')
            link = runtime.links.add_accepted(pair, sock)
        except InstallError as error:
            self._refuse(pair, error.text)
            sock.close()
            return
        except OSError as error:
            cause = str(error)
            log.warning(lambda: f'an accepted connection is dropped: {cause}', LOG)
            sock.close()
            return
        link.deadline = time.monotonic() + CLOSE_UNPROVEN_AFTER
        self._held.append(UnprovenSocket(link, runtime.gatekeeper.prove(None, pair)))

    def settle(self) -> None:
        """Hand proven sockets to BGP, abort the refused ones."""
        waiting, self._held = self._held, []
        for held in waiting:
            link, ticket = held.link, held.ticket
            if link.ended is not None:
                ticket.cancel()
            elif ticket.done:
                self._decide(link, ticket)
            elif link.deadline is not None and time.monotonic() >= link.deadline:
                ticket.cancel()
                self._abort(link, f'not proven within {CLOSE_UNPROVEN_AFTER:g} s')
            else:
                self._held.append(held)

    def _abort(self, link: ProtectedSocket, cause: str) -> None:
        remote = str(link.pair.remote)
        text = f'accept: {cause}: aborted without an octet; see show ikev2 at both ends'
        self._runtime.recorder.tell(remote, '', text)
        self._runtime.links.end(link, cause)

    def _decide(self, link: ProtectedSocket, ticket: Ticket) -> None:
        runtime = self._runtime
        if ticket.error is not None:
            # The gatekeeper has reported it to operators already.
            cause = str(ticket.error)
            log.debug(lambda: f'{cause}: connection {link.pair} aborted without an octet', LOG)
            runtime.links.end(link, cause)
            return
        link.session_key = ticket.session_key
        peer = runtime.reactor._peers.get(ticket.session_key)
        if peer is None:
            self._abort(link, f'no session {ticket.session_key} is configured any more')
            return
        if not link.established():
            runtime.links.end(link, 'the peer has closed it already')
            return
        try:
            connection = _incoming(link, peer)
        except (NetworkError, OSError) as error:
            self._abort(link, str(error))
            return
        refused = _refused(runtime, peer, link.pair)
        if refused is not None:
            code, cause = refused
            name = sessions.named(runtime, link)
            log.info(lambda: f'{name}: connection {link.pair} is denied: {cause}', LOG)
            sessions.deny(runtime, link, connection, connection.notification(*code, cause))
            return
        # Its key in the reactor's table: the neighbor's name may be that of a newer definition.
        try:
            denied = runtime.reactor.handle_connection(ticket.session_key, connection)
        except ProcessError:
            connection.io = None
            self._abort(link, 'an API process could not be told of it')
            return
        if denied:
            sessions.deny(runtime, link, connection, denied)
            return
        sessions.hand_to_bgp(runtime, link, connection, peer)
        # Its first turn is due.
        runtime.again = True


def _has_neighbor(reactor: Any, remote: IPAddress) -> bool:
    """Return True if a neighbor block, of one address or of a range, covers this one."""
    for key in reactor.peers():
        neighbor = reactor.neighbor(key)
        first = address_of(neighbor['peer-address'])
        offset = int(remote) - int(first)
        if first.version == remote.version and 0 <= offset < neighbor.range_size:
            return True
    return False


def _incoming(link: ProtectedSocket, peer: Any) -> Any:
    """Return ExaBGP's connection for a socket.

    Upstream calls our end "peer" and the remote one "local".
    """
    afi = AFI.ipv4 if link.pair.local.version == 4 else AFI.ipv6
    connection = Incoming(afi, str(link.pair.local), str(link.pair.remote), link.sock)
    set_ttl = getattr(module, 'set_accepted_ttl', None)  # from 5.0.14 on
    if set_ttl is not None:
        set_ttl(connection, peer.neighbor)
    hop_limits.expect(link.sock, peer.neighbor)
    return connection


def _refused(runtime: Context, peer: Any, pair: SocketPair) -> tuple[tuple[int, int], str] | None:
    """Return the notification for a refused connection, or None if it is the one that stays.

    RFC 4271 6.8 compares BGP Identifiers, which are in the peer's OPEN; by then ExaBGP, whose Peer
    has one connection, has dropped one, and both sides may drop different ones. So this is decided
    before any OPEN: while our own connection is up on TCP, the one opened by the side with the
    higher address stays. Both sides know the addresses without an OPEN.
    """
    if peer.fsm == FSM.ESTABLISHED:
        return None  # upstream's answer is right: 6/7
    higher = pair.local.packed > pair.remote.packed
    if higher and any(_ours(link, peer) for link in runtime.links):
        return _COLLISION, 'collision: our own connection, from the higher address, stays'
    # The other connection is closed, in whatever state: its Peer must be free for this one.
    if peer.proto is not None:
        peer._reset('another connection of this session takes over')
    return None


def _ours(link: ProtectedSocket, peer: Any) -> bool:
    """Return True for a connection of this peer that our gate opened, and that is up on TCP."""
    outgoing = link.connection is None or link.connection.direction == 'outgoing'
    return link.peer is peer and outgoing and link.established()

"""Before connect(): bind, have the key negotiated for exactly this socket pair, connect, prove.

A generator that ExaBGP resumes once a turn, so that its other neighbors go on meanwhile. One
attempt each time: ExaBGP's own backoff follows an error. Any end (the neighbor removed, SIGTERM,
the peer's own connection) cancels the negotiation and closes the socket.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from exabgp.protocol.family import AFI
from exabgp.reactor.network import outgoing as module
from exabgp.reactor.network.error import BindingError, NetworkError, NotConnected

from gatekeeper.adapter.driver import CLOSE_UNPROVEN_AFTER
from gatekeeper.adapter.pinned_ports import explain_taken_port, keep_port_private
from gatekeeper.adapter.sockets import ProtectedSocket, abort_on_close
from gatekeeper.adapter.wakeup import CONNECTED
from gatekeeper.policy.addresses import address_of
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.ticket import Ticket
from plugin.connections import bgp_session as sessions
from plugin.connections.context import Context
from tcpao.key_socket import InstallError
from tcpao.mkt import SocketPair

PLAIN_ATTEMPT = 5.0
"""Seconds for which a SYN of a neighbor that is not protected any more is repeated."""
ANSWER_LATE = 2.0
"""Seconds beyond the gatekeeper's own time limit, which has the better explanation."""


NO_SYN_ACK = (
    'is its TCP port open on the way, and does the peer have TCP-AO at all? See what show ikev2 '
    'backend counts at both ends'
)
NO_SYN_ACK_CHAIN = (
    'the peer may have no TCP-AO at all, or drops what it has no key for: compare the keychains '
    '(our send-id is its recv-id, the key file, algorithm, tcp-options, accept-lifetime, the '
    'clocks), see its show ikev2 backend, and whether it listens'
)


class AttemptError(Exception):
    """An attempt failed: step, cause, what to try next."""

    def __init__(self, step: str, cause: object, hint: str) -> None:
        super().__init__(f'{step}: {cause}; {hint}')
        self.why: Explanation | None = Explanation(step, str(cause), hint, Reason.TCP)
        """None if the gatekeeper has reported it already."""


class PinnedAddress(str):
    """A local address with the source port to bind to; 0 lets the kernel choose."""

    __slots__ = ('port',)
    port: int

    @classmethod
    def of(cls, address: str, port: int | None) -> PinnedAddress:
        """Return the address with a pinned port."""
        pinned = cls(address)
        pinned.port = port or 0
        return pinned


def bind(original: Any, io: socket.socket, ip: str, afi: Any) -> None:
    """Bind as ExaBGP's bind(), with the source port."""
    if not isinstance(ip, PinnedAddress):
        # The address of a plain neighbor.
        original(io, ip, afi)
        return
    keep_port_private(io, pinned=bool(ip.port))
    if not ip.port:
        original(io, ip, afi)
        return
    try:
        io.bind((ip, ip.port, 0, 0) if afi == AFI.ipv6 else (ip, ip.port))
    except OSError as error:
        who = explain_taken_port(error.errno, address_of(ip), ip.port)
        text = f'could not bind to {ip} port {ip.port}: {error.strerror}{who}'
        raise BindingError(text) from None


def establish(runtime: Context, outgoing: Any, peer: Any) -> Iterator[bool]:
    """Replace Outgoing.establish for a gated neighbor.

    Yields False until the connection is up and proven, then True. Raises NotConnected, with the
    cause in the log.
    """
    key = peer.neighbor.name()
    policy = runtime.policies.get(key)
    link: ProtectedSocket | None = None
    given = False
    try:
        if policy is None:
            raise AttemptError('before connect', 'no policy is in force', 'reload')
        link = _open(runtime, outgoing, policy)
        link.peer = peer
        yield from _negotiated(runtime, policy, link)
        yield from _connected(runtime, policy, link, outgoing)
        yield from _proven(runtime, policy, link)
        # A turn passes before ExaBGP takes it, and nothing else would begin it.
        runtime.again = True
        yield True
        _still_open(link, 'before OPEN')
        outgoing.success()
        sessions.hand_to_bgp(runtime, link, outgoing, peer)
        given = True
    except AttemptError as error:
        _report(runtime, key, policy, error)
        raise NotConnected(str(error)) from None
    finally:
        if not given:
            outgoing.io = None
            if link is not None:
                runtime.links.end(link, 'the attempt ended')


def establish_repeatedly(original: Any, outgoing: Any) -> Iterator[bool]:
    """Replace Outgoing.establish for a plain neighbor that was protected: retry every few seconds.

    While the peer still wants protection it drops every SYN of ours. TCP repeats a SYN after 1, 3,
    7, 15, 31 and 63 s: the session would wait for that long when the peer is plain too.
    """
    while True:
        attempt = original(outgoing)
        until = time.monotonic() + PLAIN_ATTEMPT
        for connected in attempt:
            yield connected
            if connected:
                return
            if time.monotonic() >= until:
                break
        attempt.close()
        if outgoing.io is not None:
            outgoing.io.close()
            outgoing.io = None


def _report(runtime: Context, key: str, policy: SessionPolicy | None, error: AttemptError) -> None:
    """Report a failure before there is a connection, which ExaBGP does not log."""
    if policy is not None and runtime.gatekeeper.alive:
        if error.why is not None:
            runtime.gatekeeper.attempt_failed(key, error.why)
        return
    neighbor, session = (policy.neighbor, policy.session.name) if policy else (key, '')
    runtime.recorder.tell(
        neighbor, session, str(error).removeprefix(f'neighbor {neighbor} session {session}: ')
    )


def _open(runtime: Context, outgoing: Any, policy: SessionPolicy) -> ProtectedSocket:
    """Create and bind the socket, whose port is ours from here on. Raises AttemptError."""
    step, hint = 'binding the socket', 'check local-address, source-port and source-interface'
    outgoing.local = PinnedAddress.of(str(outgoing.local), policy.source_port)
    try:
        issue = outgoing._setup()
    except AttributeError as error:
        # Upstream's error handler fails if the socket could not even be created.
        issue = error.__context__ or error
    if issue is not None:
        raise AttemptError(step, issue, hint)
    sock: socket.socket = outgoing.io
    try:
        abort_on_close(sock)
        if policy.source_port is not None:
            runtime.pinned_ports.hold(sock)
        local = sock.getsockname()
        pair = SocketPair(
            address_of(local[0]), local[1], address_of(outgoing.peer), int(outgoing.port)
        )
        link = runtime.links.add(pair, sock)
    except (OSError, InstallError) as error:
        sock.close()
        raise AttemptError(step, error, hint) from None
    link.session_key = policy.key
    pinned = policy.source_port is not None
    runtime.recorder.note(policy, EventName.BIND, pair=str(pair), pinned=pinned)
    return link


def _negotiated(runtime: Context, policy: SessionPolicy, link: ProtectedSocket) -> Iterator[bool]:
    ticket = runtime.gatekeeper.request(policy.key, link.pair)
    yield from _settled(link, ticket, policy.timeout + ANSWER_LATE, 'negotiating the key')


def _connected(
    runtime: Context, policy: SessionPolicy, link: ProtectedSocket, outgoing: Any
) -> Iterator[bool]:
    """Connect; each socket connects only once. Raises AttemptError."""
    step = 'connecting'
    runtime.recorder.note(policy, EventName.SYN, pair=str(link.pair))
    try:
        module.connect(link.sock, outgoing.peer, outgoing.port, outgoing.afi, None)
    except NetworkError as error:
        # Upstream's text of an OSError has no number.
        number = getattr(error.__context__, 'errno', None)
        who = explain_taken_port(number, link.pair.local, link.pair.local_port)
        hint = 'end that process' if who else 'check the route to the peer'
        raise AttemptError(step, f'{error}{who}', hint) from None
    runtime.waker.watch(link.sock, CONNECTED)
    link.deadline = time.monotonic() + policy.timeout
    while True:
        _still_open(link, step)
        number = link.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            hint = 'does the peer listen?' if number == errno.ECONNREFUSED else 'check the path'
            raise AttemptError(step, os.strerror(number), hint)
        if link.established():
            break
        if time.monotonic() >= link.deadline:
            cause = f'no answer to the SYN within {policy.timeout} s'
            hint = NO_SYN_ACK if policy.keychain is None else NO_SYN_ACK_CHAIN
            raise AttemptError(step, cause, hint)
        yield False
    link.deadline = None
    runtime.waker.forget(link.sock)


def _proven(runtime: Context, policy: SessionPolicy, link: ProtectedSocket) -> Iterator[bool]:
    ticket = runtime.gatekeeper.prove(policy.key, link.pair)
    yield from _settled(link, ticket, CLOSE_UNPROVEN_AFTER, 'proof')
    if ticket.session_key != policy.key:
        cause = f'the key belongs to another session, {ticket.session_key}'
        raise AttemptError('proof', cause, 'see show ikev2')


def _settled(link: ProtectedSocket, ticket: Ticket, seconds: float, step: str) -> Iterator[bool]:
    """Wait for the gatekeeper; if the caller stops waiting, the ticket is cancelled."""
    link.deadline = time.monotonic() + seconds
    try:
        while not ticket.done:
            _still_open(link, step)
            if time.monotonic() >= link.deadline:
                raise AttemptError(step, f'no result within {seconds:g} s', 'see show ikev2')
            yield False
    finally:
        ticket.cancel()
    if ticket.error is not None:
        error = AttemptError(step, ticket.error, 'see show ikev2')
        # The gatekeeper's own text names neighbor, session, step, cause and what to try.
        error.args = (str(ticket.error),)
        error.why = None
        raise error
    _still_open(link, step)
    link.deadline = None


def _still_open(link: ProtectedSocket, step: str) -> None:
    if link.ended is not None:
        raise AttemptError(step, link.ended, 'it is tried again')

"""The TCP sockets of gated sessions, each known by its socket pair from bind or accept to close.

Every one is registered with the installer and the gatekeeper, ends exactly once, and has SO_LINGER
{1, 0}: any close, even the kill of the process, sends a signed RST and leaves no TIME-WAIT that
would block a pinned port.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from gatekeeper.adapter.wakeup import Wakeup
from gatekeeper.policy.addresses import address_of
from tcpao.installer import Installer
from tcpao.mkt import SocketPair

_ABORT_ON_CLOSE = struct.pack('ii', 1, 0)
# include/net/tcp_states.h; the first octet of TCP_INFO.
_SYN_RECV: Final = 3


def abort_on_close(sock: socket.socket) -> None:
    """Set SO_LINGER {1, 0}."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT_ON_CLOSE)


def pair_of(sock: socket.socket) -> SocketPair:
    """Return the pair of a connected socket. Raises OSError if it isn't connected (any more)."""
    local, remote = sock.getsockname(), sock.getpeername()
    return SocketPair(address_of(local[0]), local[1], address_of(remote[0]), remote[1])


@dataclass(eq=False, slots=True)
class ProtectedSocket:
    """One protected socket."""

    pair: SocketPair
    sock: socket.socket
    session_key: str | None = None
    connection: Any = None
    """The routing daemon's connection object, once the daemon has the socket."""
    peer: Any = None
    """The routing daemon's object that uses the socket."""
    deadline: float | None = None
    """When to examine the socket again, on time.monotonic()."""
    notification_sent: bool = False
    """True if our last message was a NOTIFICATION that the peer should still receive."""
    end_reported: bool = False
    """True if the loss of the BGP session was reported to operators."""
    ended: str | None = None
    """The reason why the socket is closed; None while it is open."""

    def established(self) -> bool:
        """Return True if TCP is established, or was.

        In SYN-RECEIVED a peer is named too: a recorded SYN takes a socket that connects there.
        """
        try:
            self.sock.getpeername()
            state = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        except OSError:
            return False
        return state != _SYN_RECV


class ProtectedSockets:
    """All protected sockets of a daemon."""

    def __init__(
        self,
        installer: Installer[socket.socket],
        gone: Callable[[SocketPair], None],
        waker: Wakeup,
    ) -> None:
        self._installer = installer
        self._gone = gone
        self._waker = waker
        self._links: dict[SocketPair, ProtectedSocket] = {}

    def __iter__(self) -> Iterator[ProtectedSocket]:
        return iter(list(self._links.values()))

    def get(self, pair: SocketPair) -> ProtectedSocket | None:
        """Return the socket of a pair, or None."""
        return self._links.get(pair)

    def add(self, pair: SocketPair, sock: socket.socket) -> ProtectedSocket:
        """Register a socket that is about to connect.

        Raises InstallError; then the socket stays the caller's.
        """
        return self._add(pair, sock, self._installer.add_connection)

    def add_accepted(self, pair: SocketPair, sock: socket.socket) -> ProtectedSocket:
        """Register a socket that was accepted, as `add`."""
        return self._add(pair, sock, self._installer.add_accepted)

    def _add(
        self,
        pair: SocketPair,
        sock: socket.socket,
        take_charge: Callable[[SocketPair, socket.socket], None],
    ) -> ProtectedSocket:
        old = self._links.get(pair)
        if old is not None:
            # Two sockets can't have one pair: the older one is dead or about to end.
            self.end(old, 'replaced by a new connection with the same ports')
        take_charge(pair, sock)
        link = ProtectedSocket(pair, sock)
        self._links[pair] = link
        return link

    def end(self, link: ProtectedSocket, cause: str) -> None:
        """Close the socket, now. Only the first call has an effect."""
        if link.ended is not None:
            return
        link.ended = cause
        del self._links[link.pair]
        self._installer.drop_connection(link.pair)
        self._waker.forget(link.sock)
        link.sock.close()
        self._gone(link.pair)

"""The protected sockets, their keys, and the operations on them. No I/O.

A socket is identified by its SO_COOKIE, which no other socket ever has; a packet by its addresses
and ports. A connection that a peer has opened is here before its socket's owner has accepted it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from tcpao.installer import Cause
from tcpao.key_socket import InstallError, SocketState
from tcpao.mkt import IPAddress, IPNetwork, SocketPair
from tcpao.userspace.connections.connection import Connection
from tcpao.userspace.connections.inherited import InheritedProtection
from tcpao.userspace.connections.keyring import Keyring, StoredKey
from tcpao.userspace.connections.listeners import Listener, Listeners
from tcpao.userspace.connections.waiting import Entry, WaitingEntries
from tcpao.userspace.selectors import Selector, Selectors, only
from tcpao.userspace.wire.seal import Tally

# Seconds after the socket was closed: TIME-WAIT takes 60, FIN-WAIT-1 of a dead peer 113, a peer
# that has lost our RST repeats its SYN-ACK for 63.
LINGER: Final = 120.0

# Lingering closed connections; the oldest are dropped first. A pair that is used again counts once.
MOST_LINGERING: Final = 4096


@dataclass(frozen=True, slots=True)
class SocketName:
    """The socket of a command. `remote` None: a listener."""

    cookie: int
    local: IPAddress
    local_port: int
    versions: frozenset[int]
    """IP versions that a listener accepts."""
    remote: IPAddress | None = None
    remote_port: int = 0

    @property
    def pair(self) -> SocketPair:
        """Return the pair of a connection."""
        assert self.remote is not None
        return SocketPair(self.local, self.local_port, self.remote, self.remote_port)


class SocketsTable:
    """Listeners and connections. Commands that raise InstallError have changed nothing."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.listeners = Listeners()
        self.sent_by: dict[bytes, Entry] = {}
        """Entries by the flow of the packets that we send."""
        self.received_by: dict[bytes, Entry] = {}
        """Entries by the flow of the packets that we receive."""
        self._by_cookie: dict[int, Connection] = {}
        self._superseded: set[int] = set()
        """Cookies of open sockets whose pair another socket has now."""
        self._waiting = WaitingEntries()
        self._lingering: dict[int, Connection] = {}
        """Connections whose socket is closed, by its cookie; the first one is dropped first."""
        self.selectors_changed = False
        """True if rules are to change without a command that waits for it."""
        self._selectors = Selectors()
        self.heritage = InheritedProtection(self._selectors)

    # --- commands ---------------------------------------------------------------------------

    def listen(self, name: SocketName) -> Listener:
        """Register a listening socket, and return its entry."""
        listener = self.listeners.get(name.cookie)
        if listener is None:
            listener = Listener(name.cookie, name.local, name.versions, name.local_port)
            self.listeners.add(listener)
        return listener

    def add(self, name: SocketName, key: StoredKey, *, select: bool, fresh: bool) -> None:
        """Add a key; `fresh`: the socket has never connected, so it may become protected.

        Raises InstallError.
        """
        if name.remote is None:
            listener = self.listen(name)
            listener.keyring.add(key, select=False)
            self._selectors.add(listener.selector(key))
            return
        connection = self._by_cookie.get(name.cookie) if fresh else self.find(name)
        if connection is None:
            if not fresh:
                raise InstallError(Cause.REFUSED, f'{name.pair} is up without TCP-AO')
            connection = Connection(name.pair, Keyring(), self.tally)
        if not key.matches(name.pair):
            raise InstallError(Cause.REFUSED, f'a key for {key.pair or key.peer} on {name.pair}')
        connection.keyring.add(key, select=select)
        if connection.cookie is None:
            # An earlier socket with this pair has lost it: the newest socket has the pair.
            self.put(connection)
            self._adopt(connection, name.cookie)

    def take_back(self, name: SocketName, key: StoredKey) -> None:
        """Undo an `add`, even if the key is Current or RNext now."""
        keyring = self._keyring(name)
        keyring.take_back(key)
        self._uncover(name, key)
        connection = self._by_cookie.get(name.cookie)
        if connection is not None and not keyring.keys:
            self._drop(connection)

    def delete(
        self,
        name: SocketName,
        peer: IPNetwork,
        send_id: int,
        recv_id: int,
        switch_to: tuple[int, int] | None,
    ) -> None:
        """Remove a key; see Keyring.delete. Raises InstallError."""
        key = self._keyring(name).delete(peer, send_id, recv_id, switch_to)
        self._uncover(name, key)
        connection = self._by_cookie.get(name.cookie)
        if connection is not None:
            connection.forget_macs()

    def discard(self, name: SocketName, peer: IPNetwork, send_id: int, recv_id: int) -> None:
        """Remove a key that may have gone already."""
        with suppress(InstallError):
            self.delete(name, peer, send_id, recv_id, None)

    def set_rnext(self, name: SocketName, recv_id: int) -> None:
        """Make the key with this RecvID RNext."""
        self._keyring(name).set_rnext(recv_id)

    def read(self, name: SocketName) -> SocketState | None:
        """Return the state of a socket; None if it has no TCP-AO at all."""
        if name.remote is None:
            listener = self.listeners.get(name.cookie)
            return listener.keyring.state() if listener is not None else None
        connection = self.find(name)
        return connection.state() if connection is not None else None

    def release(self, name: SocketName, now: float) -> None:
        """Let a connection linger whose socket is closed, or about to be.

        TCP's remaining segments are still signed: also its answers to the peer's later segments,
        for a connection that TCP does not know any more.
        """
        self._superseded.discard(name.cookie)
        listener = self.listeners.get(name.cookie)
        if listener is not None:
            for key in listener.keyring.keys:
                self._selectors.discard(listener.selector(key))
            self.listeners.discard(name.cookie)
            return
        connection = self._by_cookie.get(name.cookie)
        if connection is None:
            return
        if connection.is_fresh:
            self._drop(connection)
        elif connection.released_until is None:
            self._end_of_life(connection)
            connection.released_until = now + LINGER
            self._lingering[name.cookie] = connection
            if len(self._lingering) > MOST_LINGERING:
                self._drop(next(iter(self._lingering.values())))

    # --- time -------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when `expire` has something to do; None if never."""
        lingering = next((c.released_until for c in self._lingering.values()), None)
        return min((at for at in (lingering, self.heritage.until) if at is not None), default=None)

    def overdue(self, now: float) -> list[Connection]:
        """Return the closed connections that `expire` would forget now."""
        return [c for c in self._lingering.values() if (c.released_until or now) <= now]

    def expire(self, now: float) -> bool:
        """Forget connections that have lingered long enough; return True if there were some."""
        found = self.heritage.expire(now)
        while (due := self.next_deadline()) is not None and due <= now:
            self._drop(next(iter(self._lingering.values())))
            found = True
        return found

    # --- entries ----------------------------------------------------------------------------

    def put(self, entry: Entry) -> None:
        """Deliver the packets of a pair to this entry, and not to an earlier one."""
        there = flow_of_pair(entry.pair)
        old = self.sent_by.get(there)
        if old is entry:
            return
        if old is not None:
            self.lose(old)
        self.sent_by[there] = entry
        self.received_by[flow_of_pair(entry.pair.reversed())] = entry
        if isinstance(entry, Connection):
            self._selectors.add(only(entry.pair))
        too_many = self._waiting.add(entry)
        if too_many is not None:
            self._drop(too_many)

    def lose(self, entry: Entry) -> None:
        """Drop an entry whose pair is another socket's, or will be; its own socket may still be
        open.
        """
        self._drop(entry)
        self.selectors_changed = True
        if isinstance(entry, Connection) and entry.cookie and entry.released_until is None:
            self._superseded.add(entry.cookie)

    def connections(self) -> Iterator[Connection]:
        """Yield all connections, accepted or not."""
        return (entry for entry in self.sent_by.values() if isinstance(entry, Connection))

    def find(self, name: SocketName) -> Connection | None:
        """Return a socket's connection, or None.

        A connection that a peer has opened is assigned to the first socket that asks for it: its
        owner has accepted it.
        """
        connection = self._by_cookie.get(name.cookie)
        if connection is not None or name.cookie in self._superseded:
            return connection
        entry = self.sent_by.get(flow_of_pair(name.pair))
        if not isinstance(entry, Connection) or entry.cookie is not None:
            return None
        if not entry.is_synchronized:
            return None
        self._adopt(entry, name.cookie)
        return entry

    def _adopt(self, connection: Connection, cookie: int) -> None:
        connection.cookie = cookie
        self._by_cookie[cookie] = connection
        self._waiting.discard(connection)
        connection.is_live = True
        self._selectors.add(only(connection.pair, live=True))
        self.selectors_changed = True

    def _end_of_life(self, connection: Connection) -> None:
        if connection.is_live:
            connection.is_live = False
            self._selectors.discard(only(connection.pair, live=True))

    def _drop(self, entry: Entry) -> None:
        there = flow_of_pair(entry.pair)
        if self.sent_by.get(there) is entry:
            del self.sent_by[there], self.received_by[flow_of_pair(entry.pair.reversed())]
            if isinstance(entry, Connection):
                self._selectors.discard(only(entry.pair))
        self._waiting.discard(entry)
        if isinstance(entry, Connection):
            self._end_of_life(entry)
            entry.forget_macs()
            entry.keyring.wipe()
            if entry.cookie is not None:
                self._by_cookie.pop(entry.cookie, None)
                self._lingering.pop(entry.cookie, None)

    def _keyring(self, name: SocketName) -> Keyring:
        if name.remote is None:
            listener = self.listeners.get(name.cookie)
            if listener is not None:
                return listener.keyring
        else:
            connection = self.find(name)
            if connection is not None:
                return connection.keyring
        raise InstallError(Cause.GONE, 'the socket has no TCP-AO at all')

    # --- rules ------------------------------------------------------------------------------

    def selectors(self) -> frozenset[Selector]:
        """Return the traffic that must come to the queue, without what a wider selector covers."""
        return self._selectors.rules()

    def _uncover(self, name: SocketName, key: StoredKey) -> None:
        """Note the removal of a key, from a listener if it is one."""
        listener = self.listeners.get(name.cookie)
        if listener is not None:
            self._selectors.discard(listener.selector(key))


def flow_of_pair(pair: SocketPair) -> bytes:
    """Return the flow of a pair, in the form of `packet.flow_of` for packets that we send."""
    return b''.join(
        (
            pair.local.packed,
            pair.remote.packed,
            pair.local_port.to_bytes(2, 'big'),
            pair.remote_port.to_bytes(2, 'big'),
        )
    )


def pair_of_flow(flow: bytes) -> SocketPair | None:
    """Return the pair seen from the sender; None if a port is 0, which no socket has."""
    if not any(flow[-4:-2]) or not any(flow[-2:]):
        return None
    size = 4 if len(flow) == 12 else 16
    address = IPv4Address if size == 4 else IPv6Address
    return SocketPair(
        address(flow[:size]),
        int.from_bytes(flow[-4:-2], 'big'),
        address(flow[size : 2 * size]),
        int.from_bytes(flow[-2:], 'big'),
    )

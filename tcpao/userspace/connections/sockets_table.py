"""The sockets that are protected, their keys, and what may be done to them. No I/O.

A socket is known by its SO_COOKIE, which no other socket ever has; a packet by its addresses and
ports. A connection that a peer has opened is here before its socket's owner has accepted it.
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

# Seconds after its socket was closed: TIME-WAIT takes 60, FIN-WAIT-1 of a dead peer 113, a peer
# that has lost our RST repeats its SYN-ACK for 63.
LINGER: Final = 120.0

# Closed ones that linger; the oldest go first. A pair that is used again counts once.
MOST_LINGERING: Final = 4096


@dataclass(frozen=True, slots=True)
class SocketName:
    """Which socket a command is about. `remote` None: a listener."""

    cookie: int
    local: IPAddress
    local_port: int
    versions: frozenset[int]
    """Families that a listener hears."""
    remote: IPAddress | None = None
    remote_port: int = 0

    @property
    def pair(self) -> SocketPair:
        """The connection."""
        assert self.remote is not None
        return SocketPair(self.local, self.local_port, self.remote, self.remote_port)


class SocketsTable:
    """Listeners and connections. Commands raise InstallError, and then have changed nothing."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.listeners = Listeners()
        self.sent_by: dict[bytes, Entry] = {}
        """By the flow of the packets that we send."""
        self.received_by: dict[bytes, Entry] = {}
        """By the flow of the packets that we get."""
        self._by_cookie: dict[int, Connection] = {}
        self._superseded: set[int] = set()
        """Cookies of sockets whose pair another one has now, and that are still open."""
        self._waiting = WaitingEntries()
        self._lingering: dict[int, Connection] = {}
        """Those whose socket is closed, by its cookie; the first one goes first."""
        self.selectors_changed = False
        """True if packets have ended a connection: its rule is not needed any more."""
        self._selectors = Selectors()
        self.heritage = InheritedProtection(self._selectors)

    # --- commands ---------------------------------------------------------------------------

    def listen(self, name: SocketName) -> Listener:
        """Know a listening socket."""
        listener = self.listeners.get(name.cookie)
        if listener is None:
            listener = Listener(name.cookie, name.local, name.versions, name.local_port)
            self.listeners.add(listener)
        return listener

    def add(self, name: SocketName, key: StoredKey, *, select: bool, fresh: bool) -> None:
        """Add a key; `fresh`: the socket has never connected, so it may become protected."""
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
            # Whatever had this pair before has lost it: the newest socket is the one.
            self.put(connection)
            self._adopt(connection, name.cookie)

    def take_back(self, name: SocketName, key: StoredKey) -> None:
        """Undo an `add`, whatever the key is by now."""
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
        """Remove a key, see Keyring.delete."""
        key = self._keyring(name).delete(peer, send_id, recv_id, switch_to)
        self._uncover(name, key)
        connection = self._by_cookie.get(name.cookie)
        if connection is not None:
            connection.forget_macs()

    def discard(self, name: SocketName, peer: IPNetwork, send_id: int, recv_id: int) -> None:
        """As `delete`, of a key that may have gone."""
        with suppress(InstallError):
            self.delete(name, peer, send_id, recv_id, None)

    def set_rnext(self, name: SocketName, recv_id: int) -> None:
        """Make the key with this RecvID RNext."""
        self._keyring(name).set_rnext(recv_id)

    def read(self, name: SocketName) -> SocketState | None:
        """None if the socket has no TCP-AO at all."""
        if name.remote is None:
            listener = self.listeners.get(name.cookie)
            return listener.keyring.state() if listener is not None else None
        connection = self.find(name)
        return connection.state() if connection is not None else None

    def release(self, name: SocketName, now: float) -> None:
        """The socket is closed, or about to be. What TCP still has to say for it is signed: also
        how it answers what the peer has sent meanwhile, for it knows no such connection then."""
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
            connection.released_until = now + LINGER
            self._lingering[name.cookie] = connection
            if len(self._lingering) > MOST_LINGERING:
                self._drop(next(iter(self._lingering.values())))

    # --- time -------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `expire` has something to do."""
        lingering = next((c.released_until for c in self._lingering.values()), None)
        return min((at for at in (lingering, self.heritage.until) if at is not None), default=None)

    def overdue(self, now: float) -> list[Connection]:
        """Return the closed connections that `expire` forgets at this moment."""
        return [c for c in self._lingering.values() if (c.released_until or now) <= now]

    def expire(self, now: float) -> bool:
        """Forget what has lingered long enough; True if there was something."""
        found = self.heritage.expire(now)
        while (due := self.next_deadline()) is not None and due <= now:
            self._drop(next(iter(self._lingering.values())))
            found = True
        return found

    # --- entries ----------------------------------------------------------------------------

    def put(self, entry: Entry) -> None:
        """Have its packets come to it, and not to what had its pair before."""
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
        """Its pair is another socket's, or will be; its own socket may be open still."""
        self._drop(entry)
        self.selectors_changed = True
        if isinstance(entry, Connection) and entry.cookie and entry.released_until is None:
            self._superseded.add(entry.cookie)

    def connections(self) -> Iterator[Connection]:
        """All that are known, accepted or not."""
        return (entry for entry in self.sent_by.values() if isinstance(entry, Connection))

    def find(self, name: SocketName) -> Connection | None:
        """A socket's connection. One that a peer has opened becomes the socket's that asks for
        it first: its owner has accepted it."""
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

    def _drop(self, entry: Entry) -> None:
        there = flow_of_pair(entry.pair)
        if self.sent_by.get(there) is entry:
            del self.sent_by[there], self.received_by[flow_of_pair(entry.pair.reversed())]
            if isinstance(entry, Connection):
                self._selectors.discard(only(entry.pair))
        self._waiting.discard(entry)
        if isinstance(entry, Connection):
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
        """Which traffic must come to the queue. What a wider one covers isn't named."""
        return self._selectors.rules()

    def _uncover(self, name: SocketName, key: StoredKey) -> None:
        """A key has gone, off a listener if it is one."""
        listener = self.listeners.get(name.cookie)
        if listener is not None:
            self._selectors.discard(listener.selector(key))


def flow_of_pair(pair: SocketPair) -> bytes:
    """As `packet.flow_of` takes it from what we send."""
    return b''.join(
        (
            pair.local.packed,
            pair.remote.packed,
            pair.local_port.to_bytes(2, 'big'),
            pair.remote_port.to_bytes(2, 'big'),
        )
    )


def pair_of_flow(flow: bytes) -> SocketPair | None:
    """The pair as the sender sees it; None if a port is 0, which is nobody's."""
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

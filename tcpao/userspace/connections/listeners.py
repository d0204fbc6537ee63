"""Listening sockets and their keys: which socket gets a SYN, and which key the SYN must carry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tcpao.mkt import IPAddress, SocketPair
from tcpao.userspace.connections.keyring import Keyring, StoredKey
from tcpao.userspace.selectors import Selector


@dataclass(eq=False, slots=True)
class Listener:
    """One listening socket; a socket without keys is kept too, since it accepts SYNs."""

    cookie: int
    """SO_COOKIE: the same for every descriptor of one socket."""
    address: IPAddress
    versions: frozenset[int]
    """IP versions that it accepts: both for an IPv6 wildcard that isn't IPv6 only."""
    port: int
    keyring: Keyring = field(default_factory=Keyring)

    @property
    def is_wildcard(self) -> bool:
        """Return True if the socket accepts connections to every address."""
        return not any(self.address.packed)

    def selector(self, key: StoredKey) -> Selector:
        """Return the traffic of one of its keys."""
        local = None if self.is_wildcard else self.address
        return Selector(
            local, self.port, key.peer, key.pair.remote_port if key.pair is not None else None
        )

    def can_receive_syn(self, pair: SocketPair) -> bool:
        """Return True if the socket could get a SYN of this connection; `pair` is seen from this
        host.
        """
        return (
            self.port == pair.local_port
            and pair.local.version in self.versions
            and (self.is_wildcard or self.address == pair.local)
        )


class Listeners:
    """All listening sockets."""

    def __init__(self) -> None:
        self._by_cookie: dict[int, Listener] = {}

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._by_cookie.values())

    def get(self, cookie: int) -> Listener | None:
        """Return the listener with this cookie, or None."""
        return self._by_cookie.get(cookie)

    def add(self, listener: Listener) -> None:
        """Add a new listener."""
        self._by_cookie[listener.cookie] = listener

    def discard(self, cookie: int) -> bool:
        """Forget a listener; return False if there was none."""
        listener = self._by_cookie.pop(cookie, None)
        if listener is None:
            return False
        listener.keyring.wipe()
        return True

    def receivers(self, pair: SocketPair) -> list[Listener]:
        """Return the listeners that get this SYN: as in the kernel, one on the address before a
        wildcard.

        There are several if sockets share a port (SO_REUSEPORT): any of them may get the SYN.
        """
        receivers = [listener for listener in self if listener.can_receive_syn(pair)]
        return [listener for listener in receivers if not listener.is_wildcard] or receivers


def keys_for(listeners: list[Listener], pair: SocketPair) -> list[StoredKey]:
    """Return the keys of these listeners that are for this connection."""
    return [key for listener in listeners for key in listener.keyring.matching(pair)]

"""One socket's TCP-AO keys: the operations that a backend must support, and how it refuses.

`tcpao.socket_installer` turns the installer's commands into these few operations. The order of
steps, the roll-back and the pruning are the same code for every backend. Nothing here touches a
socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keymaterial import Secret
from tcpao.installer import Cause, Traffic
from tcpao.mkt import Algorithm, IPAddress, IPNetwork, Mkt, PeerPairs, SocketPair


class InstallError(Exception):
    """A backend refused; `cause` and `text` are those of the Failed event.

    `meaning` is the reason alone, without the operation that failed.
    """

    def __init__(self, cause: Cause, text: str, meaning: str | None = None) -> None:
        super().__init__(f'{cause}: {text}')
        self.cause = cause
        self.text = text
        self.meaning = text if meaning is None else meaning


@dataclass(frozen=True, slots=True)
class Key:
    """A key for a socket: an MKT's key and the peer that it is for."""

    peer: IPNetwork
    send_id: int
    recv_id: int
    algorithm: Algorithm
    tcp_options: bool
    master_key: Secret
    pair: SocketPair | None = None
    """The only connection that the key is for, where a backend matches by port; None: any with the
    peer."""

    @classmethod
    def of(cls, mkt: Mkt) -> Key:
        """Return the key of an MKT."""
        return cls(
            peer=mkt.peer,
            send_id=mkt.send_id,
            recv_id=mkt.recv_id,
            algorithm=mkt.algorithm,
            tcp_options=mkt.tcp_options,
            master_key=mkt.master_key,
            pair=None if isinstance(mkt.protects, PeerPairs) else mkt.protects,
        )


@dataclass(frozen=True, slots=True)
class InstalledKey:
    """A key as the socket reports it, without its secret."""

    peer: IPNetwork
    send_id: int
    recv_id: int
    is_current: bool
    is_rnext: bool
    good: int
    bad: int

    @property
    def in_use(self) -> bool:
        """Return True while the key is Current or RNext: its removal would fail with EBUSY."""
        return self.is_current or self.is_rnext


@dataclass(frozen=True, slots=True)
class SocketState:
    """A connected socket's TCP-AO state; counters are of received segments."""

    current: int | None
    """SendID of Current, None before there is one."""
    rnext: int | None
    """RecvID of RNext, None before there is one."""
    keys: tuple[InstalledKey, ...]
    not_found: int
    unsigned: int
    of_removed: int = 0
    """Good segments under keys that are gone; Linux may count some of other keys, which were
    received during the read."""


class KeySocket(Protocol):
    """One TCP socket of a backend. Every method raises InstallError."""

    def is_open(self) -> bool:
        """Return False once the descriptor is closed; no other method is called then."""

    def carries(self, pair: SocketPair) -> bool:
        """Return True if this is (still) the connection `pair`, or a closed socket bound for it."""

    def is_fresh(self) -> bool:
        """Return True if the socket never connected and does not listen."""

    def is_dead(self) -> bool:
        """Return True if the connection has ended, or never came up."""

    def can_receive_syn(self, peer: IPNetwork, local: IPAddress | None, port: int) -> bool:
        """Return True if this listening socket could receive a SYN from `peer` to `local` and
        `port`.

        `local` None means any address.
        """

    def add(self, key: Key, *, select: bool) -> None:
        """Add a key; `select` makes it Current and RNext (never on a listener)."""

    def delete(
        self, peer: IPNetwork, send_id: int, recv_id: int, switch_to: InstalledKey | None = None
    ) -> None:
        """Remove a key; `switch_to` becomes Current and RNext in the same step."""

    def read(self) -> SocketState | None:
        """Return the TCP-AO state of the socket; None if it has no TCP-AO at all."""

    def traffic(self) -> Traffic:
        """Return the traffic of the connection so far, under whichever keys."""

    def set_rnext(self, recv_id: int) -> None:
        """Make the key with this RecvID RNext."""

    def probe(self, on: bool) -> None:
        """Set SO_KEEPALIVE with 1 s idle and interval, or restore the previous values."""

    def abort(self) -> None:
        """End the connection with a signed RST, now; the descriptor stays valid."""

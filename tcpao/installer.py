"""The installer: the one interface through which TCP-AO keys reach sockets.

Commands go to a backend, events come back, perhaps later. Only the thread that owns a socket may
run commands on it: the routing daemon's for connections, the gatekeeper's thread for listeners, so
a process has one installer for each. Every backend passes the conformance test in `tests/tcpao`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from tcpao.mkt import IPNetwork, Mkt, SocketPair

Handle = TypeVar('Handle', contravariant=True)


class Where(StrEnum):
    """The kind of socket on which a key is installed."""

    LISTENER = 'listener'
    CONNECTION = 'connection'


class Cause(StrEnum):
    """The cause of a failed command."""

    BUSY = 'busy'
    """The key is Current or RNext (EBUSY)."""
    GONE = 'gone'
    """There is no such socket or key (any more)."""
    NO_LISTENER = 'no listener'
    """No listening socket would receive the peer's SYN."""
    KEYID_IN_USE = 'KeyID in use'
    """An id is taken for an overlapping peer address (EEXIST)."""
    UNSUPPORTED = 'unsupported'
    """The backend or the kernel lacks TCP-AO, or this algorithm."""
    NO_MEMORY = 'no memory'
    NO_RULE = 'no rule'
    """The rules that lead packets to the packet process can't be made, or were removed."""
    REFUSED = 'refused'
    """Any other refusal; the text has the kernel's error."""


DENY_ID = 0
"""Both ids of a deny key, unless a keychain uses it: never negotiated."""

# --- commands -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Guard:
    """Put the deny key for `peer` on the listening sockets of `service_port`.

    Its ids are 0, which is never negotiated, or others if a keychain uses 0. A deny key with other
    ids may be added to it, so that the ids can change without a gap.
    """

    peer: IPNetwork
    service_port: int
    send_id: int = DENY_ID
    recv_id: int = DENY_ID


@dataclass(frozen=True, slots=True)
class Unguard:
    """Remove a deny key."""

    peer: IPNetwork
    service_port: int
    send_id: int = DENY_ID
    recv_id: int = DENY_ID


@dataclass(frozen=True, slots=True)
class GuardAll:
    """Guard for each of these, all or none: a load has a thousand, and is one step."""

    guards: tuple[Guard, ...]


@dataclass(frozen=True, slots=True)
class UnguardAll:
    """Remove these deny keys, all or none."""

    guards: tuple[Guard, ...]


@dataclass(frozen=True, slots=True)
class Install:
    """Install an MKT; on a still closed connection it becomes Current and RNext.

    A manual key (it protects PeerPairs) goes on listening sockets only: on those that are open and,
    until it is removed, on every new one.
    """

    mkt: Mkt
    where: Where


@dataclass(frozen=True, slots=True)
class SetRNext:
    """Ask the peer to sign with this MKT (RFC 5925 7.5.1); connection = mkt.pair."""

    mkt: Mkt


@dataclass(frozen=True, slots=True)
class Read:
    """Ask for a connection's KeyState."""

    pair: SocketPair


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove an MKT. `switch_to` forces Current and RNext: only at a hard lifetime."""

    mkt: Mkt
    where: Where
    switch_to: Mkt | None = None


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove all keys but `keep` from a connection: those that an accepted socket inherited.

    `also` are other keys of its keychain, which stay if present.
    """

    keep: Mkt
    also: tuple[Mkt, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """Set SO_KEEPALIVE with 1 s idle and interval while a rotation runs."""

    pair: SocketPair
    on: bool


@dataclass(frozen=True, slots=True)
class Close:
    """End the session with NOTIFICATION Cease, then close. Done by the plugin, not by a backend."""

    pair: SocketPair
    cause: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Close at once with SO_LINGER 0: a signed RST, and no octet of the session's protocol."""

    pair: SocketPair
    cause: str


Command = (
    Guard
    | Unguard
    | GuardAll
    | UnguardAll
    | Install
    | SetRNext
    | Read
    | Remove
    | Prune
    | Probe
    | Close
    | Abort
)

# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """The command succeeded (Guarded, Installed, RNextSet, Removed ... by its type)."""

    command: Command


@dataclass(frozen=True, slots=True)
class Failed:
    """The command failed, and changed nothing."""

    command: Command
    cause: Cause
    text: str


@dataclass(frozen=True, slots=True)
class KeyCounters:
    """The counts of segments that a connection received under one key."""

    send_id: int
    recv_id: int
    good: int
    bad: int


_SEGMENTS_WRAP = 1 << 32


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic of a connection since it began, both directions together, as TCP counts it."""

    segments: int = 0
    """Modulo 2^32, like the kernel's counters; retransmissions count."""
    octets: int = 0
    """Octets of data, without headers; retransmissions count where they are sent."""

    def since(self, earlier: Traffic) -> Traffic:
        """Return the traffic after an earlier reading of the same connection."""
        return Traffic(
            (self.segments - earlier.segments) % _SEGMENTS_WRAP, self.octets - earlier.octets
        )


NO_TRAFFIC = Traffic()


@dataclass(frozen=True, slots=True)
class KeyState:
    """The TCP-AO state of a connection: the answer to Read.

    `current` is the SendID in use, `rnext` the RecvID asked for; None if the socket has no TCP-AO
    at all (then `keys` is empty): such a socket is never proven.
    """

    pair: SocketPair
    current: int | None
    rnext: int | None
    keys: tuple[KeyCounters, ...]
    not_found: int
    """Segments received under an unknown KeyID."""
    unsigned: int
    """Segments received without TCP-AO where it was required."""
    traffic: Traffic = NO_TRAFFIC


@dataclass(frozen=True, slots=True)
class ConnectionUp:
    """From the plugin: TCP is established and the socket is proven."""

    pair: SocketPair


@dataclass(frozen=True, slots=True)
class ConnectionGone:
    """From the plugin: this connection's socket is closed, or never came up."""

    pair: SocketPair


@dataclass(frozen=True, slots=True)
class AdapterDied:
    """The backend has died, and every session with it."""

    cause: str


Event = Done | Failed | KeyState | ConnectionUp | ConnectionGone | AdapterDied


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a backend, asked of the system, not assumed."""

    backend: str
    """`kernel` or `userspace`, as `show` and the mkt_installed event name it."""
    algorithms: frozenset[str]
    """Names of tcpao.mkt.ALGORITHMS that work here."""
    matches_ports: bool
    """True if keys match by full socket pair; Linux matches by address only."""
    counts_sent: bool
    """True if sent segments are counted too; Linux counts received ones only."""


class Installer(Protocol[Handle]):
    """An installer of keys, used by one thread only; `Handle` is the socket type of the owner."""

    def capabilities(self) -> Capabilities:
        """Return the capabilities of this backend, asked of the system."""

    def add_connection(self, pair: SocketPair, handle: Handle) -> None:
        """Manage the keys of a connected socket, or of a bound one about to connect.

        Raises InstallError (GONE) if the socket isn't this connection: better than a key on the
        wrong one.
        """

    def add_accepted(self, pair: SocketPair, handle: Handle) -> None:
        """Manage the keys of a socket that a listener has accepted, as `add_connection`.

        Raises InstallError (REFUSED) too if the backend cannot tell that the peer has made the
        handshake just now: a recorded handshake must not pass for one.
        """

    def drop_connection(self, pair: SocketPair) -> None:
        """Forget a connection; its keys end with the socket, which its owner closes."""

    def add_listener(self, handle: Handle) -> None:
        """Manage the keys of a bound socket that listens or is about to.

        The socket gets the deny keys and the MKTs that are active for it. Raises InstallError on
        failure: then the socket has no key, is not known here, and must not listen.
        """

    def drop_listener(self, handle: Handle) -> None:
        """Forget a listening socket, which its owner closes; its keys stay until then."""

    def fileno(self) -> int | None:
        """Return a descriptor that is readable when `events` has a new event.

        None if each event is ready as soon as its command was submitted.
        """

    def submit(self, command: Command) -> None:
        """Start to execute a command; its Done, Failed or KeyState comes from `events`."""

    def events(self) -> list[Event]:
        """Return everything that happened since the last call, oldest first."""

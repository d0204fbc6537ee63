"""The installer: the one interface through which TCP-AO keys reach sockets.

Commands go to a backend, events come back, perhaps later. Only the thread that owns a socket may
run commands on it: the routing daemon's for connections, the gatekeeper's thread for listeners, so
a process has one backend instance for each. Every backend passes the conformance test in
`tests/tcpao`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tcpao.mkt import IPNetwork, Mkt, SocketPair


class Where(StrEnum):
    """On which kind of socket a key lives."""

    LISTENER = 'listener'
    CONNECTION = 'connection'


class Cause(StrEnum):
    """Why a command failed."""

    BUSY = 'busy'
    """The key is Current or RNext (EBUSY)."""
    GONE = 'gone'
    """No such socket or key (any more)."""
    NO_LISTENER = 'no listener'
    """No listening socket takes the peer's SYN."""
    KEYID_IN_USE = 'KeyID in use'
    """An id is taken for an overlapping peer address (EEXIST)."""
    UNSUPPORTED = 'unsupported'
    """The backend or the kernel lacks TCP-AO, or this algorithm."""
    NO_MEMORY = 'no memory'
    NO_RULE = 'no rule'
    """The rules that lead packets to the packet process can't be made, or were removed."""
    REFUSED = 'refused'
    """Anything else; the text says what the kernel said."""


DENY_ID = 0
"""Both ids of a deny key, unless a keychain uses it: never negotiated."""

# --- commands -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Guard:
    """Put the deny key for `peer` on the listening sockets of `service_port`.

    Its ids are 0, which is never negotiated; a keychain that uses 0 makes it take others. One
    with other ids may be put beside it, so that the ids can change without a gap.
    """

    peer: IPNetwork
    service_port: int
    send_id: int = DENY_ID
    recv_id: int = DENY_ID


@dataclass(frozen=True, slots=True)
class Unguard:
    """Take the deny key off again."""

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
    """Take these deny keys off again, all or none."""

    guards: tuple[Guard, ...]


@dataclass(frozen=True, slots=True)
class Install:
    """Install an MKT; on a still closed connection it becomes Current and RNext.

    A manual key (its pair is PeerPairs) goes on listening sockets only: those that there are and,
    until it is removed, every one that comes.
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
    """Remove every key from a connection but `keep`: what an accepted socket inherited.

    `also` are other keys of its keychain that stay if they are there.
    """

    keep: Mkt
    also: tuple[Mkt, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """SO_KEEPALIVE at 1 s idle and interval, on while a rotation runs."""

    pair: SocketPair
    on: bool


@dataclass(frozen=True, slots=True)
class Close:
    """End the session with NOTIFICATION Cease, then close. The plugin's, not a backend's."""

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
    """The command was carried out (Guarded, Installed, RNextSet, Removed ... by its type)."""

    command: Command


@dataclass(frozen=True, slots=True)
class Failed:
    """The command was not carried out, and changed nothing."""

    command: Command
    cause: Cause
    text: str


@dataclass(frozen=True, slots=True)
class KeyCounters:
    """One key on a connection; segments received under it."""

    send_id: int
    recv_id: int
    good: int
    bad: int


@dataclass(frozen=True, slots=True)
class KeyState:
    """What a connection's TCP-AO state is: the answer to Read.

    `current` is the SendID in use, `rnext` the RecvID asked for; None if the socket has no
    TCP-AO at all (then `keys` is empty): such a socket is never proven.
    """

    pair: SocketPair
    current: int | None
    rnext: int | None
    keys: tuple[KeyCounters, ...]
    not_found: int
    """Segments received under an unknown KeyID."""
    unsigned: int
    """Segments received without TCP-AO where it was required."""


@dataclass(frozen=True, slots=True)
class ConnectionUp:
    """The plugin: TCP is established and the socket is proven."""

    pair: SocketPair


@dataclass(frozen=True, slots=True)
class ConnectionGone:
    """The plugin: this connection's socket is closed, or never came up."""

    pair: SocketPair


@dataclass(frozen=True, slots=True)
class AdapterDied:
    """The backend is gone, and every session with it."""

    cause: str


Event = Done | Failed | KeyState | ConnectionUp | ConnectionGone | AdapterDied


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, asked of the system, not assumed."""

    backend: str
    """`kernel` or `userspace`, as `show` and the mkt_installed event name it."""
    algorithms: frozenset[str]
    """Names of tcpao.mkt.ALGORITHMS that work here."""
    matches_ports: bool
    """True if keys match by full socket pair; Linux matches by address only."""
    counts_sent: bool
    """True if sent segments are counted too; Linux counts received ones only."""


class Installer(Protocol):
    """A backend, used by one thread only."""

    def capabilities(self) -> Capabilities: ...

    def submit(self, command: Command) -> None:
        """Start to carry a command out; its Done, Failed or KeyState comes from `events`."""

    def events(self) -> list[Event]:
        """Everything that happened since the last call, oldest first."""

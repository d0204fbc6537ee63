"""What the daemon and its packet process say to each other: a request in one or more datagrams, a
reply in one.

A message is JSON, and where a key is added the key's octets behind it: a secret is never text. Both
ends are the same installation, so there are no versions and no leniency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tcpao.installer import Cause
from tcpao.key_socket import InstallError, Key, SocketState
from tcpao.mkt import IPAddress, IPNetwork
from tcpao.userspace.connections.sockets_table import SocketName

# A connection's state with all the ids that there are is far smaller.
LARGEST: Final = 128 * 1024

# What goes at once, in octets: far less than the socket's buffer, with the kernel's part.
PIECE: Final = 32 * 1024

KILL: Final = b'k'
"""To the watchdog: the process does not answer."""
END: Final = b'e'
"""To the watchdog: the process has to end, soon."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Know a listening socket, keys or not."""

    name: SocketName


@dataclass(frozen=True, slots=True)
class Add:
    """Add a key; `fresh`: the socket has never connected."""

    name: SocketName
    key: Key
    select: bool
    fresh: bool


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; `switch_to`: SendID and RecvID of the one to use instead."""

    name: SocketName
    peer: IPNetwork
    send_id: int
    recv_id: int
    switch_to: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class AddAll:
    """Add keys of listening sockets, all or none."""

    keys: tuple[tuple[SocketName, Key], ...]


@dataclass(frozen=True, slots=True)
class DeleteAll:
    """Remove keys of listening sockets, by peer, SendID and RecvID; those that are there."""

    keys: tuple[tuple[SocketName, IPNetwork, int, int], ...]


@dataclass(frozen=True, slots=True)
class SetRNext:
    """Make a key RNext."""

    name: SocketName
    recv_id: int


@dataclass(frozen=True, slots=True)
class Read:
    """Answered by State."""

    name: SocketName


@dataclass(frozen=True, slots=True)
class Release:
    """The socket is closed, or about to be."""

    name: SocketName


@dataclass(frozen=True, slots=True)
class Loaded:
    """A load is in force, with these protected peers."""

    peers: frozenset[IPAddress]


@dataclass(frozen=True, slots=True)
class Stop:
    """Reset what is left, remove the rules, end."""


Request = Listen | Add | AddAll | Delete | DeleteAll | SetRNext | Read | Release | Loaded | Stop


@dataclass(frozen=True, slots=True)
class Ready:
    """The first thing that the process says."""

    pid: int
    queue: int
    rules: str
    algorithms: frozenset[str]
    without: tuple[str, ...]
    removed: tuple[str, ...]
    """Rules that an earlier process had left behind, and that have gone."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """The process can't work here, and ends."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """A request was carried out."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Before an answer: the process lives, but must wait for rules."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request was not carried out, and changed nothing."""

    cause: Cause
    text: str


@dataclass(frozen=True, slots=True)
class State:
    """A socket's keys; None if it has no TCP-AO at all."""

    state: SocketState | None


Reply = Ready | NotReady | Done | Wait | Refused | State


# --- requests -------------------------------------------------------------------------------


# --- replies --------------------------------------------------------------------------------


def refusal(error: InstallError) -> Refused:
    """The reply that carries an InstallError to the other side."""
    return Refused(error.cause, error.text)

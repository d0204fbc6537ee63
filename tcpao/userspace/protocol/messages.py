"""Messages of the daemon and its packet process: a request in one or more datagrams, a reply in
one.

A message is JSON, followed by the key's octets where a key is added: a secret is never text. Both
ends are the same installation, so there are no versions and no leniency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tcpao.installer import Cause
from tcpao.key_socket import InstallError, Key, SocketState
from tcpao.mkt import IPAddress, IPNetwork
from tcpao.userspace.connections.sockets_table import SocketName

# A connection's state with all possible ids is far smaller.
LARGEST: Final = 128 * 1024

# Octets of one datagram: far less than the socket's buffer, with the kernel's part.
PIECE: Final = 32 * 1024

KILL: Final = b'k'
"""To the watchdog: kill the process, which does not answer."""
END: Final = b'e'
"""To the watchdog: the process has to end soon."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Register a listening socket, with keys or without."""

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
    """Remove a key; `switch_to`: SendID and RecvID of the key to use instead."""

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
    """Remove keys of listening sockets, by peer, SendID and RecvID; missing keys are no error."""

    keys: tuple[tuple[SocketName, IPNetwork, int, int], ...]


@dataclass(frozen=True, slots=True)
class SetRNext:
    """Make a key RNext."""

    name: SocketName
    recv_id: int


@dataclass(frozen=True, slots=True)
class Read:
    """Read the keys of a socket; answered by State."""

    name: SocketName


@dataclass(frozen=True, slots=True)
class Release:
    """Forget a socket that is closed, or about to be."""

    name: SocketName


@dataclass(frozen=True, slots=True)
class Loaded:
    """Note that a load is in force, with these protected peers."""

    peers: frozenset[IPAddress]


@dataclass(frozen=True, slots=True)
class Stop:
    """Reset the remaining connections, remove the rules, end."""


Request = Listen | Add | AddAll | Delete | DeleteAll | SetRNext | Read | Release | Loaded | Stop


@dataclass(frozen=True, slots=True)
class Ready:
    """The first message of the process."""

    pid: int
    queue: int
    rules: str
    algorithms: frozenset[str]
    without: tuple[str, ...]
    removed: tuple[str, ...]
    """Rules that an earlier process had left, and that were removed."""


@dataclass(frozen=True, slots=True)
class NotReady:
    """The process can't work here, and ends."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """A request succeeded."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Before an answer: the process is alive, but has to wait for rules."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request failed, and changed nothing."""

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
    """Return the reply that carries an InstallError to the other side."""
    return Refused(error.cause, error.text)

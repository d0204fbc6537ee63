"""Which backend protects connections here: the kernel's own TCP-AO, or packets in user space.

The kernel is asked. The choice can be overridden; one that can't be had is an error, never a
silent fallback to the other.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from tcpao.installer import Capabilities
from tcpao.kernel.installer import LinuxInstaller, why_unsupported
from tcpao.mkt import IPAddress
from tcpao.refusal import Refusal
from tcpao.socket_installer import SocketInstaller

# RFC 5926 2.1: both are mandatory; a kernel with TCP-AO but without one of them can't talk to
# every peer.
MANDATORY = ('hmac-sha-1-96', 'aes-128-cmac-96')


# /proc/net/netstat, in the order of Counters.
NETSTAT = ('TCPAOGood', 'TCPAOBad', 'TCPAOKeyNotFound', 'TCPAORequired')


class BackendError(Exception):
    """A backend can't be used here; the message says why and what to try."""


class Preference(StrEnum):
    """`tcp-ao-backend` of the configuration."""

    KERNEL = 'kernel'
    USERSPACE = 'userspace'
    AUTO = 'auto'


@dataclass(frozen=True, slots=True)
class Counters:
    """Segments received by protected sockets: of the network namespace under the kernel's TCP-AO,
    else of the packet process."""

    good: int
    bad: int
    """Their MAC was wrong, or of the wrong length."""
    key_not_found: int
    """Under a KeyID that nobody has there."""
    required_but_missing: int
    """Without TCP-AO where there had to be one."""


class Backend(Protocol):
    """What protects a process's connections. One thread starts and stops it; each installer
    belongs to one thread."""

    name: str
    """As in Capabilities.backend."""
    why: str
    """Why it is this one, for the log."""

    def start(self) -> None:
        """Before privileges are dropped. Raises BackendError; then nothing is left behind."""

    def remarks(self) -> tuple[str, ...]:
        """What its start has found, for the log."""

    def capabilities(self) -> Capabilities:
        """What it can do, once started."""

    def listener_installer(self) -> SocketInstaller[socket.socket]:
        """One for the thread that owns the listening sockets."""

    def connection_installer(self) -> SocketInstaller[socket.socket]:
        """One for the thread that owns the connections."""

    def loaded(self, peers: frozenset[IPAddress]) -> None:
        """A load is in force, with these protected peers: what an earlier process of ours that was
        killed still shuts for others is opened."""

    def counters(self) -> Counters:
        """What it has counted, from any thread. Raises tcpao.key_socket.InstallError if it has
        died, OSError."""

    def refusals_fileno(self) -> int | None:
        """Readable when `refusals` has something; None if it never will."""

    def refusals(self) -> list[Refusal]:
        """Connections that it has kept out, some for all of a kind: what a peer has to hear from
        an operator, for its SYN just vanishes. For one thread."""

    def fileno(self) -> int | None:
        """Readable once the backend has died, None if it can't die. See `died`."""

    @property
    def died(self) -> str | None:
        """Why every session is down; None while the backend lives."""

    def stop(self) -> None:
        """When every session is closed. Idempotent."""


class KernelBackend:
    """The kernel's TCP-AO: nothing to start, nothing that could die before we do."""

    name = 'kernel'

    def __init__(self, why: str = 'it was asked for') -> None:
        self.why = why

    def start(self) -> None:
        """Raises BackendError if this kernel has no TCP-AO."""
        reason = why_no_kernel()
        if reason is not None:
            raise BackendError(f'{reason}; try tcp-ao-backend userspace, or auto')

    def remarks(self) -> tuple[str, ...]:
        """See Backend."""
        return ()

    def capabilities(self) -> Capabilities:
        """As the kernel answers."""
        return LinuxInstaller().capabilities()

    def listener_installer(self) -> LinuxInstaller:
        """See Backend."""
        return LinuxInstaller()

    def connection_installer(self) -> LinuxInstaller:
        """See Backend."""
        return LinuxInstaller()

    def loaded(self, peers: frozenset[IPAddress]) -> None:
        """See Backend."""

    def counters(self) -> Counters:
        """See Backend; of the network namespace that the thread is in."""
        lines = Path('/proc/thread-self/net/netstat').read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith('TcpExt:'))
        found = dict(zip(names[1:], map(int, values[1:]), strict=True))
        return Counters(*(found[name] for name in NETSTAT))

    def refusals_fileno(self) -> None:
        """The kernel tells nobody."""

    def refusals(self) -> list[Refusal]:
        """See Backend."""
        return []

    def fileno(self) -> None:
        """See Backend."""

    @property
    def died(self) -> None:
        """See Backend."""

    def stop(self) -> None:
        """See Backend."""


def why_no_kernel() -> str | None:
    """Why the kernel's TCP-AO can't be used; None if it can."""
    for name in MANDATORY:
        reason = why_unsupported(name)
        if reason is not None:
            return reason
    return None


def choose(preference: Preference = Preference.AUTO) -> Backend:
    """The backend to use here, not started."""
    # The packet path is only imported where it is used.
    from tcpao.userspace.client.backend import UserspaceBackend

    match preference:
        case Preference.KERNEL:
            return KernelBackend()
        case Preference.USERSPACE:
            return UserspaceBackend(why='it was asked for')
        case Preference.AUTO:
            reason = why_no_kernel()
            if reason is None:
                return KernelBackend('this kernel has TCP-AO')
            return UserspaceBackend(why=reason)

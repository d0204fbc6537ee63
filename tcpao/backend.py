"""Which backend protects connections here: the kernel's own TCP-AO, or packets in user space.

The kernel is asked. The choice can be overridden; one that can't be had is an error, never a
silent fallback to the other.
"""

from __future__ import annotations

import socket
from enum import StrEnum
from typing import Protocol

from tcpao.installer import Capabilities
from tcpao.linux import LinuxInstaller, why_unsupported
from tcpao.socket_installer import SocketInstaller

# RFC 5926 2.1: both are mandatory; a kernel with TCP-AO but without one of them can't talk to
# every peer.
MANDATORY = ('hmac-sha-1-96', 'aes-128-cmac-96')


class BackendError(Exception):
    """A backend can't be used here; the message says why and what to try."""


class Preference(StrEnum):
    """`tcp-ao-backend` of the configuration."""

    KERNEL = 'kernel'
    USERSPACE = 'userspace'
    AUTO = 'auto'


class Backend(Protocol):
    """What protects a process's connections. One thread starts and stops it; each installer
    belongs to one thread."""

    name: str
    """As in Capabilities.backend."""
    why: str
    """Why it is this one, for the log."""

    def start(self) -> None:
        """Before privileges are dropped. Raises BackendError; then nothing is left behind."""

    def capabilities(self) -> Capabilities:
        """What it can do, once started."""

    def listener_installer(self) -> SocketInstaller[socket.socket]:
        """One for the thread that owns the listening sockets."""

    def connection_installer(self) -> SocketInstaller[socket.socket]:
        """One for the thread that owns the connections."""

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

    def capabilities(self) -> Capabilities:
        """As the kernel answers."""
        return LinuxInstaller().capabilities()

    def listener_installer(self) -> LinuxInstaller:
        """See Backend."""
        return LinuxInstaller()

    def connection_installer(self) -> LinuxInstaller:
        """See Backend."""
        return LinuxInstaller()

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
    from tcpao.userspace.backend import UserspaceBackend

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

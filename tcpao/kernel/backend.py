"""The kernel's TCP-AO as a backend."""

from __future__ import annotations

from pathlib import Path

from tcpao.backend import BackendError, Counters
from tcpao.installer import Capabilities
from tcpao.kernel import saved_syn
from tcpao.kernel.installer import LinuxInstaller, why_unsupported
from tcpao.mkt import IPAddress
from tcpao.refusal import DroppedSyn

# RFC 5926 2.1: both are mandatory; a kernel with TCP-AO but without one of them can't talk to
# every peer.
MANDATORY = ('hmac-sha-1-96', 'aes-128-cmac-96')


# /proc/net/netstat, in the order of Counters.
NETSTAT = ('TCPAOGood', 'TCPAOBad', 'TCPAOKeyNotFound', 'TCPAORequired')


class KernelBackend:
    """The kernel's TCP-AO: nothing to start, nothing that could die before this process."""

    name = 'kernel'

    def __init__(self, why: str = 'it was asked for') -> None:
        self.why = why

    def start(self) -> None:
        """Check that this kernel has TCP-AO. Raises BackendError if it has none."""
        reason = why_no_kernel()
        if reason is not None:
            raise BackendError(f'{reason}; try tcp-ao-backend userspace, or auto')

    def remarks(self) -> tuple[str, ...]:
        return ()

    def warnings(self) -> tuple[str, ...]:
        return tuple(filter(None, (saved_syn.warning(),)))

    def capabilities(self) -> Capabilities:
        """Return the capabilities that the kernel reports."""
        return LinuxInstaller().capabilities()

    def listener_installer(self) -> LinuxInstaller:
        return LinuxInstaller()

    def background_installer(self) -> LinuxInstaller:
        """Return an installer; the kernel answers at once."""
        return self.connection_installer()

    def connection_installer(self) -> LinuxInstaller:
        return LinuxInstaller()

    def loaded(self, peers: frozenset[IPAddress]) -> None:
        """Do nothing: keys of a killed process end with its sockets."""

    def counters(self) -> Counters:
        """Return the counters of the network namespace that this thread is in. Raises OSError."""
        lines = Path('/proc/thread-self/net/netstat').read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith('TcpExt:'))
        found = dict(zip(names[1:], map(int, values[1:]), strict=True))
        return Counters(*(found[name] for name in NETSTAT))

    def refusals_fileno(self) -> None:
        """Return None: the kernel reports no refusals."""

    def refusals(self) -> list[DroppedSyn]:
        return []

    def fileno(self) -> None:
        """Return None: the kernel's TCP-AO cannot die."""

    @property
    def died(self) -> None:
        """Return None: the kernel's TCP-AO cannot die."""

    def stop(self) -> None:
        """Do nothing: keys end with their sockets."""


def why_no_kernel() -> str | None:
    """Return why the kernel's TCP-AO can't be used; None if it can."""
    for name in MANDATORY:
        reason = why_unsupported(name)
        if reason is not None:
            return reason
    return None

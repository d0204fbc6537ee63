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

    def warnings(self) -> tuple[str, ...]:
        """See Backend."""
        return tuple(filter(None, (saved_syn.warning(),)))

    def capabilities(self) -> Capabilities:
        """As the kernel answers."""
        return LinuxInstaller().capabilities()

    def listener_installer(self) -> LinuxInstaller:
        """See Backend."""
        return LinuxInstaller()

    def background_installer(self) -> LinuxInstaller:
        """The kernel answers at once."""
        return self.connection_installer()

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

    def refusals(self) -> list[DroppedSyn]:
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

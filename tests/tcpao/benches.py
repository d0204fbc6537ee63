"""Two ends of TCP, with an installer each: in memory, and on this kernel in a namespace.

On this kernel with its own TCP-AO, or with the packet process.

What the conformance test needs of a backend, besides the installer itself. Every wait is bounded
and ends as soon as what it waits for is there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tcpao.installer import Installer
from tcpao.kernel.installer import LinuxInstaller
from tcpao.mkt import IPAddress, SocketPair
from tcpao.userspace.rules.interface import Kind
from tests.doubles.memory_installer import MemoryInstaller, MemorySocket, Network
from tests.tcpao.userspace.forked import ForkedBackend

PATIENCE = 60.0
CLONE_NEWNET = 0x40000000
ESTABLISHED = 1


class Connection(ABC):
    """One end of a connection, or a bound socket that may become one."""

    handle: Any

    @abstractmethod
    def connect(self) -> bool:
        """Connect; False once the peer has refused the SYN."""

    @abstractmethod
    def is_established(self) -> bool: ...

    @abstractmethod
    def send(self, octets: bytes) -> None: ...

    @abstractmethod
    def receive(self, count: int) -> bytes:
        """So many octets."""

    @abstractmethod
    def was_reset(self) -> bool:
        """True if the connection ends in a RST without another octet."""

    @abstractmethod
    def close(self) -> None: ...


class Listener(ABC):
    """A listening socket."""

    handle: Any

    @abstractmethod
    def accept(self) -> Connection: ...

    @abstractmethod
    def has_connections(self) -> bool: ...

    @abstractmethod
    def close(self) -> None: ...


class Bench(ABC):
    """`client` and `server` are installers; `a`, `b` and `c` addresses of one family."""

    client: Installer[Any]
    server: Installer[Any]
    a: IPAddress
    b: IPAddress
    c: IPAddress
    any: IPAddress

    @abstractmethod
    def bind(self, pair: SocketPair) -> Connection:
        """A closed socket, bound to `pair.local`."""

    @abstractmethod
    def listen(self, address: IPAddress, port: int) -> Listener: ...

    @abstractmethod
    def another_installer(self) -> Installer[Any]:
        """One that knows nothing of the others, as of another process."""

    @abstractmethod
    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until it is so; fails after PATIENCE."""


# --- in memory ------------------------------------------------------------------------------


class MemoryConnection(Connection):
    def __init__(self, handle: MemorySocket) -> None:
        self.handle: MemorySocket = handle

    def connect(self) -> bool:
        return self.handle.connect()

    def is_established(self) -> bool:
        return self.handle.is_established()

    def send(self, octets: bytes) -> None:
        self.handle.send(octets)

    def receive(self, count: int) -> bytes:
        octets = bytes(self.handle.received[:count])
        del self.handle.received[:count]
        assert len(octets) == count
        return octets

    def was_reset(self) -> bool:
        return self.handle.is_dead() and not self.handle.received

    def close(self) -> None:
        self.handle.close()


class MemoryListener(Listener):
    def __init__(self, handle: MemorySocket) -> None:
        self.handle: MemorySocket = handle

    def accept(self) -> Connection:
        child = self.handle.accept()
        assert child is not None
        return MemoryConnection(child)

    def has_connections(self) -> bool:
        child = self.handle.accept()
        return child is not None

    def close(self) -> None:
        self.handle.close()


class MemoryBench(Bench):
    def __init__(self, version: int) -> None:
        self.network = Network()
        self.client = MemoryInstaller(self.network)
        self.server = MemoryInstaller(self.network)
        self.a, self.b, self.c, self.any = ADDRESSES[version]

    def bind(self, pair: SocketPair) -> Connection:
        return MemoryConnection(self.network.socket(pair))

    def listen(self, address: IPAddress, port: int) -> Listener:
        return MemoryListener(self.network.listen(address, port))

    def another_installer(self) -> Installer[Any]:
        return MemoryInstaller(self.network)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        until = self.network.now + PATIENCE
        while not condition():
            assert self.network.now < until, 'waited in vain'
            self.network.advance(self.network.now + 1.0)


# --- on this kernel -------------------------------------------------------------------------


class KernelConnection(Connection):
    def __init__(
        self,
        handle: socket.socket,
        pair: SocketPair | None = None,
        refusals: Callable[[], int] = lambda: 0,
    ) -> None:
        """`refusals` counts the segments that this namespace has refused."""
        self.handle: socket.socket = handle
        self.pair = pair
        self._refusals = refusals
        handle.setblocking(False)

    def connect(self) -> bool:
        assert self.pair is not None
        before = self._refusals()
        remote = (str(self.pair.remote), self.pair.remote_port)
        if self.handle.connect_ex(remote) not in (0, errno.EINPROGRESS):
            return False
        _wait(lambda: self.is_established() or self._refusals() > before)
        return self.is_established()

    def is_established(self) -> bool:
        return self.handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED

    def send(self, octets: bytes) -> None:
        self.handle.settimeout(PATIENCE)
        self.handle.sendall(octets)

    def receive(self, count: int) -> bytes:
        self.handle.settimeout(PATIENCE)
        octets = b''
        while len(octets) < count:
            part = self.handle.recv(count - len(octets))
            assert part, 'an orderly end instead of data'
            octets += part
        # A delayed ACK would move the peer's Current at a time of its own.
        self.handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return octets

    def was_reset(self) -> bool:
        self.handle.settimeout(PATIENCE)
        try:
            self.handle.recv(1)
        except ConnectionResetError:
            return True
        return False

    def close(self) -> None:
        self.handle.close()


class KernelListener(Listener):
    def __init__(self, handle: socket.socket) -> None:
        self.handle: socket.socket = handle

    def accept(self) -> Connection:
        self.handle.settimeout(PATIENCE)
        child, _ = self.handle.accept()
        return KernelConnection(child)

    def has_connections(self) -> bool:
        return bool(select.select([self.handle], [], [], 0)[0])

    def close(self) -> None:
        self.handle.close()


class KernelBench(Bench):
    def __init__(self, version: int) -> None:
        self.client = self.another_installer()
        self.server = self.another_installer()
        self.a, self.b, self.c, self.any = ADDRESSES[version]
        self._sockets: list[socket.socket] = []

    def bind(self, pair: SocketPair) -> Connection:
        return KernelConnection(self.bound(pair.local, pair.local_port), pair, self.refusals)

    def refusals(self) -> int:
        """Segments that were refused so far."""
        return sum(map(netstat, ('TCPAORequired', 'TCPAOBad', 'TCPAOKeyNotFound')))

    def listen(self, address: IPAddress, port: int) -> Listener:
        sock = self.bound(address, port)
        sock.listen()
        return KernelListener(sock)

    def another_installer(self) -> Installer[Any]:
        return LinuxInstaller()

    def bound(self, address: IPAddress, port: int) -> socket.socket:
        """A TCP socket bound there; IPv6 ones for IPv6 only."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_STREAM)
        self._sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A listener on one address beside one on all of them.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(address), port))
        return sock

    def wait_until(self, condition: Callable[[], bool]) -> None:
        _wait(condition)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


class UserspaceBench(KernelBench):
    """Both ends by one packet process."""

    def __init__(self, version: int, kinds: Iterable[Kind] = ()) -> None:
        self.backend = ForkedBackend(kinds)
        self.backend.start()
        super().__init__(version)

    def another_installer(self) -> Installer[Any]:
        return self.backend.connection_installer()

    def refusals(self) -> int:
        tally = self.backend.tally()
        return tally.unsigned + tally.bad + tally.not_found

    def close(self) -> None:
        super().close()
        self.backend.stop()


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, 'waited in vain'
        time.sleep(0.005)


def netstat(name: str) -> int:
    """A counter of this namespace's TcpExt."""
    lines = Path('/proc/thread-self/net/netstat').read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith('TcpExt:'))
    return int(values[names.index(name)])


@contextmanager
def namespace() -> Iterator[None]:
    """A network namespace of its own for this thread, with addresses on loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f'unshare: {os.strerror(number)}; needs root')
        try:
            commands = ['link set lo up']
            for version, addresses in ADDRESSES.items():
                length, options = (32, '') if version == 4 else (128, 'nodad')
                commands += [f'addr add {a}/{length} dev lo {options}' for a in addresses[:3]]
            # A worker of the kernel adds an IPv6 address's local route at a time of its own. Until
            # then the route of its prefix discards what is sent there, though connect() takes it,
            # and a socket that has found it keeps it: neither a SYN nor its repetition arrives.
            commands += [f'route add local {a} dev lo table local' for a in ADDRESSES[6][:3]]
            subprocess.run(['ip', '-batch', '-'], input='\n'.join(commands), text=True, check=True)
            yield
        finally:
            if libc.setns(home, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), 'cannot go back to the first namespace')
    finally:
        os.close(home)


ADDRESSES: dict[int, tuple[IPAddress, IPAddress, IPAddress, IPAddress]] = {
    4: (
        ip_address('10.0.0.1'),
        ip_address('10.0.0.2'),
        ip_address('10.0.0.3'),
        ip_address('0.0.0.0'),
    ),
    6: (
        ip_address('fd00::1'),
        ip_address('fd00::2'),
        ip_address('fd00::3'),
        ip_address('::'),
    ),
}

"""Two network namespaces with a wire in between, entered by this thread whenever it is their turn.

A socket belongs to the namespace that it was made in, so one test drives both ends. `Site.inside`
is for making sockets, starting backends and running commands.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dpkt

from tcpao.backend import Backend
from tcpao.installer import Command, Done, Install, Installer, KeyState, Prune, Read, Remove, Where
from tcpao.kernel.backend import KernelBackend
from tcpao.mkt import IPAddress, Mkt, SocketPair
from tcpao.userspace.rules.interface import Kind
from tests.tcpao.test_installer_conformance import mkts
from tests.tcpao.userspace.forked import ForkedBackend
from tests.tcpao.userspace.packets import ADDRESSES

Socket = socket.socket

PATIENCE = 60.0
MACS = ('02:00:00:00:00:01', '02:00:00:00:00:02')
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33

# include/uapi/linux/tcp.h
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
TCP_SEND_QUEUE = 2


class Site:
    """A namespace."""

    def __init__(self) -> None:
        """Raises OSError; needs root."""
        home = _here()
        try:
            _call('unshare', CLONE_NEWNET)
            self._namespace = _here()
            _call('setns', home, CLONE_NEWNET)
        finally:
            os.close(home)

    @property
    def path(self) -> str:
        """Return what `ip` takes for the namespace's name."""
        return f'/proc/{os.getpid()}/fd/{self._namespace}'

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is in it."""
        home = _here()
        try:
            _call('setns', self._namespace, CLONE_NEWNET)
            yield
        finally:
            _call('setns', home, CLONE_NEWNET)
            os.close(home)

    def run(self, *command: str, text: str | None = None, check: bool = True) -> str:
        """Run a command in the namespace; return its standard output."""
        with self.inside():
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f'{" ".join(command)} said {done.stderr}')
        return done.stdout

    def set(self, setting: str, value: int) -> None:
        """A setting of the namespace, below /proc/sys/net."""
        with self.inside():
            Path('/proc/sys/net', setting).write_text(f'{value}\n')

    def addresses(self, *addresses: IPAddress, device: str) -> None:
        """Give it addresses."""
        lines = [
            f'addr add {address}/{24 if address.version == 4 else 64} dev {device}'
            + (' nodad' if address.version == 6 else '')
            for address in addresses
        ]
        self.run('ip', '-batch', '-', text='\n'.join(lines))

    def close(self) -> None:
        """Close the namespace, which ends with its last socket."""
        os.close(self._namespace)


def _here() -> int:
    return os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)


_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f'{name}: {os.strerror(number)}')


@contextmanager
def wired(mtu: int = 1500) -> Iterator[tuple[Site, Site]]:
    """Two sites with 10.0.0.1 and .2, fd00::1 and ::2 on a wire (device `wire`)."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(closing(Site())) for _ in range(2))
        one.run(
            *('ip', 'link', 'add', 'wire', 'mtu', str(mtu), 'type', 'veth'),
            *('peer', 'name', 'wire', 'mtu', str(mtu), 'netns', other.path),
        )
        for number, site in enumerate((one, other)):
            site.addresses(*(pair[number] for pair in ADDRESSES.values()), device='wire')
            site.run('ip', 'link', 'set', 'lo', 'up')
            site.run('ip', 'link', 'set', 'wire', 'address', MACS[number], 'up')
            # A link is slow to receive multicast after it comes up: no neighbor discovery.
            for pair in ADDRESSES.values():
                site.run(
                    *('ip', 'neigh', 'replace', str(pair[1 - number]), 'dev', 'wire'),
                    *('lladdr', MACS[1 - number], 'nud', 'permanent'),
                )
        yield one, other


@contextmanager
def routed(narrow: int) -> Iterator[tuple[Site, Site]]:
    """Connect two sites as `wired` does, but over a router with a smaller MTU towards the second
    one, which doesn't know of it."""
    with ExitStack() as stack:
        one, router, other = (stack.enter_context(closing(Site())) for _ in range(3))
        for number, (site, mtu) in enumerate(((one, 1500), (other, narrow))):
            site.run(
                *('ip', 'link', 'add', 'wire', 'mtu', '1500', 'type', 'veth'),
                *('peer', 'name', f'to{number}', 'mtu', str(mtu), 'netns', router.path),
            )
            for name, where in (('wire', site), (f'to{number}', router)):
                where.run('ip', 'link', 'set', name, 'address', MACS[where is router], 'up')
            for pair in ADDRESSES.values():
                far, near = str(pair[1 - number]), str(pair[number])
                length = '32' if pair[0].version == 4 else '128'
                options = () if length == '32' else ('nodad',)
                site.run('ip', 'addr', 'add', f'{near}/{length}', 'dev', 'wire', *options)
                site.run('ip', 'route', 'add', f'{far}/{length}', 'dev', 'wire')
                router.run('ip', 'route', 'add', f'{near}/{length}', 'dev', f'to{number}')
                for where, address, device, mac in (
                    (site, far, 'wire', MACS[1]),
                    (router, near, f'to{number}', MACS[0]),
                ):
                    where.run(
                        *('ip', 'neigh', 'replace', address, 'dev', device),
                        *('lladdr', mac, 'nud', 'permanent'),
                    )
        for setting in ('ipv4/ip_forward', 'ipv6/conf/all/forwarding'):
            router.set(setting, 1)
        # So that its errors have a source.
        router.addresses(ip_address('192.0.2.1'), ip_address('2001:db8::1'), device='to0')
        yield one, other


@dataclass
class End:
    """One site's TCP, and what protects it."""

    site: Site
    backend: Backend
    installer: Installer[Any] = field(init=False)
    sockets: list[Socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.installer = self.backend.connection_installer()

    def do(self, *commands: Command) -> None:
        """Each must be carried out."""
        for command in commands:
            self.installer.submit(command)
            events = self.installer.events()
            assert events == [Done(command)], events

    def state(self, pair: SocketPair) -> KeyState:
        """Return the state of the keys, as the installer reads it."""
        self.installer.submit(Read(pair))
        (event,) = self.installer.events()
        assert isinstance(event, KeyState), event
        return event

    def socket(self, address: IPAddress, port: int) -> Socket:
        """A TCP socket bound there."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with self.site.inside():
            sock = socket.socket(family, socket.SOCK_STREAM)
        self.sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(PATIENCE)
        sock.bind((str(address), port))
        return sock

    def listen(self, address: IPAddress, port: int = 179) -> Socket:
        """A listener that the installer knows."""
        sock = self.socket(address, port)
        self.installer.add_listener(sock)
        sock.listen()
        return sock

    def close(self) -> None:
        """Sockets first, then what protects them."""
        for sock in self.sockets:
            sock.close()
        self.backend.stop()


@contextmanager
def protected(site: Site, backend: Backend) -> Iterator[End]:
    """A site with a backend that runs in it."""
    with site.inside():
        backend.start()
    end = End(site, backend)
    try:
        yield end
    finally:
        end.close()


def kernel(site: Site) -> Any:
    """Protected by the kernel's own TCP-AO."""
    return protected(site, KernelBackend())


def userspace(site: Site, kinds: tuple[Kind, ...] = ()) -> Any:
    """Protected by a packet process."""
    return protected(site, ForkedBackend(kinds))


@dataclass
class Session:
    """A proven connection between two ends."""

    client: End
    server: End
    near: socket.socket
    far: socket.socket
    ours: Mkt
    theirs: Mkt

    def talk(self, octets: bytes = b'route') -> None:
        """There and back."""
        for one, other in ((self.near, self.far), (self.far, self.near)):
            one.sendall(octets)
            assert _read(other, len(octets)) == octets

    def nothing_bad(self) -> None:
        """Both ends found every segment good."""
        for end, mkt in ((self.client, self.ours), (self.server, self.theirs)):
            state = end.state(mkt.pair)
            assert state.not_found == state.unsigned == 0, state
            assert all(key.bad == 0 for key in state.keys), state

    def transfer(self, octets: int, *, back: bool = False) -> None:
        """So many octets one way, and they are the same ones. `back`: from the server."""
        sender, receiver = (self.far, self.near) if back else (self.near, self.far)
        sent = sha256()

        def send() -> None:
            left, number = octets, 0
            while left > 0:
                # Never the same twice, or a duplicate would not be seen.
                chunk = (number.to_bytes(8, 'big') * 8192)[: min(left, 65536)]
                sent.update(chunk)
                sender.sendall(chunk)
                left, number = left - len(chunk), number + 1

        thread = threading.Thread(target=send)
        thread.start()
        got, left = sha256(), octets
        while left:
            part = receiver.recv(min(left, 1 << 20))
            assert part, 'cut short'
            got.update(part)
            left -= len(part)
        thread.join()
        assert got.digest() == sent.digest()

    def close(self) -> None:
        """Both ends at once, with a RST."""
        for end, sock, mkt in (
            (self.client, self.near, self.ours),
            (self.server, self.far, self.theirs),
        ):
            end.installer.drop_connection(mkt.pair)
            if sock.fileno() != -1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                sock.close()


def connect(
    client: End,
    server: End,
    listener: socket.socket,
    version: int,
    port: int = 40001,
    *,
    algorithm: str = 'hmac-sha-1-96',
    tcp_options: bool = True,
    isn: int | None = None,
) -> Session:
    """A connection under a key of its own; `isn` chooses the client's (TCP_REPAIR)."""
    addresses = ADDRESSES[version]
    here, there = addresses if client_is_first(client, version) else addresses[::-1]
    pair = SocketPair(here, port, there, listener.getsockname()[1])
    ours, theirs = mkts(pair, secret=b'k' * 32, algorithm=algorithm, tcp_options=tcp_options)
    server.do(Install(theirs, Where.LISTENER))
    near = client.socket(pair.local, pair.local_port)
    client.installer.add_connection(pair, near)
    client.do(Install(ours, Where.CONNECTION))
    if isn is not None:
        choose_isn(near, isn)
    near.connect((str(pair.remote), pair.remote_port))
    far, _ = listener.accept()
    far.settimeout(PATIENCE)
    server.sockets.append(far)
    server.installer.add_connection(theirs.pair, far)
    server.do(Prune(theirs), Remove(theirs, Where.LISTENER))
    return Session(client, server, near, far, ours, theirs)


def meet(client: End, server: End, version: int, isn: int) -> Session:
    """A connection that both ends open, so that both of them begin at `isn`.

    The client's SYN is lost: its answer to the server's is a SYN-ACK.
    """
    addresses = ADDRESSES[version]
    pair = SocketPair(addresses[0], 40001, addresses[1], 179)
    ours, theirs = mkts(pair, secret=b'k' * 32)
    server.site.run(
        *('iptables' if version == 4 else 'ip6tables', '-t', 'raw', '-A', 'PREROUTING'),
        *('-p', 'tcp', '--syn', '-j', 'DROP'),
    )
    opening = []
    for end, mkt in ((client, ours), (server, theirs)):
        sock = end.socket(mkt.pair.local, mkt.pair.local_port)
        end.installer.add_connection(mkt.pair, sock)
        end.do(Install(mkt, Where.CONNECTION))
        choose_isn(sock, isn)
        opening.append(sock)
    near, far = opening
    near.setblocking(False)
    with suppress(BlockingIOError):
        near.connect((str(pair.remote), pair.remote_port))
    far.connect((str(pair.local), pair.local_port))
    near.settimeout(PATIENCE)
    return Session(client, server, near, far, ours, theirs)


def client_is_first(client: End, version: int) -> bool:
    """Return whether this end is the site with the first address."""
    return str(ADDRESSES[version][0]) in client.site.run('ip', '-o', 'addr', 'show', 'dev', 'wire')


def choose_isn(sock: socket.socket, isn: int) -> None:
    """The SYN's sequence number (CRIU's way)."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
    # Values above 2**31 are negative as a C int; what is set is the next one to send.
    sock.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, ctypes.c_int32(isn).value)
    # -1: out of repair mode without a window probe.
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, -1)


def wait_until(condition: Callable[[], bool]) -> None:
    """Fails after PATIENCE."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, 'waited in vain'
        time.sleep(0.01)


def _read(sock: socket.socket, count: int) -> bytes:
    octets = b''
    while len(octets) < count:
        part = sock.recv(count - len(octets))
        assert part, 'an orderly end instead of data'
        octets += part
    return octets


@contextmanager
def captured(site: Site, path: Path) -> Iterator[None]:
    """Everything on the site's wire while it lasts, as a pcap file."""
    with site.inside():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with tap:
        tap.bind(('wire', ETH_P_ALL))
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        yield
        tap.setblocking(False)
        with path.open('wb') as file:
            writer = dpkt.pcap.Writer(file)
            while True:
                try:
                    writer.writepkt(tap.recv(1 << 17), ts=time.time())
                except BlockingIOError:
                    break

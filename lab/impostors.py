"""Attackers for the demo and the end-to-end tests: their attempts and the results.

Not a test: nothing is judged here. Everything runs in the calling thread, which `inside` moves into
the attacker's network namespace; a separate thread leaves the rest of the process unaffected.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from threading import Lock

from ikev2 import Endpoint, Identity, Peer
from ikev2.authentication.auth import LocalCredential, PeerCredential
from ikev2.events import Event, IkeMessage, IkeSaFailed, IkeSaUp
from ikev2.udp import UdpSockets
from keymaterial import Secret
from tcpao.backend import Backend, Preference
from tcpao.backend_choice import choose
from tcpao.installer import Done, Install, Installer, Where
from tcpao.mkt import Algorithm, Mkt, SocketPair

CLONE_NEWNET = 0x40000000


@contextmanager
def inside(namespace: Path) -> Iterator[None]:
    """Run this thread in the network namespace of a file; sockets stay where they were made."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(there, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f'cannot enter {namespace}')
        yield
    finally:
        if libc.setns(home, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), 'cannot go back to the first namespace')
        os.close(home)
        os.close(there)


# --- TCP ----------------------------------------------------------------------------------------


def bgp_open(autonomous_system: int, identifier: str) -> bytes:
    """Return an OPEN without capabilities (RFC 4271 4.2), which any speaker may send first."""
    body = bytes((4,)) + autonomous_system.to_bytes(2, 'big') + (180).to_bytes(2, 'big')
    body += ip_address(identifier).packed + bytes((0,))
    return bytes((0xFF,)) * 16 + (19 + len(body)).to_bytes(2, 'big') + bytes((1,)) + body


class Ending(StrEnum):
    """The end of an attempt to speak BGP."""

    NO_CONNECTION = 'the SYN got no answer'
    REFUSED = 'the SYN was refused'
    RESET = 'connected, then reset'
    CLOSED = 'connected, then closed'
    STILL_OPEN = 'still connected'


@dataclass(frozen=True, slots=True)
class Heard:
    """The result of an attempt to speak BGP."""

    ending: Ending
    octets: bytes


@dataclass(frozen=True, slots=True)
class TcpKey:
    """A key and its ids, which may be the victim's or not."""

    algorithm: Algorithm
    send_id: int
    recv_id: int
    secret: bytes
    backend: Preference = Preference.AUTO
    """The backend that signs with this key."""


def speak(
    source: str,
    target: tuple[str, int],
    seconds: float,
    *,
    source_port: int = 0,
    key: TcpKey | None = None,
    hello: bytes = b'',
) -> Heard:
    """Connect, send `hello`, and listen until the peer ends the connection or the time is over.

    The time bounds the whole attempt; a late connection may still be listened to for the rest of
    it.
    """
    deadline = time.monotonic() + seconds
    family = socket.AF_INET if ip_address(source).version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source, source_port))
        with _signing(sock, target, key):
            sock.settimeout(seconds)
            try:
                sock.connect(target)
            except TimeoutError:
                return Heard(Ending.NO_CONNECTION, b'')
            except ConnectionRefusedError:
                return Heard(Ending.REFUSED, b'')
            except ConnectionResetError:
                # The connection came up and was reset before this thread ran.
                return Heard(Ending.RESET, b'')
            return _listen(sock, hello, deadline)


@contextmanager
def _signing(sock: socket.socket, target: tuple[str, int], key: TcpKey | None) -> Iterator[None]:
    """Put the socket under the key, if there is one, and remove the key afterwards.

    Another process may have the same addresses and ports then.
    """
    if key is None:
        yield
        return
    local = sock.getsockname()
    pair = SocketPair(ip_address(local[0]), local[1], ip_address(target[0]), target[1])
    installer = _backend(key.backend).connection_installer()
    _give(installer, sock, pair, key)
    try:
        yield
    finally:
        installer.drop_connection(pair)


def _give(
    installer: Installer[socket.socket], sock: socket.socket, pair: SocketPair, key: TcpKey
) -> None:
    mkt = Mkt(
        f'impostor {pair}',
        pair,
        key.algorithm,
        tcp_options=True,
        send_id=key.send_id,
        recv_id=key.recv_id,
        master_key=Secret(key.secret),
        not_after=float('inf'),
    )
    installer.add_connection(pair, sock)
    installer.submit(Install(mkt, Where.CONNECTION))
    (event,) = installer.events()
    if not isinstance(event, Done):
        raise OSError(f'the impostor cannot sign: {event}')


_STARTING = Lock()
_backends: dict[tuple[int, Preference], Backend] = {}
"""Running backends by network namespace."""


def prepare(backend: Preference) -> None:
    """Start the backend now, so that no attack waits for it. Raises BackendError."""
    _backend(backend)


def _backend(preference: Preference) -> Backend:
    """Return this process's backend in the namespace that this thread is in."""
    here = os.stat('/proc/thread-self/ns/net').st_ino, preference
    with _STARTING:
        if here not in _backends:
            backend = choose(preference)
            backend.start()
            _backends[here] = backend
        return _backends[here]


def finish() -> None:
    """Stop the backends, which keep the ports of their last connections for two more minutes."""
    with _STARTING:
        while _backends:
            _backends.popitem()[1].stop()


atexit.register(finish)


def _listen(sock: socket.socket, hello: bytes, deadline: float) -> Heard:
    received = b''
    try:
        sock.sendall(hello)
        while True:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            octets = sock.recv(65536)
            if not octets:
                return Heard(Ending.CLOSED, received)
            received += octets
    except TimeoutError:
        return Heard(Ending.STILL_OPEN, received)
    except OSError:
        return Heard(Ending.RESET, received)


# --- IKE ----------------------------------------------------------------------------------------


class IkeSpeaker:
    """An IKE endpoint of this namespace with one peer, which begins nothing by itself.

    It only answers while `run` runs. Closing it sends nothing to the peer.
    """

    def __init__(self, peer: Peer, ports: tuple[int, int] = (500, 4500)) -> None:
        self._peer = peer
        self._sockets = UdpSockets(ports)
        self.endpoint = Endpoint(random=os.urandom, local_ports=ports, has_mkts=lambda name: False)
        self.endpoint.set_peer(peer, time.monotonic())
        self.answered = False
        """True once the peer has sent anything at all."""

    def connect(self) -> None:
        """Begin to make an IKE SA."""
        self.endpoint.connect(self._peer.name, time.monotonic())

    def run(self, seconds: float) -> Iterator[Event]:
        """Serve for `seconds`, and yield every event as it comes."""
        now = time.monotonic()
        deadline = now + seconds
        while now < deadline:
            for datagram in self.endpoint.datagrams_to_send():
                self._sockets.send(datagram)
            while (event := self.endpoint.next_event()) is not None:
                if isinstance(event, IkeMessage) and not event.sent:
                    self.answered = True
                yield event
                for datagram in self.endpoint.datagrams_to_send():
                    self._sockets.send(datagram)
            wake = min(deadline, self.endpoint.next_timer() or deadline)
            select.select(self._sockets.filenos(), [], [], max(0.0, wake - now))
            now = time.monotonic()
            for datagram in self._sockets.receive():
                self.endpoint.receive_datagram(datagram, now)
            self.endpoint.handle_timer(now)

    def close(self) -> None:
        """Close the ports."""
        self._sockets.close()


@dataclass(frozen=True, slots=True)
class IkeOutcome:
    """The result of an attempt to make an IKE SA."""

    up: bool
    answered: bool
    """True if the victim sent anything at all."""
    text: str


def ask_for_ike_sa(
    *,
    source: str,
    target: str,
    local_id: Identity,
    remote_id: Identity,
    credential: LocalCredential,
    expected: PeerCredential,
    seconds: float,
    ports: tuple[int, int] = (500, 4500),
) -> IkeOutcome:
    """Try to make an IKE SA from this namespace, as a real initiator does."""
    peer = Peer(
        name='victim',
        local_id=local_id,
        remote_id=remote_id,
        credential=credential,
        remote_credential=expected,
        addresses=((ip_address(source), ip_address(target)),),
    )
    with closing(IkeSpeaker(peer, ports)) as speaker:
        speaker.connect()
        for event in speaker.run(seconds):
            match event:
                # As a responder, the IKE SA is up before the victim, who may begin too, has judged
                # us.
                case IkeSaUp(initiator=True):
                    return IkeOutcome(True, speaker.answered, 'an IKE SA is up')
                case IkeSaFailed(step=step, cause=cause, text=text):
                    words = f'{step}: {cause}: {text}' if text else f'{step}: {cause}'
                    return IkeOutcome(False, speaker.answered, words)
        return IkeOutcome(False, speaker.answered, 'no answer')

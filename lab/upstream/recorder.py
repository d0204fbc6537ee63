"""A BGP speaker that answers every OPEN and keeps what it is sent, octet for octet."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from keymaterial import Secret
from lab.upstream import protecting
from tcpao.kernel.installer import LinuxSocket
from tcpao.key_socket import Key
from tcpao.mkt import ALGORITHMS

_HEADER = 19
_OPEN, _KEEPALIVE = 1, 4
_MARKER = b'\xff' * 16
_AS_TRANS = 23456
_CAPABILITIES = 2
_FOUR_OCTET_AS = 65
_TCP_MD5SIG = 14


@dataclass(slots=True)
class Conversation:
    """The messages of one connection, without KEEPALIVEs: type and body of each."""

    messages: list[tuple[int, bytes]] = field(default_factory=list)
    is_cut: bool = False
    """More would have come."""


class Recorder:
    """A listener on a port of every address; `as_numbers` by the peer's address."""

    def __init__(self, port: int, as_numbers: Mapping[str, int]) -> None:
        self.conversations: list[Conversation] = []
        self.last = time.monotonic()
        self._as_numbers = as_numbers
        self._ended = False
        self._listener = socket.create_server(
            ('::', port), family=socket.AF_INET6, dualstack_ipv6=True
        )
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def expect_md5(self, address: str, password: str) -> None:
        """Sign with TCP MD5 (RFC 2385) what goes to this address, and take nothing else from it."""
        key = password.encode()
        peer = struct.pack('=HHI16sI', socket.AF_INET6, 0, 0, _mapped(address), 0)
        # struct tcp_md5sig (linux/tcp.h): sockaddr_storage, flags and prefix, length, ifindex, key
        option = struct.pack('=128sBBHI80s', peer, 0, 0, len(key), 0, key)
        self._listener.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG, option)

    def expect_ao(self, address: str) -> None:
        """Sign with TCP-AO what goes to this address, by the key of `protecting`."""
        key = Key(
            peer=ip_network(address),
            send_id=protecting.RECV_ID,
            recv_id=protecting.SEND_ID,
            algorithm=ALGORITHMS[protecting.ALGORITHM],
            tcp_options=True,
            master_key=Secret(protecting.SECRET),
        )
        LinuxSocket(self._listener).add(key, select=False)

    def close(self) -> None:
        """End the listener and every connection."""
        self._ended = True
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while not self._ended:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            conversation = Conversation()
            self.conversations.append(conversation)
            threading.Thread(
                target=self._serve, args=(connection, conversation), daemon=True
            ).start()

    def _serve(self, connection: socket.socket, conversation: Conversation) -> None:
        ours = connection.getsockname()[0].removeprefix('::ffff:')
        with contextlib.suppress(OSError, EOFError):
            while True:
                kind, body = _message(connection)
                if kind == _KEEPALIVE:
                    connection.sendall(_MARKER + struct.pack('!HB', _HEADER, _KEEPALIVE))
                    continue
                if self._ended:
                    return
                conversation.messages.append((kind, body))
                self.last = time.monotonic()
                if kind == _OPEN:
                    answer = answer_to(body, self._as_numbers.get(ours))
                    length = struct.pack('!HB', _HEADER + len(answer), _OPEN)
                    connection.sendall(_MARKER + length + answer)
                    connection.sendall(_MARKER + struct.pack('!HB', _HEADER, _KEEPALIVE))


def _mapped(address: str) -> bytes:
    text = address if ':' in address else f'::ffff:{address}'
    return socket.inet_pton(socket.AF_INET6, text)


def _message(connection: socket.socket) -> tuple[int, bytes]:
    header = _exactly(connection, _HEADER)
    length, kind = struct.unpack('!HB', header[16:])
    return kind, _exactly(connection, length - _HEADER)


def _exactly(connection: socket.socket, count: int) -> bytes:
    octets = b''
    while len(octets) < count:
        more = connection.recv(count - len(octets))
        if not more:
            raise EOFError
        octets += more
    return octets


def answer_to(body: bytes, as_number: int | None) -> bytes:
    """Return an OPEN with the same capabilities, another router id and another AS number."""
    version, theirs, hold_time, router_id = struct.unpack('!BHHI', body[:9])
    rest = bytearray(body[9:])
    if as_number is not None:
        theirs = min(as_number, 0xFFFF) if as_number <= 0xFFFF else _AS_TRANS
        for at in _four_octet_as(rest):
            rest[at : at + 4] = struct.pack('!I', as_number)
    return struct.pack('!BHHI', version, theirs, hold_time, router_id ^ 1) + bytes(rest)


def _four_octet_as(parameters: bytearray) -> list[int]:
    """Return the offsets of four-octet AS numbers in the optional parameters of an OPEN."""
    found: list[int] = []
    extended = parameters[:2] == b'\xff\xff'
    at, wide = (4, 2) if extended else (1, 1)
    while at + 1 + wide <= len(parameters):
        kind = parameters[at]
        length = int.from_bytes(parameters[at + 1 : at + 1 + wide])
        start = at + 1 + wide
        at = start + length
        while kind == _CAPABILITIES and start + 2 <= at:
            if parameters[start] == _FOUR_OCTET_AS:
                found.append(start + 2)
            start += 2 + parameters[start + 1]
    return found

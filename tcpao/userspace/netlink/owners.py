"""The socket of this host that has a socket pair, or gets its SYN: asked of inet_diag.

One message for one socket (SOCK_DIAG_BY_FAMILY), some 12 microseconds; the kernel answers within
the call. It looks sockets up as for an arriving segment: a connection first, then a listening
socket. Sources: include/uapi/linux/inet_diag.h, net/ipv4/inet_diag.c.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Set
from struct import Struct
from typing import Final, NamedTuple

from tcpao.mkt import SocketPair
from tcpao.userspace.netlink.messages import ERROR, HEADER, attribute

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_ALL_STATES: Final = 0xFFFFFFFF
_NO_COOKIE: Final = 0xFFFFFFFFFFFFFFFF
_LISTEN: Final = 10
_INFO: Final = 2
"""INET_DIAG_INFO: struct tcp_info."""

# inet_diag_req_v2; its ports and addresses are in network byte order.
_REQUEST: Final = Struct('=BBBBI')
_SOCKET: Final = Struct('!HH16s16s')
_REST: Final = Struct('=IQ')
# inet_diag_msg: family, state, two timers, the socket as in the request, then expires, two queues,
# uid, inode.
_ANSWER: Final = Struct('=xBxx36x4xQ12xII')
_ERRNO: Final = Struct('=i')
# struct tcp_info: tcpi_bytes_acked and tcpi_bytes_received, u64 each.
_OCTETS: Final = Struct('=QQ')
_OCTETS_AT: Final = 120

_ANSWER_WITHIN: Final = 1.0
"""Seconds. The kernel answers at once; nothing may stop the packet process."""


class Found(NamedTuple):
    """A socket that the kernel has found."""

    cookie: int
    listens: bool
    uid: int
    inode: int
    """0 if no process has a descriptor of the socket: TIME-WAIT, and closed sockets."""
    octets: tuple[int, int] | None
    """Octets sent and acknowledged, received in order; None if not asked for."""


class SocketOwners:
    """A client of inet_diag, in the network namespace of the thread that makes this object."""

    def __init__(self) -> None:
        """Open the socket. Raises OSError if the kernel has no inet_diag."""
        self._sequence = 0
        self._diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
        self._diag.settimeout(_ANSWER_WITHIN)

    def has_pair(self, cookie: int, pair: SocketPair, interface: int) -> bool:
        found = self.find(pair, interface)
        return found is not None and not found.listens and found.cookie == cookie

    def is_free_of_others(self, cookie: int, pair: SocketPair, interface: int) -> bool:
        try:
            found = self._ask(pair, pair.remote_port, interface, 0)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return found.listens or found.cookie == cookie or not found.inode

    def receives_syn(self, cookies: Set[int], pair: SocketPair, interface: int) -> bool:
        try:
            # No connection has the port 0: the answer is the listening socket, even while a
            # connection has the pair.
            found = self._ask(pair, 0, interface, 0)
        except OSError:
            return False
        return found.listens and found.cookie in cookies

    def find(self, pair: SocketPair, interface: int, *, octets: bool = False) -> Found | None:
        """Return the socket with this pair, or the listening one; None if the kernel finds none.

        With `octets`, the counts of sent and received octets too.
        """
        try:
            return self._ask(pair, pair.remote_port, interface, 1 << _INFO - 1 if octets else 0)
        except OSError:
            return None

    def close(self) -> None:
        """Close the socket."""
        self._diag.close()

    def _ask(self, pair: SocketPair, remote_port: int, interface: int, extensions: int) -> Found:
        """Return the kernel's answer. Raises OSError; FileNotFoundError if there is no socket."""
        family = socket.AF_INET if pair.local.version == 4 else socket.AF_INET6
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        body = (
            _REQUEST.pack(family, socket.IPPROTO_TCP, extensions, 0, _ALL_STATES)
            + _SOCKET.pack(pair.local_port, remote_port, pair.local.packed, pair.remote.packed)
            + _REST.pack(interface, _NO_COOKIE)
        )
        size = HEADER.size + len(body)
        head = HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._sequence, 0)
        self._diag.send(head + body)
        while True:
            answer = self._diag.recv(4096)
            _, kind, _, sequence, _ = HEADER.unpack_from(answer)
            # A late answer belongs to an earlier question.
            if sequence == self._sequence:
                break
        if kind == ERROR:
            number = -_ERRNO.unpack_from(answer, HEADER.size)[0]
            raise OSError(number, os.strerror(number))
        return _found(answer[HEADER.size :])


def _found(body: bytes) -> Found:
    state, cookie, uid, inode = _ANSWER.unpack_from(body)
    info = attribute(body[_ANSWER.size :], _INFO)
    known = info is not None and len(info) >= _OCTETS_AT + _OCTETS.size
    octets = _OCTETS.unpack_from(info, _OCTETS_AT) if info is not None and known else None
    return Found(cookie, state == _LISTEN, uid, inode, octets)

"""Fixed source ports stay ours between two attempts, and no other user can bind a port of ours.

SO_REUSEADDR, which daemons set, lets any user of the host bind the same port. SO_REUSEPORT lets
only sockets of the same user do so, if all of them have it; so it holds a fixed port, and a port
chosen by the kernel has neither.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Set
from typing import Any

from gatekeeper.policy.addresses import address_of
from tcpao.mkt import IPAddress
from tcpao.userspace.netlink.port_holders import describe_holders

_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


def keep_port_private(sock: socket.socket, *, pinned: bool) -> None:
    """Set the options before bind(), so that no other user can bind the port."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(pinned))


def explain_taken_port(number: int | None, local: IPAddress, port: int) -> str:
    """Return the process that has the port, for the error of a bind() or connect().

    Empty if that is not the reason, or if the process is not visible.
    """
    holders = describe_holders(local, port) if number in _TAKEN else ''
    return f': port {port} belongs to {holders}' if holders else ''


class PinnedPorts:
    """The fixed source ports in use, each held by a socket that never connects."""

    def __init__(self) -> None:
        self._held: dict[tuple[Any, ...], socket.socket] = {}

    def hold(self, sock: socket.socket) -> None:
        """Hold the port that this socket is bound to, also after the socket is closed.

        If that fails, the port is free between two attempts, and nothing else changes.
        """
        name = sock.getsockname()
        if name in self._held:
            return
        holder = socket.socket(sock.family, socket.SOCK_STREAM)
        try:
            keep_port_private(holder, pinned=True)
            device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
            if any(device):
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            holder.bind(name)
        except OSError:
            holder.close()
            return
        self._held[name] = holder

    def keep(self, wanted: Set[tuple[IPAddress, int]]) -> None:
        """Release all ports but these addresses and ports."""
        for name in list(self._held):
            if (address_of(name[0]), name[1]) not in wanted:
                self._held.pop(name).close()

    def close(self) -> None:
        """Release all ports."""
        self.keep(frozenset())

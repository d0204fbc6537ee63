"""One descriptor that wakes a routing daemon for all our descriptors that it doesn't poll itself.

A daemon sleeps on its own poll set, which may hold neither listeners nor connecting sockets, for
minutes. An epoll descriptor is readable when anything in it is, so the daemon polls that one, and
its bookkeeping of descriptors never sees ours.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress

COMMANDS = select.EPOLLIN
"""The gatekeeper's descriptor."""
INCOMING = select.EPOLLIN | select.EPOLLET
"""A listening socket: one wake-up per arrival, since a daemon may accept one connection a turn, and
a level would spin when accept() fails for lack of descriptors."""
CONNECTED = select.EPOLLOUT
"""A socket that is connecting."""
ENDED = select.EPOLLIN | select.EPOLLRDHUP
"""A socket of which only the end is awaited."""


class Wakeup:
    """The set of descriptors that wake the daemon's loop."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """Return the descriptor for the daemon's poll set."""
        return self._epoll.fileno()

    def watch(self, descriptor: int | socket.socket, events: int) -> None:
        """Wake on one of `events`; replaces the events watched before."""
        try:
            self._epoll.register(descriptor, events)
        except FileExistsError:
            self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int | socket.socket) -> None:
        """Stop watching a descriptor, which may be closed already."""
        with suppress(OSError, ValueError):
            self._epoll.unregister(descriptor)

    def clear(self) -> None:
        """Clear the arrivals so far: the daemon's loop is awake."""
        self._epoll.poll(0)

    def close(self) -> None:
        """Close the descriptor."""
        self._epoll.close()

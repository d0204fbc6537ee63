"""One descriptor that wakes a routing daemon for everything of ours that it doesn't poll itself.

A daemon sleeps on its own poll set, which may hold neither listeners nor sockets that connect, for
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
"""A listening socket: one wake-up per arrival, for a daemon may take one connection a turn, and a
level would spin when accept() fails for want of descriptors."""
CONNECTED = select.EPOLLOUT
"""A socket that connects."""
ENDED = select.EPOLLIN | select.EPOLLRDHUP
"""A socket of which only the end is awaited."""


class Wakeup:
    """The set of descriptors that wake the reactor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """For the reactor's poll set."""
        return self._epoll.fileno()

    def watch(self, descriptor: int | socket.socket, events: int) -> None:
        """Wake when one of `events` happens; replaces what was watched for before."""
        try:
            self._epoll.register(descriptor, events)
        except FileExistsError:
            self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int | socket.socket) -> None:
        """Don't wake for it any more; it may be closed already."""
        with suppress(OSError, ValueError):
            self._epoll.unregister(descriptor)

    def clear(self) -> None:
        """The reactor is awake: arrivals seen so far have done their work."""
        self._epoll.poll(0)

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()

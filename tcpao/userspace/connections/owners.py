"""The current owner of a pair: the question that the packet path asks the kernel.

Addresses and ports do not identify a socket: any user of this host may have had them earlier, or
may get them later. The answer comes from outside (`tcpao.userspace.netlink.owners`); no I/O here.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from tcpao.mkt import SocketPair


class Owners(Protocol):
    """The kernel's answers at this moment; False if the kernel does not answer.

    `interface` is the index of the device that the packet leaves or arrived by; sockets that are
    bound to another device don't count.
    """

    def has_pair(self, cookie: int, pair: SocketPair, interface: int) -> bool:
        """Return True if the socket with this SO_COOKIE is the one that has the pair."""

    def is_free_of_others(self, cookie: int, pair: SocketPair, interface: int) -> bool:
        """Return True if no other socket has the pair that a process could read from."""

    def receives_syn(self, cookies: Set[int], pair: SocketPair, interface: int) -> bool:
        """Return True if one of these listening sockets is the one that gets the pair's SYN."""

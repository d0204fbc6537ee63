"""Which socket a packet belongs to now: the question that the packet path asks the kernel.

Addresses and ports name no socket: any user of this host may have had them before us, or has them
when we are done. The answer comes from outside (`tcpao.userspace.netlink.owners`); no I/O here.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from tcpao.mkt import SocketPair


class Owners(Protocol):
    """Answers of the kernel at this moment. An answer that cannot be had is False.

    `interface` is the index of the device that the packet leaves or came by; a socket that is
    bound to another device is not meant.
    """

    def has_pair(self, cookie: int, pair: SocketPair, interface: int) -> bool:
        """Return True if the socket with this SO_COOKIE is the one that has the pair."""

    def is_free_of_others(self, cookie: int, pair: SocketPair, interface: int) -> bool:
        """Return True if no other socket has the pair that somebody could read from."""

    def hears(self, cookies: Set[int], pair: SocketPair, interface: int) -> bool:
        """Return True if one of these listening sockets is the one that gets the pair's SYN."""

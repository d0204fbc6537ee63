"""Handshakes, and connections that nobody has accepted yet: not more than so many.

Who has a key may begin as many as he likes, and they are forgotten for no other reason. So his own
make room for his next one, not those of the other peers.
"""

from __future__ import annotations

from typing import Final

from tcpao.mkt import IPAddress, SocketPair
from tcpao.userspace.connections.connection import Connection
from tcpao.userspace.connections.handshake import Handshake

MOST_WAITING: Final = 1024

Entry = Connection | Handshake


class WaitingEntries:
    """By peer, oldest first."""

    def __init__(self) -> None:
        self._by_peer: dict[IPAddress, dict[SocketPair, Entry]] = {}
        self._count = 0

    def add(self, entry: Entry) -> Entry | None:
        """Take one whose pair no other has. Return the one that must go, if there are too many: the
        oldest of the peer that has most."""
        self._by_peer.setdefault(entry.pair.remote, {})[entry.pair] = entry
        self._count += 1
        if self._count <= MOST_WAITING:
            return None
        return next(iter(max(self._by_peer.values(), key=len).values()))

    def discard(self, entry: Entry) -> None:
        """Forget one, if it is here."""
        of_peer = self._by_peer.get(entry.pair.remote, {})
        if of_peer.get(entry.pair) is not entry:
            return
        del of_peer[entry.pair]
        self._count -= 1
        if not of_peer:
            del self._by_peer[entry.pair.remote]

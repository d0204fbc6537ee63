"""A limit on handshakes, and on connections that are not accepted yet.

A peer with a key may begin any number of them, and nothing else bounds them. So one peer's entries
make room for its own next one, not for those of other peers.
"""

from __future__ import annotations

from typing import Final

from tcpao.mkt import IPAddress, SocketPair
from tcpao.userspace.connections.connection import Connection
from tcpao.userspace.connections.handshake import Handshake

MOST_WAITING: Final = 1024

Entry = Connection | Handshake


class WaitingEntries:
    """Waiting entries by peer, oldest first."""

    def __init__(self) -> None:
        self._by_peer: dict[IPAddress, dict[SocketPair, Entry]] = {}
        self._count = 0

    def add(self, entry: Entry) -> Entry | None:
        """Add an entry whose pair no other has; return the one to drop, if there are too many.

        That is the oldest of the peer that has most.
        """
        self._by_peer.setdefault(entry.pair.remote, {})[entry.pair] = entry
        self._count += 1
        if self._count <= MOST_WAITING:
            return None
        return next(iter(max(self._by_peer.values(), key=len).values()))

    def discard(self, entry: Entry) -> None:
        """Forget an entry, if present."""
        of_peer = self._by_peer.get(entry.pair.remote, {})
        if of_peer.get(entry.pair) is not entry:
            return
        del of_peer[entry.pair]
        self._count -= 1
        if not of_peer:
            del self._by_peer[entry.pair.remote]

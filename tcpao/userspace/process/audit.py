"""A check for octets that bypass the packet process: TCP's own counts against the signed and
verified ones.

Another program's rule that accepts a packet before ours hides it from this process, without any
event. So TCP is asked periodically while there are connections: 12 microseconds each, at most 3 ms
in a second however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tcpao.userspace.connections.connection import Connection
from tcpao.userspace.connections.sockets_table import SocketsTable
from tcpao.userspace.netlink.owners import SocketOwners

EVERY: Final = 1.0
"""Seconds between two checks."""
MOST_AT_ONCE: Final = 250
"""Connections in one check; with more of them, each is checked less often."""


class Audit:
    """A check of the connections in turn. No clock: `now` is in seconds."""

    def __init__(self, owners: SocketOwners) -> None:
        self._owners = owners
        self._begin_at = 0
        self.due: float | None = None
        """When to check next; None while there is no connection."""

    def take_bypassed(self, table: SocketsTable, now: float) -> list[Connection]:
        """Return, if a check is due, the connections with octets that were not seen here; each
        once.
        """
        if next(table.connections(), None) is None:
            self.due = None
            return []
        looks = self.due is not None and self.due <= now
        if looks or self.due is None:
            self.due = now + EVERY
        return self._find_bypassed(table.connections()) if looks else []

    def _find_bypassed(self, connections: Iterable[Connection]) -> list[Connection]:
        known = [one for one in connections if one.cookie is not None and not one.is_bypassed]
        begin = self._begin_at if self._begin_at < len(known) else 0
        self._begin_at = begin + MOST_AT_ONCE
        return [one for one in known[begin : self._begin_at] if self._passed_by(one)]

    def _passed_by(self, connection: Connection) -> bool:
        found = self._owners.find(connection.pair, connection.interface, octets=True)
        if found is None or found.octets is None or found.cookie != connection.cookie:
            return False
        return connection.find_bypass(*found.octets)

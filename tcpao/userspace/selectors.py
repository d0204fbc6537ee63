"""Which traffic must come to the queue, and which rules that takes: one for every selector that no
wider one covers. Kept up to date, not worked out anew: each command asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from tcpao.mkt import IPAddress, IPNetwork, SocketPair
from tcpao.prefixes import Prefixes


@dataclass(frozen=True, slots=True)
class Selector:
    """Traffic that must come to the queue, in and out. None is any."""

    local: IPAddress | None
    local_port: int
    remote: IPNetwork
    remote_port: int | None

    def covers(self, other: Selector) -> bool:
        """True if all of the other's traffic is this one's."""
        return (
            self.local_port == other.local_port
            and self.local in (None, other.local)
            and self.remote_port in (None, other.remote_port)
            and self.remote.version == other.remote.version
            and other.remote.network_address in self.remote
            and self.remote.prefixlen <= other.remote.prefixlen
        )


def only(pair: SocketPair) -> Selector:
    """The packets of one connection."""
    return Selector(pair.local, pair.local_port, ip_network(pair.remote), pair.remote_port)


class Selectors:
    """What is wanted, how often, and what of it needs a rule."""

    def __init__(self) -> None:
        self._wanted: dict[Selector, int] = {}
        self._by_peer: Prefixes[Selector] = Prefixes()
        """The same: only those of one peer can cover each other."""
        self._rules: set[Selector] = set()

    def rules(self) -> frozenset[Selector]:
        """What needs a rule of its own."""
        return frozenset(self._rules)

    def add(self, selector: Selector) -> None:
        """Want it, once more."""
        count = self._wanted.get(selector, 0)
        self._wanted[selector] = count + 1
        if count:
            return
        if not self._is_covered(selector):
            self._rules.difference_update(self._covered_by(selector))
            self._rules.add(selector)
        self._by_peer.add(selector.remote, selector)

    def discard(self, selector: Selector) -> None:
        """Want it once less."""
        self._wanted[selector] -= 1
        if self._wanted[selector]:
            return
        del self._wanted[selector]
        self._by_peer.remove(selector.remote, selector)
        if selector in self._rules:
            self._rules.remove(selector)
            bare = (one for one in self._covered_by(selector) if not self._is_covered(one))
            self._rules.update(bare)

    def _covered_by(self, selector: Selector) -> Iterator[Selector]:
        if selector.remote_port is None:
            there = self._by_peer.overlapping(selector.remote)
            yield from (one for one in there if one != selector and selector.covers(one))

    def _is_covered(self, selector: Selector) -> bool:
        return any(
            one != selector and one.remote_port is None and one.covers(selector)
            for one in self._by_peer.covering(selector.remote)
        )

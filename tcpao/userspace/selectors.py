"""The traffic that must come to the queue, and the rules for it.

One rule for every selector that no wider one covers. Kept up to date, not computed anew: each
command asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from tcpao.mkt import IPAddress, IPNetwork, SocketPair
from tcpao.prefixes import Prefixes


@dataclass(frozen=True, slots=True)
class Selector:
    """Traffic that must come to the queue, in and out. None matches any value."""

    local: IPAddress | None
    local_port: int
    remote: IPNetwork
    remote_port: int | None
    live: bool = False
    """True for an open connection's packets as they arrive, SYNs aside: read before others.

    Such a selector comes beside the one that protects the connection, and protects nothing.
    """

    def covers(self, other: Selector) -> bool:
        """Return True if all of the other selector's traffic is in this one's."""
        return (
            self.local_port == other.local_port
            and self.local in (None, other.local)
            and self.remote_port in (None, other.remote_port)
            and self.remote.version == other.remote.version
            and other.remote.network_address in self.remote
            and self.remote.prefixlen <= other.remote.prefixlen
        )


def only(pair: SocketPair, *, live: bool = False) -> Selector:
    """Return the selector of one connection's packets."""
    return Selector(pair.local, pair.local_port, ip_network(pair.remote), pair.remote_port, live)


class Selectors:
    """Counts of the wanted selectors, and those among them that need a rule.

    Only a selector without a remote port covers others. A peer has few of those, however many
    connections it has, so the cost of a connection does not depend on the others.
    """

    def __init__(self) -> None:
        self._wanted: dict[Selector, int] = {}
        self._wide: Prefixes[Selector] = Prefixes()
        """Selectors without a remote port."""
        self._narrow: dict[tuple[IPNetwork, int], dict[Selector, None]] = {}
        """Selectors with a remote port, by peer and local port."""
        self._rules: dict[Selector, None] = {}
        self._told: frozenset[Selector] | None = None

    def rules(self) -> frozenset[Selector]:
        """Return the selectors that need a rule of their own; the same object until that
        changes.
        """
        if self._told is None:
            self._told = frozenset(self._rules)
        return self._told

    def add(self, selector: Selector) -> None:
        """Count a selector once more."""
        count = self._wanted.get(selector, 0)
        self._wanted[selector] = count + 1
        if count:
            return
        if selector.live:
            self._rules[selector] = self._told = None
            return
        if not self._is_covered(selector):
            for one in self._covered_by(selector):
                self._rules.pop(one, None)
            self._rules[selector] = None
            self._told = None
        if selector.remote_port is None:
            self._wide.add(selector.remote, selector)
        else:
            self._narrow.setdefault(_place(selector), {})[selector] = None

    def discard(self, selector: Selector) -> None:
        """Count a selector once less."""
        self._wanted[selector] -= 1
        if self._wanted[selector]:
            return
        del self._wanted[selector]
        if selector.live:
            del self._rules[selector]
            self._told = None
            return
        if selector.remote_port is None:
            self._wide.remove(selector.remote, selector)
        else:
            there = self._narrow[_place(selector)]
            del there[selector]
            if not there:
                del self._narrow[_place(selector)]
        if selector in self._rules:
            del self._rules[selector]
            for one in self._covered_by(selector):
                if not self._is_covered(one):
                    self._rules[one] = None
            self._told = None

    def _covered_by(self, selector: Selector) -> list[Selector]:
        if selector.remote_port is not None:
            return []
        found = list(self._wide.overlapping(selector.remote))
        if selector.remote.prefixlen == selector.remote.max_prefixlen:
            found += self._narrow.get(_place(selector), ())
        else:
            for (_, port), there in self._narrow.items():
                if port == selector.local_port:
                    found += there
        return [one for one in found if one != selector and selector.covers(one)]

    def _is_covered(self, selector: Selector) -> bool:
        return any(
            one != selector and one.covers(selector) for one in self._wide.covering(selector.remote)
        )


def _place(selector: Selector) -> tuple[IPNetwork, int]:
    return selector.remote, selector.local_port

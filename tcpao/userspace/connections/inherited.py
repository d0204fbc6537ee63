"""Protection inherited from a killed process: its pairs stay blocked until no peer can use them.

The peers don't know that the process is dead. If their segments reached our TCP, it would answer
them unsigned, since it does not know such a connection any more. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final

from tcpao.mkt import IPAddress, SocketPair
from tcpao.prefixes import Prefixes
from tcpao.userspace.selectors import Selector, Selectors, only

LASTING: Final = 300.0
"""Seconds until a peer must have noticed: a hold time, of 180 at most as a rule, and 113 in which
its TCP repeats a FIN."""


class InheritedProtection:
    """Traffic that is dropped in both directions, unless a socket of ours has a key for it."""

    def __init__(self, wanted: Selectors) -> None:
        self._wanted = wanted
        self._by_peer: Prefixes[Selector] = Prefixes()
        self._left: set[Selector] = set()
        self.until: float | None = None
        """When to forget all, in seconds of the caller's clock; None if there is nothing."""

    def take(self, selectors: Iterable[Selector], now: float) -> None:
        """Take the traffic of the rules that were left; called once, at the start."""
        for selector in set(selectors):
            self._left.add(selector)
            self._by_peer.add(selector.remote, selector)
            self._wanted.add(selector)
        if self._left:
            self.until = now + LASTING

    def holds(self, pair: SocketPair) -> bool:
        """Return True if this connection's packets must be dropped."""
        if self.until is None:
            return False
        wanted = only(pair)
        return any(selector.covers(wanted) for selector in self._by_peer.covering(pair.remote))

    def keep(self, peers: Set[IPAddress]) -> None:
        """Forget traffic of all other peers, which are not protected any more."""
        for selector in list(self._left):
            remote = selector.remote
            if remote.network_address not in peers and not any(peer in remote for peer in peers):
                self._forget(selector)

    def expire(self, now: float) -> bool:
        """Forget all when the time is over; return True if there was something."""
        if self.until is None or now < self.until:
            return False
        for selector in list(self._left):
            self._forget(selector)
        return True

    def _forget(self, selector: Selector) -> None:
        self._left.remove(selector)
        self._by_peer.remove(selector.remote, selector)
        self._wanted.discard(selector)
        if not self._left:
            self.until = None

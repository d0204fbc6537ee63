"""A table by prefix, searched without a look at all entries.

A route server has a thousand peers, and a SYN is for one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from tcpao.mkt import IPAddress, IPNetwork

What = TypeVar('What')

_Place = tuple[int, int, int]
"""Version, length of the prefix, its bits."""


class Prefixes(Generic[What]):
    """A table of values that each belong to a prefix; any number for each prefix."""

    def __init__(self) -> None:
        self._there: dict[_Place, list[What]] = {}
        self._lengths: dict[tuple[int, int], int] = {}
        """The number of prefixes of each version and length."""

    def add(self, prefix: IPNetwork, what: What) -> None:
        """Add a value; the newest of a prefix comes first."""
        place = _place(prefix)
        there = self._there.setdefault(place, [])
        if not there:
            self._lengths[place[:2]] = self._lengths.get(place[:2], 0) + 1
        there.insert(0, what)

    def remove(self, prefix: IPNetwork, what: What) -> None:
        """Remove a value, which must be present."""
        place = _place(prefix)
        there = self._there.get(place, [])
        there.remove(what)
        if not there:
            del self._there[place]
            self._lengths[place[:2]] -= 1
            if not self._lengths[place[:2]]:
                del self._lengths[place[:2]]

    def covering(self, whom: IPAddress | IPNetwork) -> Iterator[What]:
        """Yield the values of all prefixes that contain `whom` entirely."""
        version, longest, bits = _place(whom)
        for of, length in self._lengths:
            if of == version and length <= longest:
                yield from self._there.get((version, length, bits >> (longest - length)), ())

    def overlapping(self, prefix: IPNetwork) -> Iterator[What]:
        """Yield the values of all prefixes that have an address in common with `prefix`."""
        version, shortest, bits = _place(prefix)
        yield from self.covering(prefix)
        if any(of == version and length > shortest for of, length in self._lengths):
            for (of, length, inner), there in self._there.items():
                if of == version and length > shortest and inner >> (length - shortest) == bits:
                    yield from there


def _place(whom: IPAddress | IPNetwork) -> _Place:
    if isinstance(whom, IPAddress):
        return whom.version, whom.max_prefixlen, int(whom)
    length = whom.prefixlen
    return whom.version, length, int(whom.network_address) >> (whom.max_prefixlen - length)

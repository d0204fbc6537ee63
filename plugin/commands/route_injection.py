"""Routes and messages from the API, where a neighbor block has become several sessions.

An API process means the neighbor; upstream passes its command to every copy, which rejects families
of another copy, or sends an End-of-RIB for them. So each command goes to the copy that has the
family.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from exabgp.configuration.configuration import _Configuration

from plugin.configuration.neighbors import protection_of
from plugin.patching import wrap


def narrowed(neighbors: dict[str, Any], peers: Iterable[str], family: Any) -> list[str]:
    """Return `peers` without sessions of a split neighbor that lack the family, if another has
    it.
    """
    names = list(peers)
    served = {_block(neighbors[name]) for name in names if _has(neighbors, name, family)} - {None}
    return [
        name
        for name in names
        if name not in neighbors
        or _block(neighbors[name]) not in served
        or _has(neighbors, name, family)
    ]


def _block(neighbor: Any) -> int | None:
    """Return a number that sessions of one neighbor block share; None if it isn't split."""
    protection = protection_of(neighbor)
    return id(protection) if protection is not None and len(protection.sessions) > 1 else None


def _has(neighbors: dict[str, Any], name: str, family: Any) -> bool:
    return name in neighbors and tuple(family) in neighbors[name].families()


def _change(original: Any, self: Any, peers: Collection[str], change: Any) -> Any:
    family = change.nlri.family().afi_safi()
    return original(self, narrowed(self.neighbors, peers, family), change)


def _eor(original: Any, self: Any, peers: Collection[str], family: Any) -> Any:
    return original(self, narrowed(self.neighbors, peers, family.afi_safi()), family)


def _operational(original: Any, self: Any, peers: Collection[str], operational: Any) -> Any:
    return original(self, narrowed(self.neighbors, peers, operational.family()), operational)


def _refresh(original: Any, self: Any, peers: Collection[str], refreshes: Any) -> Any:
    results = [
        original(self, narrowed(self.neighbors, peers, (one.afi, one.safi)), [one])
        for one in refreshes
    ]
    return all(results)


def install() -> None:
    """Patch the part of ExaBGP's configuration that the API uses."""
    wrap(_Configuration, 'inject_change', _change)
    wrap(_Configuration, 'inject_eor', _eor)
    wrap(_Configuration, 'inject_operational', _operational)
    wrap(_Configuration, 'inject_refresh', _refresh)

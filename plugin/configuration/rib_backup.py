"""A backup of ExaBGP's RIBs, restored when a configuration is refused.

Upstream keeps a RIB under its neighbor's name for ever, and a neighbor that is being parsed gets
the RIB that is in use: routes of a configuration that is refused in the end would be announced.
"""

from __future__ import annotations

from typing import Any

from exabgp.rib import RIB


class RibBackup:
    """All RIBs at one moment; routes themselves are never changed, so only tables are copied."""

    def __init__(self) -> None:
        self._ribs = dict(RIB._cache)
        halves = [half for rib in self._ribs.values() for half in (rib.incoming, rib.outgoing)]
        self._halves = [(half, _copy(vars(half))) for half in halves]

    def put_back(self) -> None:
        """Undo the changes of a load. Only once: the tables are used, not copied again."""
        RIB._cache.clear()
        RIB._cache.update(self._ribs)
        for half, tables in self._halves:
            vars(half).update(tables)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(one) for key, one in value.items()}
    return value.copy() if isinstance(value, list | set) else value

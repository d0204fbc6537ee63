"""Rules of killed daemons, where no new daemon replaces them."""

from __future__ import annotations

from tcpao.second_net.numbers import nobody_holds
from tcpao.second_net.ways import existing


def remove_left_behind() -> list[str]:
    """Remove the nets of this network namespace that no keeper holds; return their names.

    Raises RulesError.
    """
    removed = []
    for way, number in existing():
        if nobody_holds([number]):
            way.replace(number, ())
            removed.append(way.name(number))
    return removed

"""The choice of the kind of rules that works here, and rules of a killed process of ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from tcpao.userspace.rules.existing_tables import may_have_tables
from tcpao.userspace.rules.interface import NAME, Kind, Rules, RulesError
from tcpao.userspace.selectors import Selector


def choose(queue: int, kinds: Iterable[Kind] = Kind) -> Rules:
    """Return the first kind of rules that works here. Raises RulesError with each one's error."""
    reasons = []
    for kind in kinds:
        try:
            return _MAKERS[kind](kind, queue)
        except RulesError as error:
            reasons.append(f'{kind}: {error}')
    raise RulesError(
        'packets can be sent to a queue neither way here (' + '; '.join(reasons) + '): install '
        'iptables, or use a kernel with CONFIG_NFT_QUEUE or the NFQUEUE target'
    )


def left_behind(
    bound: Callable[[Collection[int]], set[int]], kinds: Iterable[Kind] = Kind
) -> dict[int, frozenset[Selector]]:
    """Return queues without a listener that rules of ours lead to, and the traffic of each.

    Rules are listed before `bound` is asked for the queues with a listener: a process that makes
    rules listens first, so none in use is taken for one of a killed process. All kinds are asked,
    since the last process may have used another one. Raises the errors of `bound`.
    """
    found: dict[int, set[Selector]] = {}
    for kind in kinds:
        for queue, selectors in _listed(kind).items():
            found.setdefault(queue, set()).update(selectors)
    alive = bound(found)
    return {queue: frozenset(selectors) for queue, selectors in found.items() if queue not in alive}


def remove_stale(queues: Collection[int], kinds: Iterable[Kind] = Kind) -> list[str]:
    """Remove our rules that lead to these queues; return their names. Raises RulesError."""
    if not queues:
        return []
    found = []
    for kind in kinds:
        if kind is Kind.NFTABLES:
            if not may_have_tables(NAME):
                continue
            from tcpao.userspace.rules import nftables as rules_nftables

            found += rules_nftables.remove_queues(queues)
        else:
            from tcpao.userspace.rules import iptables as rules_iptables

            found += rules_iptables.remove_queues(kind, queues)
    return found


def _listed(kind: Kind) -> dict[int, set[Selector]]:
    """Return the queues of all rules of ours, of any process, and their traffic."""
    if kind is Kind.NFTABLES:
        if not may_have_tables(NAME):
            return {}
        from tcpao.userspace.rules import nftables as rules_nftables

        return rules_nftables.listed()
    from tcpao.userspace.rules import iptables as rules_iptables

    return rules_iptables.listed(kind)


def _nftables(_kind: Kind, queue: int) -> Rules:
    # Slow to import: only where it is tried.
    from tcpao.userspace.rules.nftables import NftablesRules

    return NftablesRules(queue)


def _iptables(kind: Kind, queue: int) -> Rules:
    from tcpao.userspace.rules.iptables import IptablesRules

    return IptablesRules(kind, queue)


_MAKERS: Final[dict[Kind, Callable[[Kind, int], Rules]]] = {
    Kind.NFTABLES: _nftables,
    Kind.IPTABLES: _iptables,
    Kind.IPTABLES_LEGACY: _iptables,
    Kind.IPTABLES_NFT: _iptables,
}

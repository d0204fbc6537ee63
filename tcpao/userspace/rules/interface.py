"""Which way protected traffic is sent to the queue: nftables where it can, else iptables.

The kernel is asked, not assumed to: a rule is tried. Each rule says in a comment that it is ours
which queue it leads to, and what for; a rule whose queue nobody listens on was left behind by a
process that was killed. It drops what it matches until the next one has taken its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Set
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Final, Protocol

from tcpao.userspace.rules.existing_tables import may_have_tables
from tcpao.userspace.rules.nftables_watch import Watch
from tcpao.userspace.selectors import Selector

NAME: Final = 'exabgp-gatekeeper'
_ENDS: Final = re.compile(r': (any address|\S+) (\d+), (\S+) (any port|\d+)$')


LEFT_AND_REMOVED: Final = 'left behind by a process that was killed, and removed'
"""For the log."""


class RulesError(Exception):
    """Rules can't be made; the message says which way was tried and what it said."""


class Kind(StrEnum):
    """Ways to make a rule."""

    NFTABLES = 'nftables'
    IPTABLES = 'iptables'
    IPTABLES_LEGACY = 'iptables-legacy'
    IPTABLES_NFT = 'iptables-nft'


class Rules(Protocol):
    """Rules of one way, for one queue."""

    kind: Kind
    without: tuple[str, ...]
    """What it can't do here, for the log."""
    watch: Watch
    """Tells when it may be that they are not complete."""

    made: Set[Selector]
    """The traffic that there are rules for."""

    def change(self, wanted: Set[Selector]) -> None:
        """Have rules for this traffic: make what is missing, then remove the others. Raises
        RulesError; then the next call begins with what there is."""

    def complete(self) -> bool:
        """False if somebody has removed one of them, or put others of ours in their place, as one
        does who loads what was saved earlier. Raises RulesError."""

    def restore(self) -> None:
        """Make all of them anew. Raises RulesError."""

    def remove_all(self) -> None:
        """Remove every rule of this queue. Raises RulesError."""

    def close(self) -> None:
        """Nothing more will be asked."""


def comment(queue: int) -> str:
    """What names a rule as ours; more may follow after a colon. Tables of nftables are named
    likewise."""
    return f'{NAME} queue {queue}'


def comment_of(queue: int, selector: Selector) -> str:
    """As `comment`, and what tells a selector's rules from those of any other."""
    here, there = selector.local or 'any address', selector.remote
    ends = f'{here} {selector.local_port}, {there} {selector.remote_port or "any port"}'
    return f'{comment(queue)}: {ends}'


def queue_of(text: str) -> int | None:
    """The queue of one of our comments; None if it isn't ours."""
    words = text.partition(':')[0].split()
    if words[:2] == [NAME, 'queue'] and len(words) == 3 and words[2].isdigit():
        return int(words[2])
    return None


def selector_of(text: str) -> Selector | None:
    """The traffic that one of our comments names; None if it names none."""
    found = _ENDS.search(text)
    if found is None:
        return None
    here, port, there, remote_port = found.groups()
    try:
        return Selector(
            local=None if here == 'any address' else ip_address(here),
            local_port=int(port),
            remote=ip_network(there),
            remote_port=None if remote_port == 'any port' else int(remote_port),
        )
    except ValueError:
        return None


def choose(queue: int, kinds: Iterable[Kind] = Kind) -> Rules:
    """The first way that works here. Raises RulesError with what each of them said."""
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
    bound: Callable[[], set[int]], kinds: Iterable[Kind] = Kind
) -> dict[int, frozenset[Selector]]:
    """Queues that rules of ours lead to and that nobody listens on, and the traffic of each.

    Rules are listed before `bound` is asked for the queues that are listened on: whoever makes
    rules listens first, so none that is in use is taken for one of a process that was killed.
    Every way is asked, for the last process may have used another one. Raises what `bound` does.
    """
    found: dict[int, set[Selector]] = {}
    for kind in kinds:
        for queue, selectors in _listed(kind).items():
            found.setdefault(queue, set()).update(selectors)
    alive = bound() if found else set()
    return {queue: frozenset(selectors) for queue, selectors in found.items() if queue not in alive}


def remove_stale(queues: Collection[int], kinds: Iterable[Kind] = Kind) -> list[str]:
    """Remove our rules that lead to these queues; what was removed, for the log. Raises
    RulesError."""
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
    """Queues of the rules that there are, whoever's of ours, and their traffic."""
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

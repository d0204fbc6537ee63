"""The removal of rules of a killed packet process, where no other process replaces them.

Where a daemon has no protected neighbor, or its kernel protects them, such rules go on dropping
traffic that may need no key any more. Nothing stays blocked after that (`inherited`). The traffic
is not protected any more, or the kernel has TCP-AO: then it answers no signed segment of a
connection that it does not know (RFC 5925 7.7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tcpao.userspace.netlink.nfqueue import QueueError
from tcpao.userspace.netlink.queues_in_use import listened_on
from tcpao.userspace.rules.chain_layout import prefix
from tcpao.userspace.rules.choice import left_behind, remove_stale
from tcpao.userspace.rules.interface import Kind, RulesError, comment


@dataclass(frozen=True, slots=True)
class Cleared:
    """The result of the removal."""

    removed: tuple[str, ...] = ()
    """Removed rules for the log, as in `messages.Ready`."""
    failure: str | None = None
    """The reason why some are left, and what to do by hand."""


def clear(kinds: Iterable[Kind] = tuple(Kind)) -> Cleared:
    """Remove the leftover rules of this network namespace.

    Rules whose queue has a listener stay, and so do all where we may not list rules: then we may
    not remove any either.
    """
    kinds = tuple(kinds)
    try:
        left = left_behind(listened_on, kinds)
    except QueueError as error:
        return Cleared(failure=f'there are rules of ours, and {error}: start as root')
    removed: list[str] = []
    failures: list[str] = []
    for kind in kinds:
        try:
            removed += remove_stale(left, (kind,))
        except RulesError as error:
            failures.append(str(error))
    # Another process may have removed them first, which is an error too.
    hands = by_hand(kinds) if failures else []
    if not hands:
        return Cleared(tuple(removed))
    return Cleared(tuple(removed), f'{"; ".join(failures)}; as root: {"; ".join(hands)}')


def by_hand(kinds: Iterable[Kind]) -> list[str]:
    """Return commands that remove the leftovers."""
    commands: dict[frozenset[int], str] = {}
    for kind in kinds:
        queues = frozenset(left_behind(listened_on, (kind,)))
        # `iptables` is one of its variants.
        if queues and queues not in commands:
            commands[queues] = _command(kind, queues)
    return list(commands.values())


def _command(kind: Kind, queues: Iterable[int]) -> str:
    if kind is Kind.NFTABLES:
        tables = (comment(queue).replace(' ', '-') for queue in sorted(queues))
        return '; '.join(f'nft delete table inet {table}' for table in tables)
    both = f'{kind} {kind.replace("iptables", "ip6tables")}'
    chains = ' '.join(f'-e {prefix(queue)}' for queue in sorted(queues))
    # Every line of ours is in a chain of ours, or leads to one.
    return f'for t in {both}; do $t-save -t mangle | grep -v {chains} | $t-restore; done'

"""Rules in nftables, by pyroute2: a table of our own for each queue, with one chain for each
direction.

Those two lead to the others (`chain_layout`). The chain of outgoing packets comes late, after other
changes to them on this host, since a MAC covers TCP's header; the chain of incoming packets comes
early.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Set
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, Final

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELRULE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    nft_chain_msg,
    nft_table_msg,
)
from pyroute2.nftables.main import NFTables

from tcpao.userspace.rules.chain_layout import (
    Chain,
    Digit,
    TrafficKind,
    lay_out,
    limited_chain,
)
from tcpao.userspace.rules.interface import (
    A_SECOND,
    NAME,
    WITHOUT_LIMIT,
    Kind,
    RulesError,
    comment,
    comment_of,
    live_queue,
    selector_of,
)
from tcpao.userspace.rules.nftables_match import (
    Expression,
    beyond,
    counted,
    drop,
    entrances,
    jump,
    matches,
    of_digit,
    queue,
    unless_opening,
    unusual_errors,
)
from tcpao.userspace.rules.nftables_netlink import (
    Message,
    RuleMessage,
    commit,
    message,
    nftables_socket,
    rules_of,
    said,
    without_table,
)
from tcpao.userspace.rules.nftables_watch import NftablesWatch, Watch
from tcpao.userspace.selectors import Selector

# Priorities (include/uapi/linux/netfilter_ipv4.h): in before mangle, out after all but confirm.
_HOOKS: Final = {'in': (1, -160), 'out': (3, 250)}
"""NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, and priorities."""
_HOOK_OF: Final = {TrafficKind.IN: 'in', TrafficKind.ERRORS: 'in', TrafficKind.OUT: 'out'}

# Rules in one message: as many as a socket's buffers hold in each direction, unless a chain is
# larger.
_AT_ONCE: Final = 64
_PROBE: Final = 'probe'
_ACCEPT: Final = 1
Rule = tuple[str, list[Expression]]
"""The comment of a rule, and its expressions."""
Chains = dict[str, tuple[Rule, ...]]


class NftablesRules:
    """The rules of one queue."""

    kind = Kind.NFTABLES
    without: tuple[str, ...] = ()

    def __init__(self, queue: int) -> None:
        """Check that this kernel can queue from nftables. Raises RulesError if not."""
        self._queue = queue
        self._table = comment(queue).replace(' ', '-')
        self.made: Set[Selector] = frozenset()
        try:
            watch = NftablesWatch({self._table})
        except OSError as error:
            raise RulesError(said(error)) from None
        self.watch: Watch = watch
        try:
            self._nft = nftables_socket()
        except (OSError, NetlinkError) as error:
            self.watch.close()
            raise RulesError(said(error)) from None
        self._written: Chains = {}
        self._limit = True
        self._known: dict[tuple[TrafficKind, Selector], list[Rule]] = {}
        """Rules that are written already: one more change must not format a thousand rules
        again."""
        try:
            try:
                self._begin()
            except RulesError as error:
                self._limit = False
                self._begin()
                self.without = (f'{WITHOUT_LIMIT} ({error})',)
            # Ignore our own changes.
            watch.overlook(self._nft.asyncore.socket.getsockname()[0])
        except RulesError:
            self.close()
            raise

    def change(self, wanted: Set[Selector]) -> None:
        """Change the rules, in several transactions, none of which opens anything.

        Raises RulesError.
        """
        if not wanted >= self.made:
            self._write(wanted | self.made)
        self._write(wanted)
        self.made = wanted
        for way, selector in [at for at in self._known if at[1] not in wanted]:
            del self._known[way, selector]

    def complete(self) -> bool:
        try:
            there = rules_of(self._nft, self._table)
        except (OSError, NetlinkError) as error:
            if isinstance(error, NetlinkError) and error.code == errno.ENOENT:
                return False
            raise RulesError(said(error)) from None
        names = ('NFTA_RULE_CHAIN', 'NFTA_RULE_USERDATA')
        wanted = ((chain, text) for chain, rules in self._written.items() for text, _ in rules)
        return Counter(tuple(map(rule.get_attr, names)) for rule in there) == Counter(wanted)

    def limited(self) -> int:
        try:
            there = rules_of(self._nft, self._table, limited_chain(self._queue))
        except (OSError, NetlinkError) as error:
            raise RulesError(said(error)) from None
        return sum(counted(one.get_attr('NFTA_RULE_EXPRESSIONS')) for one in there)

    def restore(self) -> None:
        self._begin()
        self._write(self.made)

    def remove_all(self) -> None:
        commit(self._nft, without_table(self._table))
        self._written, self.made = {}, frozenset()

    def close(self) -> None:
        self.watch.close()
        self._nft.close()

    def _begin(self) -> None:
        """Write an empty table."""
        # A rule that nothing leads to: an error here means that there is no `queue`, or no `limit`.
        limit = [beyond(A_SECOND)] if self._limit else []
        probe = (comment(self._queue), [*limit, queue(self._queue)])
        commit(self._nft, [*self._empty_table(), self._rule(_PROBE, *probe)])
        self._written = {_PROBE: (probe,), **dict.fromkeys(_HOOKS, ())}

    def _write(self, selectors: Set[Selector]) -> None:
        """Write rules for these selectors. A chain is complete before a rule leads to it."""
        chains = self._chains(selectors)
        some: Chains = {}
        count = 0
        for name, rules in chains.items():
            if self._written.get(name) != rules:
                some[name] = rules
                count += len(rules)
            if count > _AT_ONCE:
                self._rewrite(some)
                some, count = {}, 0
        self._rewrite(some)
        gone = [name for name in self._written if name not in chains]
        if gone:
            commit(
                self._nft,
                [
                    *(self._of_chain(RuleMessage, NFT_MSG_DELRULE, chain=name) for name in gone),
                    *(self._of_chain(nft_chain_msg, NFT_MSG_DELCHAIN, name=name) for name in gone),
                ],
            )
            for name in gone:
                del self._written[name]

    def _rewrite(self, chains: Chains) -> None:
        if not chains:
            return
        messages = []
        for name in chains:
            if name in self._written:
                messages.append(self._of_chain(RuleMessage, NFT_MSG_DELRULE, chain=name))
            else:
                messages.append(self._of_chain(nft_chain_msg, NFT_MSG_NEWCHAIN, name=name))
        for name, rules in chains.items():
            messages += (self._rule(name, *rule) for rule in rules)
        commit(self._nft, messages)
        self._written |= chains

    def _chains(self, selectors: Iterable[Selector]) -> Chains:
        """Return the rules of each chain; chains that lead to others come after them."""
        found: dict[str, list[Rule]] = {}
        if self._limit:
            found[limited_chain(self._queue)] = [(comment(self._queue), drop())]
        hooks: dict[str, list[Rule]] = {name: [] for name in _HOOKS}
        ours = comment(self._queue)
        layout = lay_out(selectors)
        for chain, members in layout.items():
            for way in TrafficKind:
                name = self._name(chain, way)
                found[name] = []
                for member in members:
                    if isinstance(member, Digit):
                        to = jump(self._name(replace(chain, digit=member), way))
                        match = of_digit(way, chain.version, member)
                        found[name].append((ours, [*match, to]))
                    else:
                        found[name] += self._rules(way, member)
                if chain.digit is None:
                    hooks[_HOOK_OF[way]] += (
                        (ours, [*match, jump(name)]) for match in entrances(way, chain)
                    )
        for version in sorted({chain.version for chain in layout}):
            hooks[_HOOK_OF[TrafficKind.ERRORS]] += (
                (ours, [*match, queue(self._queue)]) for match in unusual_errors(version)
            )
        probe = {_PROBE: self._written[_PROBE]}
        return probe | {name: tuple(rules) for name, rules in (found | hooks).items()}

    def _rules(self, way: TrafficKind, selector: Selector) -> list[Rule]:
        rules = self._known.get((way, selector))
        if rules is None:
            text = comment_of(self._queue, selector)
            rules = [(text, [*match, *to]) for match, to in self._verdicts(way, selector)]
            self._known[way, selector] = rules
        return rules

    def _verdicts(
        self, way: TrafficKind, selector: Selector
    ) -> Iterator[tuple[list[Expression], list[Expression]]]:
        """Yield what each rule of a selector matches, and what it does."""
        live = [queue(live_queue(self._queue))]
        if selector.live:
            if way is TrafficKind.IN:
                (match,) = matches(way, selector)
                yield match, [*unless_opening(), *live]
            return
        for match in matches(way, selector):
            if way is TrafficKind.OUT:
                yield match, live
                continue
            if self._limit:
                yield match, [beyond(A_SECOND), jump(limited_chain(self._queue))]
            yield match, [queue(self._queue)]

    def _name(self, chain: Chain, way: TrafficKind) -> str:
        return f'{chain.name(self._queue, way)}-ip{chain.version}'

    def _empty_table(self) -> Iterator[Message]:
        yield from without_table(self._table)
        yield message(
            nft_table_msg, NFT_MSG_NEWTABLE, name=self._table, userdata=comment(self._queue)
        )
        for name, (hook, priority) in _HOOKS.items():
            place = {'attrs': [('NFTA_HOOK_HOOKNUM', hook), ('NFTA_HOOK_PRIORITY', priority)]}
            yield self._of_chain(
                nft_chain_msg,
                NFT_MSG_NEWCHAIN,
                name=name,
                hook=place,
                type='filter',
                policy=_ACCEPT,
            )
        yield self._of_chain(nft_chain_msg, NFT_MSG_NEWCHAIN, name=_PROBE)

    def _rule(self, chain: str, text: str, expressions: list[Expression]) -> Message:
        return self._of_chain(
            RuleMessage,
            NFT_MSG_NEWRULE,
            chain=chain,
            expressions=b''.join(expressions),
            # The comment, shown by nft.
            userdata=text,
        )

    def _of_chain(self, of: Any, number: int, **attributes: object) -> Message:
        return message(of, number, table=self._table, **attributes)


def listed() -> dict[int, set[Selector]]:
    """Return the queues of all tables of ours, and the traffic of each."""
    found: dict[int, set[Selector]] = {}
    # No nftables here, so no rules of ours either.
    with suppress(OSError, NetlinkError), closing(nftables_socket()) as nft:
        for queue, name in _our_tables(nft).items():
            comments = (rule.get_attr('NFTA_RULE_USERDATA') for rule in rules_of(nft, name))
            selectors = (selector_of(text) for text in comments if text is not None)
            found[queue] = {selector for selector in selectors if selector is not None}
    return found


def remove_queues(queues: Collection[int]) -> list[str]:
    """Remove our rules that lead to these queues; see `choice.remove_stale`."""
    found: list[str] = []
    try:
        with closing(nftables_socket()) as nft:
            for queue, name in _our_tables(nft).items():
                if queue in queues:
                    commit(nft, without_table(name))
                    found.append(f'nftables: table inet {name}')
    except (OSError, NetlinkError) as error:
        raise RulesError(said(error)) from None
    return found


def _our_tables(nft: NFTables) -> dict[int, str]:
    """Return the names of our tables, by their queue."""
    return {
        int(name.rpartition('-')[2]): name
        for name in (table.get_attr('NFTA_TABLE_NAME') for table in nft.get_tables())
        if name.startswith(f'{NAME}-queue-') and name.rpartition('-')[2].isdigit()
    }

"""Rules by the iptables command, legacy or on nftables' compatibility layer.

In the table `mangle`, first in the chains INPUT and OUTPUT, which lead to chains of our own
(`chain_layout`): only packets that this host itself sends or receives, and before a firewall's
table `filter` examines them. ICMP errors that quote a protected connection are found by the match
`u32`, where the kernel has it.

`iptables` may be either variant; the variant decides how removals of rules are noticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Set
from dataclasses import replace
from typing import Final

from tcpao.userspace.rules.chain_layout import (
    Chain,
    Digit,
    TrafficKind,
    lay_out,
    limited_chain,
    prefix,
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
    queue_of,
    selector_of,
)
from tcpao.userspace.rules.iptables_command import (
    LONG,
    PREFIX,
    SOON,
    TABLE,
    command_of,
    restore,
    run,
)
from tcpao.userspace.rules.iptables_lock_watch import LockWatch
from tcpao.userspace.rules.iptables_match import (
    commented,
    digit_match,
    entrance,
    quoting,
    segments,
    unless_opening,
    unusual_errors,
    within,
)
from tcpao.userspace.rules.nftables_watch import NftablesWatch, Watch
from tcpao.userspace.selectors import Selector

_PROBE_CHAIN: Final = f'{NAME}-probe'
_BUILT_IN: Final = {TrafficKind.IN: 'INPUT', TrafficKind.ERRORS: 'INPUT', TrafficKind.OUT: 'OUTPUT'}
# A line that differs from every rule of ours.
_ANYTHING: Final = ''

Chains = dict[str, tuple[str, ...]]
"""Rules by chain."""


class IptablesRules:
    """The rules of one queue, made by one variant of the command."""

    def __init__(self, kind: Kind, queue: int) -> None:
        """Check that this variant can make rules for the queue, and that removals can be noticed.

        Raises RulesError if not.
        """
        self.kind = kind
        self.without: tuple[str, ...] = ()
        self._queue = queue
        self.made: Set[Selector] = frozenset()
        self._written: dict[int, Chains] = {}
        """Written chains by IP version."""
        self._aimed: dict[int, Chains] = {}
        """The chains after the change that is under way, in one transaction."""
        self._aimed_meanwhile: dict[int, list[Chains]] = {}
        """Chains that changes have begun to write since another thread began to check. A listing
        that takes as long as several changes may show any of them."""
        self._lines: dict[tuple[TrafficKind, Selector], list[str]] = {}
        """Lines that are written already: one more change must not format a thousand lines
        again."""
        self._versions = {4}
        self._limit = True
        self._ways = list(TrafficKind)
        self.watch = _watch(kind)
        try:
            self._ask_the_kernel()
            if not self.watch.removals():
                raise RulesError(
                    f'{kind} changes rules and {self.watch} says nothing, so we would not know '
                    f'if a firewall removed ours'
                )
        except (RulesError, OSError) as error:
            self.watch.close()
            raise RulesError(str(error)) from None

    def change(self, wanted: Set[Selector]) -> None:
        for selector in wanted - self.made:
            if selector.remote.version not in self._versions:
                raise RulesError(f'no rule for {selector.remote}: {"; ".join(self.without)}')
        for version in sorted(self._versions):
            there = {one for one in self.made if one.remote.version == version}
            then = {one for one in wanted if one.remote.version == version}
            if there != then:
                chains = self._chains(then)
                self._aimed[version] = chains
                self._aimed_meanwhile.get(version, []).append(chains)
                try:
                    lines = _difference(self._written.get(version, {}), chains)
                    restore(self.kind, version, lines, patience=SOON if wanted else LONG)
                    self._written[version] = chains
                finally:
                    del self._aimed[version]
                self.made = (self.made - there) | then
        for way, selector in [at for at in self._lines if at[1] not in self.made]:
            del self._lines[way, selector]

    def complete(self) -> bool:
        return all(self._is_complete(version) for version in sorted(self._versions))

    def _is_complete(self, version: int) -> bool:
        meanwhile = self._aimed_meanwhile[version] = []
        # In this order: a change under way either still is, or is written.
        aimed, written = self._aimed.get(version), self._written.get(version, {})
        if not aimed and not written:
            del self._aimed_meanwhile[version]
            return True
        there = Counter(map(_name, self._there(version)))
        del self._aimed_meanwhile[version]
        meant = [written, *([aimed] if aimed is not None else []), *meanwhile]
        return any(there == Counter(map(_name, _flat(chains))) for chains in meant)

    def restore(self) -> None:
        for version, chains in self._written.items():
            there = _our_chains(self.kind, version, self._queue)
            entrances = [rule for rule in self._there(version) if rule.split()[0] not in there]
            # Written again, whatever is there.
            anew = _difference(dict.fromkeys(there, (_ANYTHING,)), chains)
            lines = [*(f'-D {rule}' for rule in entrances), *anew]
            restore(self.kind, version, lines)

    def remove_all(self) -> None:
        self.change(frozenset())

    def close(self) -> None:
        self.watch.close()

    def limited(self) -> int:
        chain = limited_chain(self._queue)
        found = 0
        for version in sorted(self._versions):
            for line in _listing(self.kind, version, ['-c']):
                # [packets:octets] -A chain ...
                counts, _, rule = line.partition(' ')
                if rule.startswith(f'-A {chain} '):
                    found += int(counts.strip('[').partition(':')[0])
        return found

    def _there(self, version: int) -> list[str]:
        return [rule for queue, rule in _ours(self.kind, version) if queue == self._queue]

    def _ask_the_kernel(self) -> None:
        self._probe(4, '-p tcp')
        try:
            self._probe(6, '-p tcp')
            self._versions.add(6)
        except RulesError as error:
            self.without += (f'IPv6 ({error})',)
        try:
            self._probe(4, '-p icmp -m u32 --u32 "0>>22&0x3C@0>>24=3"')
        except RulesError as error:
            self._ways.remove(TrafficKind.ERRORS)
            self.without += (f'ICMP errors (RFC 5925 7.8; match u32: {error})',)
        try:
            for version in self._versions:
                self._probe(version, f'-p tcp {within(A_SECOND)}')
        except RulesError as error:
            self._limit = False
            self.without += (f'{WITHOUT_LIMIT} (match limit: {error})',)

    def _chains(self, selectors: Iterable[Selector]) -> Chains:
        """Return the lines of each chain, of ours and of those that lead to them."""
        written: dict[str, list[str]] = {}
        layout = lay_out(selectors)
        if self._limit and layout:
            text = commented(comment(self._queue))
            written[limited_chain(self._queue)] = [f'{text} -j DROP']
        for chain, members in layout.items():
            for way in self._ways:
                name = chain.name(self._queue, way)
                written[name] = [
                    line for member in members for line in self._of_member(way, chain, member)
                ]
                if chain.digit is None:
                    line = f'{entrance(way, chain)} {commented(comment(self._queue))} -j {name}'
                    written.setdefault(_BUILT_IN[way], []).append(line)
        if TrafficKind.ERRORS in self._ways:
            ours = comment(self._queue)
            name = f'{prefix(self._queue)}{TrafficKind.ERRORS}-quotes'
            for version in sorted({chain.version for chain in layout}):
                # In a chain of our own: every line of ours is in one, or leads to one.
                written[name] = [self._target(ours)]
                line = f'{unusual_errors(version)} {commented(ours)} -j {name}'
                written.setdefault(_BUILT_IN[TrafficKind.ERRORS], []).append(line)
        return {name: tuple(lines) for name, lines in written.items()}

    def _of_member(self, way: TrafficKind, chain: Chain, member: Selector | Digit) -> list[str]:
        if isinstance(member, Digit):
            name = replace(chain, digit=member).name(self._queue, way)
            match = digit_match(way, chain.version, member)
            return [f'{match} {commented(comment(self._queue))} -j {name}']
        lines = self._lines.get((way, member))
        if lines is None:
            lines = self._lines[way, member] = list(self._of_selector(way, member))
        return lines

    def _of_selector(self, way: TrafficKind, selector: Selector) -> Iterator[str]:
        text = comment_of(self._queue, selector)
        match = quoting(selector) if way is TrafficKind.ERRORS else segments(way, selector)
        if selector.live:
            if way is TrafficKind.IN:
                yield f'{match} {unless_opening()} {self._target(text, live=True)}'
        elif way is TrafficKind.OUT or not self._limit:
            yield f'{match} {self._target(text, live=way is TrafficKind.OUT)}'
        else:
            yield f'{match} {within(A_SECOND)} {self._target(text)}'
            yield f'{match} {commented(text)} -j {limited_chain(self._queue)}'

    def _target(self, text: str, *, live: bool = False) -> str:
        number = live_queue(self._queue) if live else self._queue
        return f'{commented(text)} -j NFQUEUE --queue-num {number}'

    def _probe(self, version: int, match: str) -> None:
        try:
            restore(
                self.kind,
                version,
                [f'-A {_PROBE_CHAIN} {match} {self._target(comment(self._queue))}'],
                chain=_PROBE_CHAIN,
            )
        finally:
            restore(self.kind, version, [f'-X {_PROBE_CHAIN}'], chain=_PROBE_CHAIN)


def listed(kind: Kind) -> dict[int, set[Selector]]:
    """Return the queues of all rules of ours that this variant shows, and the traffic of each."""
    found: dict[int, set[Selector]] = {}
    for version in PREFIX:
        for queue, rule in _ours(kind, version):
            selector = selector_of(_name(rule)[1])
            found.setdefault(queue, set()).update({selector} if selector is not None else ())
    return found


def remove_queues(kind: Kind, queues: Collection[int]) -> list[str]:
    """Remove our rules that lead to these queues; see `choice.remove_stale`."""
    found = []
    for version in PREFIX:
        rules = [(queue, rule) for queue, rule in _ours(kind, version) if queue in queues]
        chains = [name for queue in queues for name in _our_chains(kind, version, queue)]
        if rules or chains:
            others = [rule for _, rule in rules if rule.split()[0] not in chains]
            lines = [f'-D {rule}' for rule in others]
            lines += [f'-{act} {name}' for act in 'FX' for name in chains]
            restore(kind, version, lines)
        for queue, count in sorted(Counter(queue for queue, _ in rules).items()):
            found.append(f'{count} rules of {command_of(kind, version)} to queue {queue}')
    return found


# --- what there is, and how it changes ------------------------------------------------------------


def _difference(old: Chains, new: Chains) -> Iterator[str]:
    """Yield the commands from one state to the other; our chains are rewritten if they differ."""
    built_in = set(_BUILT_IN.values())
    ours = [name for name, lines in new.items() if name not in built_in and old.get(name) != lines]
    # This line empties a chain that exists.
    yield from (f':{name} - [0:0]' for name in ours)
    for name in ours:
        yield from (f'-A {name} {line}' for line in new[name])
    for name in sorted(built_in):
        there, then = old.get(name, ()), new.get(name, ())
        yield from (f'-I {name} {line}' for line in then if line not in there)
        yield from (f'-D {name} {line}' for line in there if line not in then)
    gone = [name for name in old if name not in new and name not in built_in]
    yield from (f'-{act} {name}' for act in 'FX' for name in gone)


def _flat(chains: Chains) -> list[str]:
    return [f'{name} {line}' for name, lines in chains.items() for line in lines]


def _our_chains(kind: Kind, version: int, queue: int) -> list[str]:
    return [
        line[1:].split()[0]
        for line in _listing(kind, version)
        if line.startswith(f':{prefix(queue)}')
    ]


def _ours(kind: Kind, version: int) -> Iterator[tuple[int, str]]:
    """Yield queue and text of our rules, in the form of -A or -D."""
    for line in _listing(kind, version):
        if line.startswith('-A ') and f'"{NAME} queue ' in line:
            rule = line[3:]
            queue = queue_of(_name(rule)[1])
            if queue is not None:
                yield queue, rule


def _listing(kind: Kind, version: int, arguments: Iterable[str] = ()) -> list[str]:
    """Return the lines of our table; none if there is no table."""
    try:
        # Without -t: naming a table would create it.
        listing = run(f'{command_of(kind, version)}-save', [*arguments], '')
    except RulesError:
        return []
    _, _, table = listing.partition(f'*{TABLE}\n')
    return table.partition('COMMIT\n')[0].splitlines()


def _name(rule: str) -> tuple[str, str]:
    """Return chain and comment."""
    # The match u32 has quotes too.
    quotes = rule[: rule.index('--comment "')].count('"')
    return rule.split(maxsplit=1)[0], rule.split('"')[quotes + 1]


def _watch(kind: Kind) -> Watch:
    version = run(kind.value, ['--version'], '')
    try:
        # Before 1.8 there was only this variant, and the version did not name it.
        return NftablesWatch({TABLE}) if 'nf_tables' in version else LockWatch()
    except OSError as error:
        raise RulesError(
            f'it cannot be noticed when a firewall removes our rules: {error}'
        ) from None

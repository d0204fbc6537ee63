"""The second net as text of iptables-save and iptables-restore. No I/O.

What comes in is judged in the table `raw`, before any queue; what leaves in `mangle` after routing,
behind the queue of our packets. Forwarded packets pass there too, so the addresses of this host are
matched as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tcpao.second_net.ruleset import SYNS_A_SECOND, Service

_PREFIX: Final = 'exabgp-gk-net-'
_CHAIN: Final = re.compile(re.escape(_PREFIX) + r'(\d{1,9})-[io]j?')
_COUNTED: Final = re.compile(r'\[(\d+):\d+\] (.*)')


@dataclass(frozen=True, slots=True)
class _Hook:
    """Where one direction is judged."""

    table: str
    chain: str
    mark: str
    """The last part of the names of our chains."""
    local: str
    """The match for packets of this host."""
    peer: str
    """The match for the peer's address."""
    passing: str
    """The match for segments that pass without TCP-AO: see `ruleset`."""
    counter: str


HOOKS: Final = (
    _Hook(
        'raw',
        'PREROUTING',
        'i',
        '-m addrtype --dst-type LOCAL',
        '-s',
        '--tcp-flags FIN,SYN,RST SYN '
        f'-m limit --limit {SYNS_A_SECOND}/second --limit-burst {SYNS_A_SECOND}',
        'dropped_in',
    ),
    _Hook(
        'mangle',
        'POSTROUTING',
        'o',
        '-m addrtype --src-type LOCAL',
        '-d',
        '--tcp-flags RST RST',
        'dropped_out',
    ),
)


def chain_name(number: int) -> str:
    """Return the beginning of the names of a net's chains."""
    return f'{_PREFIX}{number}-'


@dataclass(slots=True)
class Listing:
    """Our part of what iptables-save prints, of one version of IP."""

    jumps: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    """Rules of others' chains that lead to ours, by table and number of the net."""
    chains: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    rules: dict[tuple[str, int], int] = field(default_factory=dict)
    """How many rules are in our chains."""
    packets: dict[tuple[str, int], int] = field(default_factory=dict)
    """Packets that were dropped."""

    @property
    def numbers(self) -> set[int]:
        """Return the numbers of the nets."""
        return {number for _, number in (*self.chains, *self.jumps)}


def read(saved: str) -> Listing:
    """Return our part of the output of `iptables-save -c`."""
    found = Listing()
    table = ''
    for line in saved.splitlines():
        if line.startswith('*'):
            table = line[1:]
            continue
        named = _CHAIN.search(line)
        if named is None:
            continue
        key = table, int(named[1])
        if line.startswith(':'):
            found.chains.setdefault(key, set()).add(named[0])
            continue
        counted = _COUNTED.fullmatch(line)
        packets, rule = (int(counted[1]), counted[2]) if counted is not None else (0, line)
        if not rule.startswith(f'-A {_PREFIX}'):
            found.jumps.setdefault(key, []).append(rule)
            continue
        found.rules[key] = found.rules.get(key, 0) + 1
        if rule.endswith('-j DROP'):
            found.packets[key] = found.packets.get(key, 0) + packets
    return found


def restoration(
    there: Listing, number: int, services: Collection[Service], without: Iterable[int] = ()
) -> str:
    """Return the input of iptables-restore for exactly these services; '' if nothing changes.

    All services are of one version of IP. Removes the nets with the numbers `without`.
    """
    gone = [*without, *([] if services else [number])]
    text = []
    for hook in HOOKS:
        lines = [line for one in gone for line in _removal(there, hook.table, one)]
        if services:
            lines += _written(hook, number, services)
            lines += [_deletion(rule) for rule in there.jumps.get((hook.table, number), ())]
            lines.append(
                f'-I {hook.chain} 1 -p tcp {hook.local} -m comment '
                f'--comment "exabgp-gatekeeper second net {number}" '
                f'-j {chain_name(number)}{hook.mark}'
            )
        if lines:
            text += [f'*{hook.table}', *lines, 'COMMIT']
    return ''.join(f'{line}\n' for line in text)


def stands(there: Listing, number: int, services: Collection[Service]) -> bool:
    """Return True if all rules of a net with these services are there."""
    return all(
        len(there.jumps.get((hook.table, number), ())) == 1
        and there.rules.get((hook.table, number)) == len(list(_rules(hook, number, services)))
        for hook in HOOKS
    )


def _written(hook: _Hook, number: int, services: Collection[Service]) -> list[str]:
    """Return lines that make our chains, or empty and fill them."""
    name = chain_name(number)
    made = [f':{name}{hook.mark}{rest} - [0:0]' for rest in ('', 'j')]
    return [*made, *_rules(hook, number, services)]


def _rules(hook: _Hook, number: int, services: Collection[Service]) -> Iterator[str]:
    entrance = f'{chain_name(number)}{hook.mark}'
    judge = f'{entrance}j'
    for peer, port in sorted(services):
        for side in ('--sport', '--dport'):
            yield f'-A {entrance} {hook.peer} {peer} -p tcp -m tcp {side} {port} -j {judge}'
    yield f'-A {judge} -p tcp -m tcp --tcp-option 29 -j RETURN'
    yield f'-A {judge} -p tcp -m tcp {hook.passing} -j RETURN'
    yield f'-A {judge} -j DROP'


def _removal(there: Listing, table: str, number: int) -> Iterator[str]:
    for rule in there.jumps.get((table, number), ()):
        yield _deletion(rule)
    chains = sorted(there.chains.get((table, number), ()))
    for what in ('-F', '-X'):
        for chain in chains:
            yield f'{what} {chain}'


def _deletion(rule: str) -> str:
    return f'-D {rule.removeprefix("-A ")}'

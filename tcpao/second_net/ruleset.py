"""The text of the rules for `nft -f`. No I/O.

A peer and a port are enough, whichever side opened the connection or listens: a peer's address is
protected as a whole. SYNs without TCP-AO pass inwards, a few a second: the backend drops them, and
tells operators that the peer has no TCP-AO. RSTs pass outwards: a session that ends because it is
protected from now on has no key to sign its RST. A RST holds no octet of the protocol.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from tcpao.mkt import IPAddress

PREFIX: Final = 'exabgp-gatekeeper-net-'
"""Prefix of the names of our tables; a number follows."""
COUNTERS: Final = ('dropped_in', 'dropped_out')

Service = tuple[IPAddress, int]
"""A peer's address, and a TCP port, at either end."""

_NAME: Final = re.compile(re.escape(PREFIX) + r'(\d{1,9})')
_FAMILIES: Final = {4: ('peers4', 'ipv4_addr', 'ip'), 6: ('peers6', 'ipv6_addr', 'ip6')}
# Priorities (include/uapi/linux/netfilter_ipv4.h): in before any queue, out after any.
_IN: Final = -310
_OUT: Final = 310
SYNS_A_SECOND: Final = 20
"""SYNs without TCP-AO that pass per second, of all peers together: enough to report each peer."""


def table_name(number: int) -> str:
    """Return the name of a daemon's table."""
    return f'{PREFIX}{number}'


def number_of(table: str) -> int | None:
    """Return the number in a table's name; None if the table isn't one of ours."""
    found = _NAME.fullmatch(table)
    return int(found[1]) if found is not None else None


def script(number: int, services: Collection[Service], without: Iterable[int] = ()) -> str:
    """Return one transaction that replaces the table, for exactly these services.

    Removes the tables with the numbers `without`.
    """
    lines = [*removal([number, *without])]
    if services:
        lines += _table(table_name(number), services)
    return '\n'.join([*lines, ''])


def removal(numbers: Iterable[int]) -> list[str]:
    """Return lines that remove these tables, which need not exist."""
    return [
        line
        for number in numbers
        for line in (f'table inet {table_name(number)}', f'delete table inet {table_name(number)}')
    ]


def _table(name: str, services: Collection[Service]) -> list[str]:
    versions = sorted({peer.version for peer, _ in services})
    lines = [f'table inet {name} {{']
    for version in versions:
        peers, kind, _ = _FAMILIES[version]
        members = sorted(one for one in services if one[0].version == version)
        elements = ', '.join(f'{peer} . {port}' for peer, port in members)
        lines.append(f'set {peers} {{ type {kind} . inet_service; elements = {{ {elements} }} }}')
    lines += [f'counter {one} {{ }}' for one in COUNTERS]
    lines += [
        'chain judge_in {',
        'tcp option 29 exists accept',
        'tcp flags & (fin|syn|rst) == syn '
        f'limit rate {SYNS_A_SECOND}/second burst {SYNS_A_SECOND} packets accept',
        'counter name dropped_in drop',
        '}',
        'chain judge_out {',
        'tcp option 29 exists accept',
        'tcp flags & rst == rst accept',
        'counter name dropped_out drop',
        '}',
    ]
    for hook, priority, address, judge in (
        ('input', _IN, 'saddr', 'judge_in'),
        ('output', _OUT, 'daddr', 'judge_out'),
    ):
        lines += [
            f'chain {hook} {{',
            f'type filter hook {hook} priority {priority}; policy accept;',
        ]
        for version in versions:
            peers, _, protocol = _FAMILIES[version]
            lines += [
                f'{protocol} {address} . tcp {port} @{peers} jump {judge}'
                for port in ('sport', 'dport')
            ]
        lines.append('}')
    lines.append('}')
    return lines

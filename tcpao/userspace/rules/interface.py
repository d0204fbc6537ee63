"""Which way protected traffic is sent to the queue: nftables where it can, else iptables.

The kernel is asked, not assumed to: a rule is tried. Each rule says in a comment that it is ours
which queue it leads to, and what for; a rule whose queue nobody listens on was left behind by a
process that was killed. It drops what it matches until the next one has taken its place.
"""

from __future__ import annotations

import re
from collections.abc import Set
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Final, Protocol

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

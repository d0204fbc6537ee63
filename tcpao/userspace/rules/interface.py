"""The interface of rules that send protected traffic to the queue: nftables where it works, else
iptables.

The kernel is asked: a rule is tried. Each rule has a comment that names us, its queue, and its
traffic; a rule whose queue has no listener was left by a killed process. It drops matching packets
until the next process has replaced it.
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


A_SECOND: Final = 1000
"""Packets of one selector that reach the common queue, each second, and at once after a pause.

What a processor verifies in a tenth of its time: a flood leaves it nine for open connections.
"""
WITHOUT_LIMIT: Final = 'a limit on what belongs to no open connection'
"""What may be missing, for the log."""
_BESIDE: Final = 256

LEFT_AND_REMOVED: Final = 'left behind by a process that was killed, and removed'
"""A remark for the log."""


class RulesError(Exception):
    """Rules can't be made; the message names the kind that was tried and its error."""


class Kind(StrEnum):
    """Kinds of rules."""

    NFTABLES = 'nftables'
    IPTABLES = 'iptables'
    IPTABLES_LEGACY = 'iptables-legacy'
    IPTABLES_NFT = 'iptables-nft'


class Rules(Protocol):
    """Rules of one kind, for one queue."""

    kind: Kind
    without: tuple[str, ...]
    """Features that this kind lacks here, for the log."""
    watch: Watch
    """Notices when the rules may be incomplete."""

    made: Set[Selector]
    """The traffic that has rules."""

    def change(self, wanted: Set[Selector]) -> None:
        """Change the rules to those for this traffic: make missing ones, then remove the others.

        Raises RulesError; then the next call begins with the existing rules.
        """

    def limited(self) -> int:
        """Return the packets that were dropped beyond the limit; 0 without rules.

        Raises RulesError.
        """

    def complete(self) -> bool:
        """Return False if another program has removed some, or restored other rules of ours.

        The latter happens when rules are loaded that were saved earlier. Raises RulesError.
        """

    def restore(self) -> None:
        """Make all rules again. Raises RulesError."""

    def remove_all(self) -> None:
        """Remove every rule of this queue. Raises RulesError."""

    def close(self) -> None:
        """Close; no other method is called afterwards."""


def live_queue(queue: int) -> int:
    """Return the number of the queue of open connections, beside the common one."""
    return queue + _BESIDE


def comment(queue: int) -> str:
    """Return the comment that marks a rule as ours; more may follow after a colon.

    Tables of nftables are named likewise.
    """
    return f'{NAME} queue {queue}'


def comment_of(queue: int, selector: Selector) -> str:
    """Return the comment of a selector's rules, different from that of any other selector."""
    here, there = selector.local or 'any address', selector.remote
    ends = f'{here} {selector.local_port}, {there} {selector.remote_port or "any port"}'
    return f'{comment(queue)}: {"open: " if selector.live else ""}{ends}'


def queue_of(text: str) -> int | None:
    """Return the queue of one of our comments; None if it isn't ours."""
    words = text.partition(':')[0].split()
    if words[:2] == [NAME, 'queue'] and len(words) == 3 and words[2].isdigit():
        return int(words[2])
    return None


def selector_of(text: str) -> Selector | None:
    """Return the traffic that one of our comments names; None if it names none."""
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

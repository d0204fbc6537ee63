"""The ways to make the rules of a second net, the best first."""

from __future__ import annotations

from typing import Final

from tcpao.second_net.interface import NetRules
from tcpao.second_net.iptables import IptablesNetRules
from tcpao.second_net.nft import NftNetRules
from tcpao.userspace.rules.interface import Kind, RulesError

WAYS: Final[tuple[NetRules, ...]] = (
    NftNetRules(),
    *(IptablesNetRules(kind) for kind in Kind if kind is not Kind.NFTABLES),
)


def existing() -> list[tuple[NetRules, int]]:
    """Return every net that exists, of any daemon; ways that can't be asked have made none."""
    found = []
    seen: set[int] = set()
    for way in WAYS:
        try:
            numbers = way.numbers() - seen
        except RulesError:
            continue
        # `iptables` is one of its own variants.
        seen |= numbers
        found += [(way, number) for number in sorted(numbers)]
    return found

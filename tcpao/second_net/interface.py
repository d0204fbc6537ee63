"""The interface of what makes the rules of a second net."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from tcpao.second_net.ruleset import Service
from tcpao.userspace.rules.nftables_watch import Watch


class NetRules(Protocol):
    """One way to give the kernel the rules. Every method raises RulesError."""

    def numbers(self) -> set[int]:
        """Return the numbers of the nets that exist, of any daemon."""

    def replace(
        self, number: int, services: Collection[Service], without: Iterable[int] = ()
    ) -> None:
        """Have a net drop for exactly these services; without any it is removed.

        Removes the nets with the numbers `without`, which need not exist.
        """

    def stands(self, number: int, services: Collection[Service]) -> bool:
        """Return False if another program has removed rules of this net, which has services."""

    def counters(self, number: int) -> dict[str, int]:
        """Return the dropped packets by counter; zeros if there is no such net."""

    def watch(self, number: int) -> Watch:
        """Return a watch for the removal of rules by other programs."""

    def name(self, number: int) -> str:
        """Return what an administrator finds this net by."""

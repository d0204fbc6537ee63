"""The second net by one kind of iptables, where nftables can't be used."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from tcpao.second_net import iptables_ruleset
from tcpao.second_net.iptables_ruleset import HOOKS, Listing, chain_name
from tcpao.second_net.ruleset import COUNTERS, Service
from tcpao.userspace.rules.existing_tables import may_have_tables
from tcpao.userspace.rules.interface import Kind, RulesError
from tcpao.userspace.rules.iptables_command import LONG, command_of, run
from tcpao.userspace.rules.iptables_lock_watch import LockWatch
from tcpao.userspace.rules.nftables_watch import NftablesWatch, Watch

_VERSIONS: Final = (4, 6)
_TABLE_NAMES: Final = (Path('/proc/net/ip_tables_names'), Path('/proc/net/ip6_tables_names'))


class IptablesNetRules:
    """The rules of `iptables` and `ip6tables`, or of a variant of both."""

    def __init__(self, kind: Kind) -> None:
        """Take the kind of the commands; it makes nothing."""
        self._kind = kind

    def numbers(self) -> set[int]:
        """Return the numbers of all nets of this kind."""
        if not _may_have_tables():
            return set()
        return {number for version in _VERSIONS for number in self._there(version).numbers}

    def replace(
        self, number: int, services: Collection[Service], without: Iterable[int] = ()
    ) -> None:
        """Write the chains of both versions of IP anew."""
        gone = list(without)
        for version in _VERSIONS:
            mine = [one for one in services if one[0].version == version]
            there = self._listed(version) if mine else self._there(version)
            text = iptables_ruleset.restoration(there, number, mine, gone)
            if text:
                command = f'{command_of(self._kind, version)}-restore'
                run(command, ['--noflush', '-w', str(LONG)], text)

    def stands(self, number: int, services: Collection[Service]) -> bool:
        """Return False if a rule is missing."""
        for version in _VERSIONS:
            mine = [one for one in services if one[0].version == version]
            if mine and not iptables_ruleset.stands(self._listed(version), number, mine):
                return False
        return True

    def counters(self, number: int) -> dict[str, int]:
        """Return the packets of the rules that drop."""
        found = dict.fromkeys(COUNTERS, 0)
        for version in _VERSIONS:
            packets = self._there(version).packets
            for hook in HOOKS:
                found[hook.counter] += packets.get((hook.table, number), 0)
        return found

    def watch(self, number: int) -> Watch:
        """Return a watch for changes of any rule of this kind."""
        version = run(self._kind.value, ['--version'], '')
        try:
            tables = {hook.table for hook in HOOKS}
            return NftablesWatch(tables) if 'nf_tables' in version else LockWatch()
        except OSError as error:
            raise RulesError(f'nobody would notice a flush of {self._kind}: {error}') from None

    def name(self, number: int) -> str:
        """Return the names of its chains."""
        return f'{self._kind}: chains {chain_name(number)}*'

    def _listed(self, version: int) -> Listing:
        # Without -t: naming a table would create it.
        return iptables_ruleset.read(run(f'{command_of(self._kind, version)}-save', ['-c'], ''))

    def _there(self, version: int) -> Listing:
        """Return what is there; nothing where there is no such command, or it can't be used."""
        try:
            return self._listed(version)
        except RulesError:
            return Listing()


def _may_have_tables() -> bool:
    """Return False if no kind of iptables has a net: a quick test, without a command."""
    table = HOOKS[0].table
    try:
        # Of legacy iptables, which have no table before its first use.
        if any(table in names.read_text().split() for names in _TABLE_NAMES if names.exists()):
            return True
    except OSError:
        return True
    return may_have_tables(table)

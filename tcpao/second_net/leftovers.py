"""Rules of killed daemons, where no new daemon replaces them."""

from __future__ import annotations

from tcpao.second_net import nft
from tcpao.second_net.numbers import nobody_holds
from tcpao.second_net.ruleset import PREFIX, removal, table_name
from tcpao.userspace.rules.existing_tables import may_have_tables


def remove_left_behind() -> list[str]:
    """Remove the tables of this network namespace that no keeper holds; return their names.

    Raises NftError.
    """
    if not may_have_tables(PREFIX):
        return []
    left = nobody_holds(nft.our_tables())
    if left:
        nft.apply('\n'.join([*removal(left), '']))
    return [f'nftables: table inet {table_name(number)}' for number in left]

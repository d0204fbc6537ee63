"""Netlink messages of nftables, by pyroute2: transactions, and the rules that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELTABLE,
    NFT_MSG_GETRULE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    nft_rule_msg,
    nft_table_msg,
)
from pyroute2.nftables.main import NFTables

from tcpao.userspace.rules.interface import RulesError

_INET: Final = 1
"""NFPROTO_INET."""
# nfnetlink.h: NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END.
_BATCH: Final = (0x10, 0x11)
_FLAGS: Final = {
    NFT_MSG_NEWTABLE: NLM_F_CREATE,
    NFT_MSG_NEWCHAIN: NLM_F_CREATE,
    # Behind those that there are.
    NFT_MSG_NEWRULE: NLM_F_CREATE | NLM_F_APPEND,
}

Message = Any


class RuleMessage(nft_rule_msg):  # type: ignore[misc]
    """A rule whose expressions are octets, in both directions."""

    nla_map = tuple(
        (name, 'cdata' if name == 'NFTA_RULE_EXPRESSIONS' else kind)
        for name, kind in nft_rule_msg.nla_map
    )


def nftables_socket() -> NFTables:
    nft = NFTables(nfgen_family=_INET)
    nft.asyncore.register_policy({NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE: RuleMessage})
    return nft


def rules_of(nft: NFTables, table: str, chain: str | None = None) -> list[Any]:
    """Return the rules of a table, or of one of its chains, as the kernel has them."""
    asked = RuleMessage()
    asked['attrs'] = [('NFTA_RULE_TABLE', table)]
    if chain is not None:
        asked['attrs'].append(('NFTA_RULE_CHAIN', chain))
    return list(nft.request_get(asked, NFT_MSG_GETRULE))


def commit(nft: NFTables, messages: Iterable[Message]) -> None:
    """Commit all messages, or none. Raises RulesError."""
    begin, end = nfgen_msg(), nfgen_msg()
    for edge, number in zip((begin, end), _BATCH, strict=True):
        edge['header']['type'] = number
        edge['header']['flags'] = NLM_F_REQUEST
        edge['res_id'] = NFNL_SUBSYS_NFTABLES
    try:
        nft.nlm_request_batch([begin, *messages, end])
    except (OSError, NetlinkError) as error:
        raise RulesError(said(error)) from None


def message(of: Any, number: int, **attributes: object) -> Message:
    message = of()
    message['attrs'] = [(of.name2nla(name), value) for name, value in attributes.items()]
    message['header']['type'] = NFNL_SUBSYS_NFTABLES << 8 | number
    message['header']['flags'] = NLM_F_REQUEST | NLM_F_ACK | _FLAGS.get(number, 0)
    message['nfgen_family'] = _INET
    return message


def without_table(name: str) -> Iterator[Message]:
    """Yield messages that remove a table: created first, so that a missing one is no error."""
    yield message(nft_table_msg, NFT_MSG_NEWTABLE, name=name)
    yield message(nft_table_msg, NFT_MSG_DELTABLE, name=name)


def said(error: BaseException) -> str:
    return f'the kernel said {error}'

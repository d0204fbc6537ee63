"""Noticing that somebody has removed rules: nftables tells it, for `iptables` on nftables too.

A firewall that is reloaded flushes what it finds, ours included. The legacy iptables tell nobody:
see `lock_watch`.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Set
from typing import Final, Protocol

from tcpao.userspace.netlink.messages import attribute, messages
from tcpao.userspace.netlink.nfqueue import NETLINK_NETFILTER

_GROUP: Final = 1 << (7 - 1)
"""NFNLGRP_NFTABLES, as a mask of netlink groups."""
_SUBSYSTEM: Final = 10
"""NFNL_SUBSYS_NFTABLES."""
_REMOVALS: Final = frozenset({2, 5, 8})
"""NFT_MSG_DELTABLE, DELCHAIN, DELRULE (enum nf_tables_msg_types)."""
_NFGENMSG_SIZE: Final = 4
_TABLE: Final = 1
"""NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE."""
_LARGEST: Final = 1 << 20


class Watch(Protocol):
    """What is there from before the first rule on; where it can't be, there are no rules."""

    def fileno(self) -> int:
        """Readable when rules may have been removed."""

    def removals(self) -> bool:
        """True if some may have been removed since the last call, whoever's. Raises OSError if
        that can't be told any more."""

    def close(self) -> None:
        """Nothing more is to be noticed."""


class NftablesWatch:
    """Events of nftables in this namespace."""

    def __init__(self, tables: Collection[str]) -> None:
        """`tables`: the names of those that ours are in, of whatever family. Raises OSError where
        there is no nftables to listen to."""
        self._tables = frozenset(one.encode() for one in tables)
        self._own: int | None = None
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        try:
            self._socket.bind((0, _GROUP))
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def overlook(self, port: int) -> None:
        """What the netlink socket with this port id has done."""
        self._own = port

    def fileno(self) -> int:
        """Readable when rules have changed."""
        return self._socket.fileno()

    def __str__(self) -> str:
        return 'nftables'

    def removals(self) -> bool:
        """True if something of these tables was removed since the last call, by whomever, or if
        nobody knows."""
        found = False
        while True:
            try:
                found |= has_removal(self._socket.recv(_LARGEST), self._tables, self._own)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # Some events were lost.
                found = True

    def close(self) -> None:
        """Nothing more is to be noticed."""
        self._socket.close()


def has_removal(octets: bytes, tables: Set[bytes], own: int | None = None) -> bool:
    """True if one of these messages says that one of these tables was removed, or a chain or rule
    of it, by somebody else than the netlink socket with the port id `own`."""
    return any(
        port != own
        and kind >> 8 == _SUBSYSTEM
        and kind & 0xFF in _REMOVALS
        and _table_of(body[_NFGENMSG_SIZE:]) in {None, *tables}
        for kind, _, port, body in messages(octets)
    )


def _table_of(attributes: bytes) -> bytes | None:
    """The name of the table that an event is about; None if it doesn't say."""
    name = attribute(attributes, _TABLE)
    return name.rstrip(b'\0') if name is not None else None

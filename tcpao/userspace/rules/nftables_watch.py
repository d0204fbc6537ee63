"""A watch for the removal of rules: nftables sends events, for `iptables` on nftables too.

A firewall that is reloaded flushes all rules, ours included. The legacy iptables send no events:
see `iptables_lock_watch`.
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
    """A watch that exists from before the first rule on; where it can't, there are no rules."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when rules may have been removed."""

    def removals(self) -> bool:
        """Return True if any rules may have been removed since the last call.

        Raises OSError if watching is not possible any more.
        """

    def close(self) -> None:
        """Stop watching."""


class NftablesWatch:
    """A watch on the events of nftables in this namespace."""

    def __init__(self, tables: Collection[str]) -> None:
        """Watch the tables with these names, of any family.

        Raises OSError if there is no nftables.
        """
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
        """Ignore changes by the netlink socket with this port id."""
        self._own = port

    def fileno(self) -> int:
        return self._socket.fileno()

    def __str__(self) -> str:
        return 'nftables'

    def removals(self) -> bool:
        """Return True if something in these tables was removed since the last call, or events were
        lost.
        """
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
        self._socket.close()


def has_removal(octets: bytes, tables: Set[bytes], own: int | None = None) -> bool:
    """Return True if a message reports the removal of one of these tables, or of a part of it.

    Removals by the netlink socket with the port id `own` don't count.
    """
    return any(
        port != own
        and kind >> 8 == _SUBSYSTEM
        and kind & 0xFF in _REMOVALS
        and _table_of(body[_NFGENMSG_SIZE:]) in {None, *tables}
        for kind, _, port, body in messages(octets)
    )


def _table_of(attributes: bytes) -> bytes | None:
    """Return the name of the table of an event; None if the event has none."""
    name = attribute(attributes, _TABLE)
    return name.rstrip(b'\0') if name is not None else None

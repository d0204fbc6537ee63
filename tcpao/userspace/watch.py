"""Noticing that somebody has removed rules: nftables tells it, for `iptables` on nftables too.

A firewall that is reloaded flushes what it finds, ours included. The legacy iptables tell nobody:
see `lock_watch`.
"""

from __future__ import annotations

import errno
import socket
from struct import Struct
from typing import Final, Protocol

from tcpao.userspace.nfqueue import NETLINK_NETFILTER

_GROUP: Final = 1 << (7 - 1)
"""NFNLGRP_NFTABLES, as a mask of netlink groups."""
_SUBSYSTEM: Final = 10
"""NFNL_SUBSYS_NFTABLES."""
_REMOVALS: Final = frozenset({2, 5, 8})
"""NFT_MSG_DELTABLE, DELCHAIN, DELRULE (enum nf_tables_msg_types)."""
_NLMSG: Final = Struct('=IHHII')
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

    def __init__(self) -> None:
        """Raises OSError where there is no nftables to listen to."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        try:
            self._socket.bind((0, _GROUP))
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Readable when rules have changed."""
        return self._socket.fileno()

    def __str__(self) -> str:
        return 'nftables'

    def removals(self) -> bool:
        """True if something was removed since the last call, by whomever, or if nobody knows."""
        found = False
        while True:
            try:
                found |= has_removal(self._socket.recv(_LARGEST))
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


def has_removal(octets: bytes) -> bool:
    """True if one of these messages says that a table, chain or rule was removed."""
    at = 0
    while at + _NLMSG.size <= len(octets):
        length, kind = _NLMSG.unpack_from(octets, at)[:2]
        if length < _NLMSG.size:
            break
        if kind >> 8 == _SUBSYSTEM and kind & 0xFF in _REMOVALS:
            return True
        at += (length + 3) & ~3
    return False

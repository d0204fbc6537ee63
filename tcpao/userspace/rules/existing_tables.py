"""A quick test for tables of ours in nftables, without pyroute2.

Importing pyroute2 takes longer than the rest of this work in a daemon without protected neighbors.
One dump over netlink (include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h, linux/netlink.h).
"""

from __future__ import annotations

import socket
from struct import Struct
from typing import Final

from tcpao.userspace.netlink.messages import DONE, ERROR, HEADER, attribute, messages
from tcpao.userspace.netlink.nfqueue import NETLINK_NETFILTER

_NLM_F_REQUEST: Final = 0x1
_NLM_F_DUMP_INTR: Final = 0x10
_NLM_F_DUMP: Final = 0x300
_NEW_TABLE: Final = 10 << 8 | 0
"""NFNL_SUBSYS_NFTABLES and NFT_MSG_NEWTABLE."""
_GET_TABLE: Final = 10 << 8 | 1
"""NFT_MSG_GETTABLE."""
_NAME: Final = 1
"""NFTA_TABLE_NAME."""
_NFGENMSG: Final = Struct('!BBH')
_LARGEST: Final = 1 << 16


def may_have_tables(prefix: str) -> bool:
    """Return False if no table of this network namespace has a name with this prefix.

    False too if there is no nftables, or if we may not ask.
    """
    length = HEADER.size + _NFGENMSG.size
    request = HEADER.pack(length, _GET_TABLE, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as asking:
            # Tables of every family.
            asking.send(request + _NFGENMSG.pack(socket.AF_UNSPEC, 0, 0))
            while True:
                found = _look(asking.recv(_LARGEST), prefix.encode())
                if found is not None:
                    return found
    except OSError:
        return False


def _look(octets: bytes, prefix: bytes) -> bool | None:
    """Return the result for one part of the answer; None if more of it comes."""
    for kind, flags, _, body in messages(octets):
        if flags & _NLM_F_DUMP_INTR:
            # Another program changes tables meanwhile: some may be missing here.
            return True
        if kind in (DONE, ERROR):
            return False
        name = attribute(body[_NFGENMSG.size :], _NAME) if kind == _NEW_TABLE else None
        if name is not None and name.startswith(prefix):
            return True
    return None

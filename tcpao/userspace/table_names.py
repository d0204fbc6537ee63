"""Whether nftables has tables of ours here, without pyroute2: to import it takes longer than all
else that a daemon without protected neighbors does of this.

One dump over netlink (include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h, linux/netlink.h).
"""

from __future__ import annotations

import socket
from struct import Struct
from typing import Final

from tcpao.userspace.nfqueue import NETLINK_NETFILTER

_NLM_F_REQUEST: Final = 0x1
_NLM_F_DUMP_INTR: Final = 0x10
_NLM_F_DUMP: Final = 0x300
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NEW_TABLE: Final = 10 << 8 | 0
"""NFNL_SUBSYS_NFTABLES and NFT_MSG_NEWTABLE."""
_GET_TABLE: Final = 10 << 8 | 1
"""NFT_MSG_GETTABLE."""
_NAME: Final = 1
"""NFTA_TABLE_NAME."""
_NLMSG: Final = Struct('=IHHII')
_NFGENMSG: Final = Struct('!BBH')
_NLA: Final = Struct('=HH')
_BODY: Final = _NLMSG.size + _NFGENMSG.size
_LARGEST: Final = 1 << 16


def may_have_tables(prefix: str) -> bool:
    """False if no table of this network namespace has a name that begins so, if there is no
    nftables, and if we may not ask."""
    request = _NLMSG.pack(_BODY, _GET_TABLE, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as asking:
            # Of every family.
            asking.send(request + _NFGENMSG.pack(socket.AF_UNSPEC, 0, 0))
            while True:
                found = _look(asking.recv(_LARGEST), prefix.encode())
                if found is not None:
                    return found
    except OSError:
        return False


def _look(octets: bytes, prefix: bytes) -> bool | None:
    """In one part of the answer; None if more of it comes."""
    at = 0
    while at + _NLMSG.size <= len(octets):
        length, kind, flags, _, _ = _NLMSG.unpack_from(octets, at)
        if flags & _NLM_F_DUMP_INTR:
            # Somebody changes tables meanwhile: some may be missing here.
            return True
        if kind in (_NLMSG_DONE, _NLMSG_ERROR):
            return False
        if kind == _NEW_TABLE and _name(octets[at + _BODY : at + length]).startswith(prefix):
            return True
        at += max(_NLMSG.size, (length + 3) & ~3)
    return None


def _name(attributes: bytes) -> bytes:
    at = 0
    while at + _NLA.size <= len(attributes):
        length, kind = _NLA.unpack_from(attributes, at)
        if kind == _NAME:
            return attributes[at + _NLA.size : at + length]
        at += max(_NLA.size, (length + 3) & ~3)
    return b''

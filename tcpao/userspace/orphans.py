"""Ending TCP connections of this host whose owner is gone, by their address and SO_COOKIE.

One message of inet_diag (SOCK_DESTROY, CONFIG_INET_DIAG_DESTROY): TCP sends a RST, which is still
signed, and the socket is dead even if somebody else holds a descriptor of it.
"""

from __future__ import annotations

import errno
import socket
from struct import Struct
from typing import Final

from tcpao.mkt import SocketPair

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DESTROY: Final = 21
_NLM_F_REQUEST_ACK: Final = 1 | 4
_ALL_STATES: Final = 0xFFFFFFFF
_NO_COOKIE: Final = 0xFFFFFFFFFFFFFFFF

# nlmsghdr; inet_diag_req_v2, whose ports and addresses are in network byte order.
_NLMSG: Final = Struct('=IHHII')
_REQUEST: Final = Struct('=BBBBI')
_SOCKET: Final = Struct('!HH16s16s')
_REST: Final = Struct('=IQ')
_ERROR: Final = Struct('=i')


def request(pair: SocketPair, cookie: int | None) -> bytes:
    """The message that ends this connection; without a cookie whichever socket has the pair."""
    family = socket.AF_INET if pair.local.version == 4 else socket.AF_INET6
    body = (
        _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)
        + _SOCKET.pack(pair.local_port, pair.remote_port, pair.local.packed, pair.remote.packed)
        + _REST.pack(0, _NO_COOKIE if cookie is None else cookie)
    )
    return _NLMSG.pack(_NLMSG.size + len(body), _SOCK_DESTROY, _NLM_F_REQUEST_ACK, 1, 0) + body


def destroy(pair: SocketPair, cookie: int | None) -> bool:
    """True if no such socket is left; False if the kernel won't end it."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diag:
            diag.settimeout(1.0)
            diag.send(request(pair, cookie))
            answer = diag.recv(4096)
    except OSError:
        return False
    number = -_ERROR.unpack_from(answer, _NLMSG.size)[0]
    return number in (0, errno.ENOENT)

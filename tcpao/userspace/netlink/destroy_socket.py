"""The end of TCP connections whose owner is gone, by their addresses and SO_COOKIE.

One message of inet_diag (SOCK_DESTROY, CONFIG_INET_DIAG_DESTROY): TCP sends a RST, which is still
signed, and the socket is dead even if another process holds a descriptor of it.
"""

from __future__ import annotations

import os
import socket
from struct import Struct
from typing import Final

from tcpao.mkt import SocketPair

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_SOCK_DESTROY: Final = 21
_NLM_F_REQUEST: Final = 1
_NLM_F_ACK: Final = 4
_NLMSG_ERROR: Final = 2
_ALL_STATES: Final = 0xFFFFFFFF
_NO_COOKIE: Final = 0xFFFFFFFFFFFFFFFF
_LISTEN: Final = 10

# nlmsghdr; inet_diag_req_v2, whose ports and addresses are in network byte order.
_NLMSG: Final = Struct('=IHHII')
_REQUEST: Final = Struct('=BBBBI')
_SOCKET: Final = Struct('!HH16s16s')
_REST: Final = Struct('=IQ')
_ERROR: Final = Struct('=i')
# inet_diag_msg: family, state, two timers, then the fields of the request.
_FOUND: Final = Struct('=xBxx36x4xQ')


def destroy(pair: SocketPair, cookie: int | None, interface: int = 0) -> bool:
    """End this connection; without a cookie, the one that has the pair now.

    Returns True if no such socket is left; False if the kernel refuses. `interface` is the device
    of a bound socket.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diag:
            diag.settimeout(1.0)
            if cookie is None:
                # Without a connection, the kernel would find a listening socket, and end that.
                cookie = _find(diag, pair, interface)
            if cookie is not None:
                _ask(diag, _SOCK_DESTROY, _NLM_F_ACK, pair, cookie, interface)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _find(diag: socket.socket, pair: SocketPair, interface: int) -> int | None:
    """Return the cookie of the connection with this pair; None if only a listening socket fits.

    Raises OSError; FileNotFoundError if there is no socket.
    """
    answer = _ask(diag, _SOCK_DIAG_BY_FAMILY, 0, pair, _NO_COOKIE, interface)
    state, cookie = _FOUND.unpack_from(answer, _NLMSG.size)
    return None if state == _LISTEN else cookie


def _ask(
    diag: socket.socket, kind: int, flags: int, pair: SocketPair, cookie: int, interface: int
) -> bytes:
    """Return the kernel's answer. Raises OSError with the kernel's error."""
    family = socket.AF_INET if pair.local.version == 4 else socket.AF_INET6
    body = (
        _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)
        + _SOCKET.pack(pair.local_port, pair.remote_port, pair.local.packed, pair.remote.packed)
        + _REST.pack(interface, cookie)
    )
    diag.send(_NLMSG.pack(_NLMSG.size + len(body), kind, _NLM_F_REQUEST | flags, 1, 0) + body)
    answer = diag.recv(4096)
    if _NLMSG.unpack_from(answer)[1] == _NLMSG_ERROR:
        number = -_ERROR.unpack_from(answer, _NLMSG.size)[0]
        if number:
            raise OSError(number, os.strerror(number))
    return answer

"""Detection of connections that were made without a whole handshake, so that a recording may pass.

With a cookie the kernel takes both initial sequence numbers from a bare ACK (`cookie_v4_check`). So
a recorded ACK, and the data after it, make a connection again where the listening socket still has
their key. A listener with TCP_SAVE_SYN hands each child the SYN that it was made from
(tcp(7), `tcp_reqsk_record_syn`); a child made from a cookie has none.

With TCP Fast Open for all listeners (bits 0x402 of net.ipv4.tcp_fastopen) a SYN with data makes a
child at once (RFC 7413 4.2.2). A recorded SYN does the same. Such a child is in SYN-RECEIVED
until the peer has answered our own initial sequence number.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from tcpao.installer import Cause
from tcpao.kernel.errors import refusal
from tcpao.key_socket import InstallError

# include/uapi/linux/tcp.h
_TCP_SAVE_SYN: Final = 27
_TCP_SAVED_SYN: Final = 28
# include/net/tcp_states.h; the first octet of TCP_INFO.
_TCP_SYN_RECV: Final = 3
# After 1 and 3 s. A peer that has not got one of the three repeats its SYN.
_SYN_ACKS_REPEATED: Final = 2
# Python takes no larger buffer. IP and TCP headers have 60 octets each, extension headers aside.
_LONGEST_SYN: Final = 1024

_SYNCOOKIES: Final = Path('/proc/sys/net/ipv4/tcp_syncookies')
_ALWAYS: Final = '2'

NO_SYN: Final = (
    'it was made from a SYN cookie, which a recorded session passes too: the queue of half-open '
    'connections was full (a flood of SYNs?), or net.ipv4.tcp_syncookies is 2'
)
ONLY_A_SYN: Final = (
    'it was made from a SYN alone, which may be a recorded one: net.ipv4.tcp_fastopen is on for '
    'all listening sockets (0x402); set it to 1'
)
ALWAYS_COOKIES: Final = (
    'net.ipv4.tcp_syncookies is 2, and connections that are made from cookies are refused: no '
    'protected neighbor can open one to this host; set it to 1'
)


def save_syns(listener: socket.socket) -> None:
    """Have a listening socket, or one that will listen, keep the SYN for each child.

    Raises InstallError.
    """
    try:
        listener.setsockopt(socket.IPPROTO_TCP, _TCP_SAVE_SYN, 1)
    except OSError as error:
        raise refusal(error.errno, 'having a listening socket save SYNs') from None


def forget_half_open_soon(listener: socket.socket) -> None:
    """Have a listening socket forget an unanswered SYN after 7 s, not after more than a minute.

    Its queue is full sooner or later, and with it SYN cookies begin, when unknown hosts send more
    SYNs than are forgotten. Also, a recorded SYN blocks its socket pair for that long. Raises
    InstallError.
    """
    try:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, _SYN_ACKS_REPEATED)
    except OSError as error:
        raise refusal(
            error.errno, 'having a listening socket forget half-open connections'
        ) from None


def refuse_cookies(child: socket.socket) -> None:
    """Raise InstallError (REFUSED) unless an accepted socket has its SYN.

    The kernel reports the SYN once, so call this once for each socket.
    """
    try:
        syn = child.getsockopt(socket.IPPROTO_TCP, _TCP_SAVED_SYN, _LONGEST_SYN)
    except OSError as error:
        raise refusal(error.errno, 'asking for the SYN of a connection') from None
    if not syn:
        raise InstallError(Cause.REFUSED, NO_SYN)


def refuse_unfinished(child: socket.socket) -> None:
    """Raise InstallError (REFUSED) if the handshake of an accepted socket is not finished."""
    try:
        state = child.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except OSError as error:
        raise refusal(error.errno, 'asking for the TCP state') from None
    if state == _TCP_SYN_RECV:
        raise InstallError(Cause.REFUSED, ONLY_A_SYN)


def warning() -> str | None:
    """Return a warning if this network namespace's settings prevent every accepted connection."""
    try:
        always = _SYNCOOKIES.read_text().strip() == _ALWAYS
    except OSError:
        # A kernel without SYN cookies.
        return None
    return ALWAYS_COOKIES if always else None

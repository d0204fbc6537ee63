"""GTSM (RFC 5082) on accepted connections of protected neighbors, from the SYN-ACK on.

A SYN-ACK has the listening socket's TTL, which upstream leaves at the host's 64: an opener that
expects 255 drops it. The listening socket is shared, so connections of plain neighbors get the
host's value back when they are accepted.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from gatekeeper.policy.addresses import address_of
from plugin.configuration.neighbors import protection_of
from plugin.connections.peers import neighbor_in_force
from tcpao.mkt import IPAddress

GTSM_HOP_LIMIT: Final = 255
HOSTS_DEFAULT: Final = -1
# <linux/in.h>, <linux/in6.h>: missing in Python.
_IP_MINTTL = 21
_IPV6_MINHOPCOUNT = 73


def set_on_listeners(reactor: Any) -> None:
    """Set the TTL of protected neighbors on the listening sockets, for their SYN-ACKs."""
    for sock in reactor.listener._sockets:
        wanted = HOSTS_DEFAULT
        for peer in reactor._peers.values():
            neighbor = neighbor_in_force(peer)
            if protection_of(neighbor) is not None and _family(neighbor) == sock.family:
                wanted = max(wanted, _sending(neighbor))
        if wanted != getattr(sock, 'hop_limit', HOSTS_DEFAULT):
            _set(sock, wanted)
            sock.hop_limit = wanted


def restore(listener: Any, sock: socket.socket) -> None:
    """Give an accepted connection of a plain neighbor the host's TTL back."""
    if getattr(listener, 'hop_limit', HOSTS_DEFAULT) != HOSTS_DEFAULT:
        _set(sock, HOSTS_DEFAULT)


def expect_at_accept(reactor: Any, sock: socket.socket, remote: IPAddress) -> None:
    """Do what `expect` does before it is known which neighbor of that address this is.

    What arrives until then counts as the session's: the opener sends its OPEN at once.
    """
    neighbors = [neighbor_in_force(peer) for peer in reactor._peers.values()]
    there = [one for one in neighbors if address_of(one['peer-address']) == remote]
    least = min(there, key=lambda one: one['incoming-ttl'] or 0, default=None)
    if least is not None:
        expect(sock, least)


def expect(sock: socket.socket, neighbor: Any) -> None:
    """Have the kernel drop packets that come from farther than the neighbor's incoming-ttl."""
    if not neighbor['incoming-ttl']:
        return
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, neighbor['incoming-ttl'])
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, neighbor['incoming-ttl'])


def _sending(neighbor: Any) -> int:
    """Return the TTL to send, by ExaBGP's own rule: a side that expects GTSM sends so too."""
    if neighbor['outgoing-ttl']:
        return int(neighbor['outgoing-ttl'])
    return GTSM_HOP_LIMIT if neighbor['incoming-ttl'] else HOSTS_DEFAULT


def _family(neighbor: Any) -> int:
    return socket.AF_INET if neighbor['peer-address'].ipv4() else socket.AF_INET6


def _set(sock: socket.socket, value: int) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, value)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, value)

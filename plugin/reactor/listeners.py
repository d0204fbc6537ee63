"""The start of listening: after the first load, when all that it protects is guarded.

Upstream listens on exabgp.tcp.bind before it reads a configuration. A protected peer that repeats
its SYN while we restart would get an unsigned SYN-ACK, which it drops. The kernel would keep that
half-open connection for more than a minute, and give the same answer to every SYN. For the same
reason half-open connections are dropped when a reload protects another address.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from exabgp.logger import log
from exabgp.protocol.family import AFI
from exabgp.reactor.network.error import NetworkError
from exabgp.reactor.network.tcp import md5

from gatekeeper.policy.addresses import address_of
from gatekeeper.policy.sessions import SessionPolicy
from plugin.configuration.neighbors import protection_of
from plugin.connections.peers import neighbor_in_force
from plugin.log import LOG


def may_listen(reactor: Any) -> bool:
    """Return True once a configuration is in force."""
    return bool(getattr(reactor, 'ikev2_loaded', False))


def begin(reactor: Any) -> str | None:
    """Listen on all sockets that upstream has bound; return why that fails, or None.

    Called when the first configuration is in force.
    """
    if may_listen(reactor):
        return None
    for sock, (address, port, *_) in reactor.listener._sockets.items():
        try:
            sock.begin_listening()
        except (NetworkError, OSError) as error:
            return f'cannot listen on {address} port {port}: {error}; does another daemon?'
    reactor.ikev2_loaded = True
    return None


def listen_for_protected(reactor: Any) -> None:
    """Listen for the protected neighbors of a reload.

    Upstream does so from 5.0.14 on; before, only for the neighbors of its start.
    """
    if hasattr(reactor, '_listen_for_neighbors'):
        return
    for neighbor in reactor.configuration.neighbors.values():
        if neighbor['listen'] and protection_of(neighbor) is not None:
            reactor.listener.listen_on(
                neighbor['md5-ip'],
                neighbor['peer-address'],
                neighbor['listen'],
                None,
                False,
                neighbor['incoming-ttl'],
            )


def forget_half_open(reactor: Any) -> None:
    """Drop half-open connections, after another address is guarded."""
    if may_listen(reactor):
        for sock, (address, port, *_) in reactor.listener._sockets.items():
            try:
                sock.forget_half_open()
            except OSError as error:
                cause = f'no longer listening on {address} port {port}: {error.strerror}'
                log.critical(lambda cause=cause: cause, LOG)


@contextmanager
def without_md5(reactor: Any, policies: Sequence[SessionPolicy]) -> Iterator[None]:
    """Take the TCP-MD5 keys of these policies' peers off the listening sockets.

    The kernel accepts no TCP-AO key beside one (EKEYREJECTED). After an error they are restored,
    and half-open connections without them are dropped.
    """
    remotes = {policy.remote for policy in policies}
    taken_off = []
    for peer in reactor._peers.values():
        neighbor = neighbor_in_force(peer)
        if not neighbor['md5-password'] or address_of(neighbor['peer-address']) not in remotes:
            continue
        family = socket.AF_INET if neighbor['peer-address'].afi == AFI.ipv4 else socket.AF_INET6
        for sock in reactor.listener._sockets:
            if sock.family == family:
                md5(sock, neighbor['peer-address'].top(), 0, None, None)
                taken_off.append((sock, neighbor))
    try:
        yield
    except BaseException:
        for sock, neighbor in taken_off:
            address, password = neighbor['peer-address'].top(), neighbor['md5-password']
            md5(sock, address, 0, password, neighbor['md5-base64'])
            sock.forget_half_open()
        raise

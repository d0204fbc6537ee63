"""When ExaBGP's sockets listen: after the first load of a configuration, when all that it protects
is guarded.

Upstream listens on exabgp.tcp.bind before it reads a configuration. A protected peer that repeats
its SYN while we restart would get an unsigned SYN-ACK, which it drops, and the kernel would keep
that half-open connection, and give this answer to every SYN, for more than a minute. For the same
reason half-open connections are dropped when a reload protects a further address.
"""

from __future__ import annotations

from typing import Any

from exabgp.reactor.network.error import NetworkError


def may_listen(reactor: Any) -> bool:
    """Return True once a configuration is in force."""
    return bool(getattr(reactor, 'ikev2_loaded', False))


def begin(reactor: Any) -> str | None:
    """Listen on what upstream has bound so far; the first configuration is in force. Returns why
    that can't be, or None."""
    if may_listen(reactor):
        return None
    for sock, (address, port, *_) in reactor.listener._sockets.items():
        try:
            sock.begin_listening()
        except (NetworkError, OSError) as error:
            return f'cannot listen on {address} port {port}: {error}; does another daemon?'
    reactor.ikev2_loaded = True
    return None


def forget_half_open(reactor: Any) -> None:
    """A further address is guarded: drop what its peer may have begun before."""
    if may_listen(reactor):
        for sock in reactor.listener._sockets:
            sock.forget_half_open()

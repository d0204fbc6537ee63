"""The reset of connections from here, whichever process has their sockets."""

from __future__ import annotations

from collections.abc import Iterable

from tcpao.userspace.connections.connection import Connection
from tcpao.userspace.netlink import destroy_socket as orphans


def reset_all(connections: Iterable[Connection]) -> list[Connection]:
    """Reset these connections. Return those that the kernel did not end."""
    return [
        each
        for each in list(connections)
        if not orphans.destroy(each.pair, each.cookie, each.interface)
    ]

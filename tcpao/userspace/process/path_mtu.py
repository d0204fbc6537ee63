"""The MTU of a path, from the routing table."""

from __future__ import annotations

import socket

from tcpao.mkt import IPAddress


def mtu_between(local: IPAddress, remote: IPAddress) -> int | None:
    """Return the MTU in the routing table, path MTU included; None if there is no route."""
    family, level, option = (
        (socket.AF_INET, socket.IPPROTO_IP, 14)  # IP_MTU
        if local.version == 4
        else (socket.AF_INET6, socket.IPPROTO_IPV6, 24)  # IPV6_MTU
    )
    try:
        # Connecting a datagram socket sends nothing.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(local), 0))
            probe.connect((str(remote), 9))
            return probe.getsockopt(level, option)
    except OSError:
        return None

"""Passive neighbors in a VRF, whose SYNs ExaBGP's listening sockets may not get.

Those sockets are bound to no interface, and get nothing that comes by an interface of a VRF unless
net.ipv4.tcp_l3mdev_accept, which is for IPv6 too, is 1 (Documentation/networking/vrf.rst). Then
they must be on the unspecified address: an address of a VRF can't be bound without its interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from gatekeeper.policy.sessions import SessionPolicy

_ACCEPT: Final = Path('/proc/sys/net/ipv4/tcp_l3mdev_accept')


def is_in_vrf(interface: str) -> bool:
    """Return True if this interface is a VRF or belongs to one."""
    # Not at the top: most daemons have no neighbor that needs it, and it is slow to import.
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    # Not /sys/class/net, which may show another network namespace's.
    try:
        with IPRoute() as route:
            (link,) = route.get_links(ifname=interface)
            master = link.get('master')
            links = [link, *(route.get_links(master) if master else ())]
            return any(one.get(('linkinfo', 'kind')) == 'vrf' for one in links)
    except (OSError, NetlinkError, ValueError):
        return False


def unheard(
    policies: Iterable[SessionPolicy],
    in_vrf: Callable[[str], bool] = is_in_vrf,
    accept: Path = _ACCEPT,
) -> Iterator[str]:
    """Yield a warning for each passive neighbor that can't reach this daemon from its VRF."""
    for policy in policies:
        name = policy.interface
        if policy.connect_port is None and name is not None and in_vrf(name):
            try:
                if accept.read_text().strip() != '0':
                    return
            except OSError:
                return
            yield (
                f'neighbor {policy.neighbor}: it is passive, {name} is in a VRF, and listening '
                f'sockets get nothing from there: set net.ipv4.tcp_l3mdev_accept to 1, and '
                f'exabgp.tcp.bind to 0.0.0.0 or ::'
            )

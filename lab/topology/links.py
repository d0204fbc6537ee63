"""Network namespaces and the cables between them: the only room that talks netlink."""

from __future__ import annotations

from pathlib import Path

from pyroute2 import IPRoute, netns

from lab.topology.model import Endpoint

NAMESPACES = Path('/run/netns')


def create_namespace(name: str) -> Path:
    """Make a named network namespace, as `ip netns add` does; return its file."""
    netns.create(name)
    return NAMESPACES / name


def remove_namespace(name: str) -> None:
    """Take a namespace's name away; it ends, links and all, when its last process has."""
    netns.remove(name)


def namespace_exists(name: str) -> bool:
    """Whether such a name is there, be it from a lab that was killed."""
    return (NAMESPACES / name).exists()


def connect(first: Endpoint, second: Endpoint, namespaces: dict[str, Path]) -> None:
    """Lay a veth pair between two nodes and switch both ends on."""
    with IPRoute(netns=namespaces[first.node].name) as near:
        near.link(
            'add',
            ifname=first.interface,
            kind='veth',
            peer={'ifname': second.interface, 'net_ns_fd': namespaces[second.node].name},
        )
        near.link('set', index=near.link_lookup(ifname=first.interface)[0], state='up')
    with IPRoute(netns=namespaces[second.node].name) as far:
        far.link('set', index=far.link_lookup(ifname=second.interface)[0], state='up')

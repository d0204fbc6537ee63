"""Network namespaces and the cables between them: the only module here that uses netlink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from pyroute2 import IPRoute, netns

from lab.topology.model import Endpoint

NAMESPACES = Path('/run/netns')


def create_namespace(name: str) -> Path:
    """Make a named network namespace, as `ip netns add` does; return its file."""
    netns.create(name)
    return NAMESPACES / name


def remove_namespace(name: str) -> None:
    """Remove a namespace's name; the namespace ends, with its links, with its last process."""
    netns.remove(name)


def namespace_exists(name: str) -> bool:
    """Return True if such a name exists, even if left by a killed lab."""
    return (NAMESPACES / name).exists()


def connect(links: Sequence[tuple[Endpoint, Endpoint]], namespaces: Mapping[str, str]) -> None:
    """Make veth pairs between nodes and switch both ends on; `namespaces` are names by node."""
    with IPRoute() as here:
        for near, far in links:
            here.link(
                'add',
                kind='veth',
                ifname=near.interface,
                net_ns_fd=namespaces[near.node],
                state='up',
                peer={'ifname': far.interface, 'net_ns_fd': namespaces[far.node]},
            )
    # A pair is made with one end on; opening a namespace is the slow part.
    far_ends = sorted((far.node, far.interface) for _, far in links)
    for node, ends in groupby(far_ends, key=itemgetter(0)):
        with IPRoute(netns=namespaces[node]) as there:
            for _, interface in ends:
                there.link('set', ifname=interface, state='up')

"""UDP sockets that are opened with the first session that negotiates: keychains need no IKE.

A policy with an interface has IKE by that interface, to which its adapter binds the TCP sockets
too: there is no other way to an interface of a VRF. Sockets without an interface are for the
others.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address

from gatekeeper.policy.sessions import SessionPolicy
from ikev2.events import Datagram, SendFailure
from ikev2.udp import UdpError, UdpSockets
from tcpao.mkt import IPAddress


class IkeSockets:
    """The sockets of IKE, once there are any."""

    def __init__(self, ports: tuple[int, int]) -> None:
        self._ports = ports
        self._sockets: UdpSockets | None = None
        self._by_interface: dict[tuple[str, int], UdpSockets] = {}
        """By name and index: an interface that was made again is another one."""
        self._interface_of: dict[tuple[IPAddress, IPAddress], str] = {}
        """By local and remote address."""
        self._zones: Mapping[IPv6Address, str] = {}

    def open(self, selector: selectors.BaseSelector, policies: Iterable[SessionPolicy]) -> None:
        """Open the sockets and register them with the selector. Raises UdpError; then none is open.

        The first call, and the first for an interface, needs the privileges for low ports. An
        interface that does not exist is left out until the next call.
        """
        if self._sockets is None:
            self._sockets = UdpSockets(self._ports)
            self._watch(selector, self._sockets)
        for name in sorted({p.interface for p in policies if p.pad and p.interface}):
            index = _index_of(name)
            if index and (name, index) not in self._by_interface:
                with self._sockets.sharing():
                    opened = UdpSockets(self._sockets.ports, self._sockets.families, name)
                self._by_interface[name, index] = opened
                self._watch(selector, opened)

    def _watch(self, selector: selectors.BaseSelector, opened: UdpSockets) -> None:
        opened.use_zones(self._zones)
        for descriptor in opened.filenos():
            selector.register(descriptor, selectors.EVENT_READ)

    def use_interfaces(self, policies: Iterable[SessionPolicy]) -> None:
        """Send to the peers by the interfaces that these policies name."""
        named = {(p.local, p.remote): p.interface for p in policies if p.interface is not None}
        self._interface_of = named
        self._zones = {
            remote: interface
            for (_, remote), interface in named.items()
            if isinstance(remote, IPv6Address) and remote.is_link_local
        }
        for opened in self._all():
            opened.use_zones(self._zones)

    def _all(self) -> Iterator[UdpSockets]:
        if self._sockets is not None:
            yield self._sockets
        yield from self._by_interface.values()

    def receive(self) -> Iterable[Datagram]:
        """Return the received datagrams."""
        return [datagram for opened in self._all() for datagram in opened.receive()]

    def send(self, datagram: Datagram) -> None:
        """Send a datagram; only once the sockets are open."""
        assert self._sockets is not None
        name = self._interface_of.get((datagram.local, datagram.remote))
        bound = self._by_interface.get((name, _index_of(name))) if name is not None else None
        (bound or self._sockets).send(datagram)

    def take_failures(self) -> list[SendFailure]:
        """Return the datagrams that were refused, here or on the way."""
        return [failure for opened in self._all() for failure in opened.take_failures()]

    def close(self) -> None:
        """Close all sockets."""
        for opened in self._all():
            opened.close()


def _index_of(interface: str) -> int:
    """Return the index of an interface; 0 if there is none of that name."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


__all__ = ['IkeSockets', 'UdpError']

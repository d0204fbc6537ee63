"""UDP sockets that are opened with the first session that negotiates: keychains need no IKE."""

from __future__ import annotations

import selectors
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address

from gatekeeper.policy.sessions import SessionPolicy
from ikev2.events import Datagram, SendFailure
from ikev2.udp import UdpError, UdpSockets


class IkeSockets:
    """The sockets of IKE, once there are any."""

    def __init__(self, ports: tuple[int, int]) -> None:
        self._ports = ports
        self._sockets: UdpSockets | None = None
        self._interfaces: Mapping[IPv6Address, str] = {}

    def open(self, selector: selectors.BaseSelector) -> None:
        """Bind and have the selector watch; the first call needs the privileges for low ports.

        Raises UdpError; then nothing is left behind.
        """
        if self._sockets is None:
            self._sockets = UdpSockets(self._ports)
            self._sockets.use_zones(self._interfaces)
            for descriptor in self._sockets.filenos():
                selector.register(descriptor, selectors.EVENT_READ)

    def use_zones(self, policies: Iterable[SessionPolicy]) -> None:
        """Link-local peers are reached by the interfaces that these policies name."""
        self._interfaces = {
            policy.remote: policy.interface
            for policy in policies
            if isinstance(policy.remote, IPv6Address)
            and policy.remote.is_link_local
            and policy.interface is not None
        }
        if self._sockets is not None:
            self._sockets.use_zones(self._interfaces)

    def receive(self) -> Iterable[Datagram]:
        """What has come."""
        return self._sockets.receive() if self._sockets is not None else ()

    def send(self, datagram: Datagram) -> None:
        """Only once they are open."""
        assert self._sockets is not None
        self._sockets.send(datagram)

    def take_failures(self) -> list[SendFailure]:
        """Datagrams that were refused, here or on the way."""
        return self._sockets.take_failures() if self._sockets is not None else []

    def close(self) -> None:
        """Give the ports back."""
        if self._sockets is not None:
            self._sockets.close()


__all__ = ['IkeSockets', 'UdpError']

"""UDP sockets that are opened with the first session that negotiates: keychains need no IKE."""

from __future__ import annotations

import selectors
from collections.abc import Iterable

from ikev2.events import Datagram, SendFailure
from ikev2.udp import UdpError, UdpSockets


class IkeSockets:
    """The sockets of IKE, once there are any."""

    def __init__(self, ports: tuple[int, int]) -> None:
        self._ports = ports
        self._sockets: UdpSockets | None = None

    def open(self, selector: selectors.BaseSelector) -> None:
        """Bind and have the selector watch; the first call needs the privileges for low ports.

        Raises UdpError; then nothing is left behind.
        """
        if self._sockets is None:
            self._sockets = UdpSockets(self._ports)
            for descriptor in self._sockets.filenos():
                selector.register(descriptor, selectors.EVENT_READ)

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

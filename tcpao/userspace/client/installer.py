"""The installer for the packet process, with the same steps as every other installer."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress

from tcpao.deny_keys import GuardOfSocket, KeyOfSocket
from tcpao.installer import AdapterDied, Capabilities, Cause, Command, Event
from tcpao.kernel.installer import endpoint_of
from tcpao.key_socket import InstallError, KeySocket
from tcpao.mkt import SocketPair
from tcpao.socket_installer import SocketInstaller
from tcpao.userspace.client.channel import Channel
from tcpao.userspace.client.key_socket import UserspaceSocket
from tcpao.userspace.protocol.messages import AddAll, DeleteAll, Request


class UserspaceInstaller(SocketInstaller[socket.socket]):
    """The installer of the `userspace` backend, for one thread; several may share a packet
    process.
    """

    def __init__(self, channel: Channel, algorithms: frozenset[str]) -> None:
        super().__init__(wrap=lambda sock: UserspaceSocket(sock, channel, self._tell))
        self._channel = channel
        self._algorithms = algorithms
        self._told = False

    def _tell(self, request: Request) -> None:
        """Send a request without using its answer; a dead process needs none."""
        with suppress(InstallError):
            self._channel.ask(request)

    def capabilities(self) -> Capabilities:
        """Return the capabilities that the packet process has reported."""
        return Capabilities(
            backend='userspace',
            algorithms=self._algorithms,
            matches_ports=True,
            counts_sent=False,
        )

    def add_connection(self, pair: SocketPair, handle: socket.socket) -> None:
        super().add_connection(pair, handle)
        _userspace(self._connections[pair]).attach(pair)

    def drop_connection(self, pair: SocketPair) -> None:
        """Forget a connection; later segments of TCP for it are still signed for a while."""
        known = self._connections.get(pair)
        super().drop_connection(pair)
        if known is not None:
            _userspace(known).release()

    def add_listener(self, handle: socket.socket) -> None:
        """Manage a listener's keys; raises InstallError too if the socket is not bound to a
        port.
        """
        if handle.fileno() == -1 or endpoint_of(handle.getsockname())[1] == 0:
            raise InstallError(Cause.REFUSED, 'a listening socket must be bound to a port first')
        super().add_listener(handle)
        _userspace(self._listeners[-1][1]).register()

    def drop_listener(self, handle: socket.socket) -> None:
        """Forget a listener; its keys go at once, so close it before it accepts a connection."""
        known = [sock for other, sock in self._listeners if other is handle]
        super().drop_listener(handle)
        for sock in known:
            _userspace(sock).release()

    def _add_keys(self, keys: Sequence[KeyOfSocket]) -> None:
        # One question, whose answer takes one change of the rules.
        if keys:
            named = tuple((_userspace(sock).name(), key) for sock, key in keys)
            self._channel.ask(AddAll(named))

    def _delete_deny_keys(self, places: Sequence[GuardOfSocket]) -> None:
        if places:
            named = tuple(
                (_userspace(sock).name(), guard.peer, guard.send_id, guard.recv_id)
                for sock, guard in places
            )
            self._channel.ask(DeleteAll(named))

    def submit(self, command: Command) -> None:
        """Execute a command, and report a death of the process."""
        super().submit(command)
        self._notice()

    def events(self) -> list[Event]:
        self._notice()
        return super().events()

    def _notice(self) -> None:
        if self._channel.died is not None and not self._told:
            self._told = True
            self._events.append(AdapterDied(self._channel.died))


def _userspace(sock: KeySocket) -> UserspaceSocket:
    assert isinstance(sock, UserspaceSocket)
    return sock

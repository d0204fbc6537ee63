"""The installer on the packet process: the commands' steps are those of every backend."""

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
    """The `userspace` backend, for one thread; several may share a packet process."""

    def __init__(self, channel: Channel, algorithms: frozenset[str]) -> None:
        super().__init__(wrap=lambda sock: UserspaceSocket(sock, channel, self._tell))
        self._channel = channel
        self._algorithms = algorithms
        self._told = False

    def _tell(self, request: Request) -> None:
        """Have the process do what nobody waits for. It may be dead by then, which is as good."""
        with suppress(InstallError):
            self._channel.ask(request)

    def capabilities(self) -> Capabilities:
        """What the packet process said that it can do."""
        return Capabilities(
            backend='userspace',
            algorithms=self._algorithms,
            matches_ports=True,
            counts_sent=False,
        )

    def add_connection(self, pair: SocketPair, handle: socket.socket) -> None:
        """As every installer's."""
        super().add_connection(pair, handle)
        _userspace(self._connections[pair]).attach(pair)

    def drop_connection(self, pair: SocketPair) -> None:
        """As every installer's. What TCP still sends for it is signed for a while."""
        known = self._connections.get(pair)
        super().drop_connection(pair)
        if known is not None:
            _userspace(known).release()

    def add_listener(self, handle: socket.socket) -> None:
        """As every installer's; raises InstallError for a socket that isn't bound to a port."""
        if handle.fileno() == -1 or endpoint_of(handle.getsockname())[1] == 0:
            raise InstallError(Cause.REFUSED, 'a listening socket must be bound to a port first')
        super().add_listener(handle)
        _userspace(self._listeners[-1][1]).register()

    def drop_listener(self, handle: socket.socket) -> None:
        """As every installer's; its keys go at once, so close it before it takes a connection."""
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
        """As every installer's. The first command after the process died says so, too."""
        super().submit(command)
        self._notice()

    def events(self) -> list[Event]:
        """As every installer's."""
        self._notice()
        return super().events()

    def _notice(self) -> None:
        if self._channel.died is not None and not self._told:
            self._told = True
            self._events.append(AdapterDied(self._channel.died))


def _userspace(sock: KeySocket) -> UserspaceSocket:
    assert isinstance(sock, UserspaceSocket)
    return sock

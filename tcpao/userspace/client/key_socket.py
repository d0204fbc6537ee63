"""A KeySocket whose keys are in the packet process.

Linux's own state of a TCP socket (its addresses, whether it has ever connected) and its reset are
the same as for the kernel's TCP-AO; only the keys are elsewhere.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import Final

from tcpao.installer import Cause
from tcpao.kernel.installer import LinuxSocket, endpoint_of, received_versions
from tcpao.key_socket import InstalledKey, InstallError, Key, SocketState
from tcpao.mkt import IPNetwork, SocketPair
from tcpao.userspace.client.channel import Channel
from tcpao.userspace.connections.sockets_table import SocketName
from tcpao.userspace.protocol.messages import (
    Add,
    Delete,
    Listen,
    Read,
    Release,
    Request,
    SetRNext,
    State,
)

_SO_COOKIE: Final = 57
_COOKIE: Final = Struct('=Q')
# <linux/in.h>: missing in Python 3.11.
_IP_MTU_DISCOVER: Final = 10
_PMTUDISC_INTERFACE: Final = 4


class UserspaceSocket(LinuxSocket):
    """A listening socket, or a connection once `attach` was called."""

    def __init__(
        self, sock: socket.socket, channel: Channel, tell: Callable[[Request], None]
    ) -> None:
        """Take the socket; `tell` sends requests that need no answer."""
        super().__init__(sock)
        self._tell = tell
        self._channel = channel
        self._name: SocketName | None = None
        self._pair: SocketPair | None = None
        self._released = False

    def attach(self, pair: SocketPair) -> None:
        """Make this socket a connection, open or about to be."""
        self._ignore_path_mtu()
        self._pair = pair
        self._name = SocketName(
            self._cookie(),
            pair.local,
            pair.local_port,
            frozenset({pair.local.version}),
            pair.remote,
            pair.remote_port,
        )

    def _ignore_path_mtu(self) -> None:
        """Limit the socket's IPv4 packets to the link's MTU, without the DF bit.

        TCP fills the path MTU without our option, and ICMP about any other socket changes that MTU.
        """
        # The next command reports a closed socket.
        with suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_INTERFACE)

    def is_open(self) -> bool:
        if super().is_open():
            return True
        # Its owner has closed it without a call.
        self.release()
        return False

    def register(self) -> None:
        """Tell the packet process of a listening socket, with keys or without.

        The socket accepts SYNs that another listening socket has keys for.
        """
        self._ask(Listen(self.name()))

    def release(self) -> None:
        """Forget the socket, which its owner does not need any more; a dead process needs no
        message.
        """
        if self._released or self._name is None:
            return
        self._released = True
        if self._channel.died is None:
            self._tell(Release(self._name))

    # --- keys -------------------------------------------------------------------------------

    def add(self, key: Key, *, select: bool) -> None:
        fresh = self._pair is not None and self.is_fresh()
        self._ask(Add(self.name(), key, select, fresh))

    def delete(
        self, peer: IPNetwork, send_id: int, recv_id: int, switch_to: InstalledKey | None = None
    ) -> None:
        ids = (switch_to.send_id, switch_to.recv_id) if switch_to is not None else None
        self._ask(Delete(self.name(), peer, send_id, recv_id, ids))

    def read(self) -> SocketState | None:
        reply = self._channel.ask(Read(self.name()))
        assert isinstance(reply, State)
        return reply.state

    def set_rnext(self, recv_id: int) -> None:
        self._ask(SetRNext(self.name(), recv_id))

    def abort(self) -> None:
        super().abort()
        # After the RST, which waits in the queue to be signed.
        self.release()

    # --- its name ---------------------------------------------------------------------------

    def name(self) -> SocketName:
        """Return the name of this socket in the packet process. Raises InstallError."""
        if self._name is None:
            try:
                local, port = endpoint_of(self._sock.getsockname())
                versions = received_versions(self._sock)
            except OSError as error:
                raise InstallError(Cause.GONE, f'the socket is closed ({error})') from None
            self._name = SocketName(self._cookie(), local, port, versions)
        return self._name

    def _cookie(self) -> int:
        try:
            octets = self._sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, _COOKIE.size)
        except OSError as error:
            raise InstallError(Cause.GONE, f'the socket is closed ({error})') from None
        cookie: int = _COOKIE.unpack(octets)[0]
        return cookie

    def _ask(self, request: Request) -> None:
        self._channel.ask(request)

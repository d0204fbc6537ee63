"""A router of another make as BIRD or GoBGP are one: a plain socket under this kernel's TCP-AO, its
keys given by hand. It has no gatekeeper, and what it does is the test's."""

from __future__ import annotations

import socket
from ipaddress import ip_network

from gatekeeper.policy.keychain import ChainKey
from tcpao.kernel.installer import LinuxSocket
from tcpao.key_socket import Key
from tests.gatekeeper.service.test_gatekeeper import ABORT_ON_CLOSE, PATIENCE
from tests.gatekeeper.world import PORTS, R1, R2

V4 = 'ipv4 unicast'


class ByHand:
    """r1's end: a socket, and its keys, in the namespace in which this thread is. As a listener
    it has a second socket in the end, the accepted one."""

    def __init__(
        self, *keys: ChainKey, port: int = PORTS[V4], local: str = str(R1), remote: str = str(R2)
    ) -> None:
        self.remote = remote
        self.sock = self._bound(local, port)
        self._ao = LinuxSocket(self.sock)
        for one in keys:
            self.add(one, select=True)

    def _bound(self, local: str, port: int) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT_ON_CLOSE)
        sock.bind((local, port))
        sock.settimeout(PATIENCE)
        return sock

    def add(self, one: ChainKey, *, select: bool = False) -> None:
        """Add a key as a router's own configuration would."""
        self._ao.add(
            Key(
                ip_network(self.remote),
                one.send_id,
                one.recv_id,
                one.algorithm,
                one.tcp_options,
                one.master_key,
            ),
            select=select,
        )

    def ask_for(self, one: ChainKey) -> None:
        """Move RNext."""
        self._ao.set_rnext(one.recv_id)

    def forget(self, one: ChainKey) -> None:
        """Remove a key that isn't in use."""
        self._ao.delete(ip_network(self.remote), one.send_id, one.recv_id)

    def connect(self, seconds: float = PATIENCE) -> bool:
        """False if no answer comes in time."""
        self.sock.settimeout(seconds)
        try:
            self.sock.connect((self.remote, 179))
        except TimeoutError:
            return False
        return True

    def accept(self) -> None:
        """From now on it is the connection that counts."""
        listener = self.sock
        self.sock, _ = listener.accept()
        listener.close()
        self.sock.settimeout(PATIENCE)
        self._ao = LinuxSocket(self.sock)

    def ids(self) -> tuple[int | None, int | None]:
        """Current and RNext."""
        state = self._ao.read()
        assert state is not None
        return state.current, state.rnext

    def bad(self) -> int:
        """Segments that weren't good under some key, or under none that it has."""
        state = self._ao.read()
        assert state is not None
        return state.not_found + state.unsigned + sum(key.bad for key in state.keys)

"""The listening sockets and the deny keys on them, for the gatekeeper's thread alone.

Sockets come as dup()ed descriptors, so that the daemon may close its own at any time; the core sets
MKTs on them, through the same installer.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_network

from gatekeeper.errors import GatekeeperError
from gatekeeper.policy.deny_ids import deny_ids
from gatekeeper.policy.sessions import SessionPolicy
from tcpao.installer import (
    Command,
    Failed,
    Guard,
    GuardAll,
    Install,
    Installer,
    Remove,
    Unguard,
    UnguardAll,
    Where,
)
from tcpao.key_socket import InstallError


class Listeners:
    """Every listening socket that could receive a protected neighbor's SYN."""

    def __init__(self, installer: Installer[socket.socket]) -> None:
        self._installer = installer
        self._sockets: dict[int, socket.socket] = {}
        """By the daemon's descriptor."""
        self._ports: set[int] = set()
        self._guards: set[Guard] = set()

    def add(self, descriptor: int, sock: socket.socket, policies: Iterable[SessionPolicy]) -> None:
        """Guard a socket that the daemon knows by `descriptor`.

        Raises GatekeeperError; then the socket isn't known here.
        """
        # The daemon has closed the socket that had this number, without a call.
        self.drop(descriptor)
        try:
            port = int(sock.getsockname()[1])
            known = port in self._ports
            self._ports.add(port)
            try:
                self.guard(policies)
                self._installer.add_listener(sock)
            except (GatekeeperError, InstallError):
                if not known:
                    self._ports.discard(port)
                raise
        except InstallError as error:
            raise GatekeeperError(f'cannot protect the listening socket: {error.text}') from None
        except OSError as error:
            raise GatekeeperError(f'cannot protect the listening socket: {error}') from None
        self._sockets[descriptor] = sock

    def drop(self, descriptor: int) -> None:
        """Forget the socket that the daemon knows by `descriptor`, and closes; an unknown one is
        ignored.
        """
        sock = self._sockets.pop(descriptor, None)
        if sock is not None:
            self._installer.drop_listener(sock)
            sock.close()

    def close(self) -> None:
        """Close all descriptors. The keys stay on the sockets as long as the daemon's are open."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    # --- deny keys ------------------------------------------------------------------------------

    def guard(self, policies: Iterable[SessionPolicy]) -> list[Guard]:
        """Add the missing deny keys of these policies, all or none; return the added ones.

        Raises GatekeeperError.
        """
        missing = sorted(self._wanted(policies) - self._guards, key=str)
        if missing:
            self._submit(GuardAll(tuple(missing)))
            self._guards.update(missing)
        return missing

    def unguard(self, guards: Iterable[Guard]) -> None:
        """Remove deny keys. On failure they stay, which is safe: they only deny."""
        gone = sorted(guards, key=str)
        if gone:
            with suppress(GatekeeperError):
                self._submit(UnguardAll(tuple(gone)))
                self._guards.difference_update(gone)

    def keep(self, policies: Sequence[SessionPolicy]) -> None:
        """Remove all deny keys but those of these policies."""
        self.unguard(self._guards - self._wanted(policies))

    def _wanted(self, policies: Iterable[SessionPolicy]) -> set[Guard]:
        policies = tuple(policies)
        ports = self._ports | {p.listen_port for p in policies if p.listen_port is not None}
        return {
            Guard(ip_network(remote), port, *numbers)
            for remote, numbers in deny_ids(policies).items()
            for port in ports
        }

    def _submit(self, command: Command) -> None:
        self._installer.submit(command)
        for event in self._installer.events():
            if isinstance(event, Failed):
                raise GatekeeperError(f'{event.text} ({event.cause})')


def is_for_listeners(command: Command) -> bool:
    """Return True if the command concerns listening sockets, not a connection."""
    match command:
        case Guard() | Unguard() | GuardAll() | UnguardAll():
            return True
        case Install(where=where) | Remove(where=where):
            return where is Where.LISTENER
        case _:
            return False

"""The daemon's commands, executed on the table of sockets.

No I/O: other modules change the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tcpao.key_socket import InstallError, Key
from tcpao.userspace.connections.keyring import StoredKey
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.connections.sockets_table import SocketName
from tcpao.userspace.protocol import messages
from tcpao.userspace.protocol.messages import Done, Reply, Request, State


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a command, and its conditions."""

    reply: Reply = Done()  # noqa: RUF009
    may_change_rules: bool = False
    """True if rules may have to change before the answer."""
    take_back: Callable[[], None] | None = None
    """Undoes the command if its rules can't be made: without rules a key protects nothing."""


class Commands:
    """Commands for one packet path."""

    def __init__(self, core: PacketPath) -> None:
        self._core = core

    def carry_out(self, request: Request, now: float) -> Outcome:
        """Execute a command. Raises InstallError; unchanged then."""
        core = self._core
        match request:
            case messages.Listen(name):
                core.listen(name)
                return Outcome()
            case messages.Add(name, key, select, fresh):
                return self._add([(name, key)], select=select, fresh=fresh)
            case messages.AddAll(keys):
                return self._add(keys, select=False, fresh=False)
            case messages.Delete(name, peer, send_id, recv_id, switch_to):
                core.delete(name, peer, send_id, recv_id, switch_to)
            case messages.DeleteAll(keys):
                for name, peer, send_id, recv_id in keys:
                    core.discard(name, peer, send_id, recv_id)
            case messages.SetRNext(name, recv_id):
                core.set_rnext(name, recv_id)
                return Outcome()
            case messages.Read(name):
                return Outcome(State(core.read(name)))
            case messages.Release(name):
                core.release(name, now)
            case messages.Loaded(peers):
                core.heritage.keep(peers)
        return Outcome(may_change_rules=True)

    def _add(self, keys: Iterable[tuple[SocketName, Key]], *, select: bool, fresh: bool) -> Outcome:
        """Add keys, all or none. Raises InstallError."""
        added: list[tuple[SocketName, StoredKey]] = []

        def take_back() -> None:
            for name, stored in reversed(added):
                self._core.take_back(name, stored)

        try:
            for name, key in keys:
                stored = StoredKey(
                    peer=key.peer,
                    pair=key.pair,
                    send_id=key.send_id,
                    recv_id=key.recv_id,
                    algorithm=key.algorithm,
                    tcp_options=key.tcp_options,
                    master_key=key.master_key,
                )
                self._core.add(name, stored, select=select, fresh=fresh)
                added.append((name, stored))
        except InstallError:
            take_back()
            raise
        return Outcome(may_change_rules=True, take_back=take_back)

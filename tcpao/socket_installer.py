"""The installer's commands, executed on sockets: order of steps, roll-back, pruning, guards.

Not a backend: a KeySocket sets the key on a socket (`tcpao.kernel.installer`, or the double of the
tests). Not thread-safe: one instance belongs to the one thread that owns its sockets.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import assert_never

from tcpao.deny_keys import (
    DenyKeys,
    GuardOfSocket,
    KeyOfSocket,
    add_all,
    delete_if_there,
    is_deny_key,
)
from tcpao.installer import (
    Abort,
    Capabilities,
    Cause,
    Close,
    Command,
    Done,
    Event,
    Failed,
    Guard,
    GuardAll,
    Handle,
    Install,
    Installer,
    KeyCounters,
    KeyState,
    Probe,
    Prune,
    Read,
    Remove,
    SetRNext,
    Unguard,
    UnguardAll,
    Where,
)
from tcpao.key_socket import InstalledKey, InstallError, Key, KeySocket
from tcpao.mkt import Mkt, PeerPairs, SocketPair

_READS = 8
"""Reads until the counters of a socket that receives meanwhile are of one moment."""


class SocketInstaller(Installer[Handle], ABC):
    """An executor of the installer's commands; `Handle` is the socket type of the owner."""

    def __init__(
        self,
        wrap: Callable[[Handle], KeySocket],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._wrap = wrap
        self._connections: dict[SocketPair, KeySocket] = {}
        self._listeners: list[tuple[Handle, KeySocket]] = []
        self._deny_keys = DenyKeys(
            self._open_listeners, random, self._add_keys, self._delete_deny_keys
        )
        self._on_listeners: dict[str, Mkt] = {}
        self._events: list[Event] = []

    # --- sockets, handed over by their owner ------------------------------------------------

    def add_connection(self, pair: SocketPair, handle: Handle) -> None:
        socket = self._wrap(handle)
        if not socket.is_open() or not socket.carries(pair):
            raise InstallError(Cause.GONE, f'the socket handed over is not {pair}')
        self._connections[pair] = socket

    def add_accepted(self, pair: SocketPair, handle: Handle) -> None:
        self.add_connection(pair, handle)

    def drop_connection(self, pair: SocketPair) -> None:
        self._connections.pop(pair, None)

    def add_listener(self, handle: Handle) -> None:
        socket = self._wrap(handle)
        awaited = [mkt for mkt in self._on_listeners.values() if _awaits(socket, mkt)]
        self._deny_keys.put_on(socket, [(socket, Key.of(mkt)) for mkt in awaited])
        self._listeners.append((handle, socket))

    def drop_listener(self, handle: Handle) -> None:
        self._listeners = [known for known in self._listeners if known[0] is not handle]

    # --- the installer's interface ----------------------------------------------------------

    @abstractmethod
    def capabilities(self) -> Capabilities: ...

    def fileno(self) -> int | None:
        return None

    def submit(self, command: Command) -> None:
        """Execute a command; its event is then in `events`."""
        try:
            event = self._carry_out(command)
        except InstallError as error:
            event = Failed(command, error.cause, error.text)
        self._events.append(event)

    def events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _carry_out(self, command: Command) -> Event:
        match command:
            case Guard():
                self._deny_keys.add([command])
            case GuardAll(guards):
                self._deny_keys.add(guards)
            case Unguard(peer, service_port, send_id, recv_id):
                self._deny_keys.remove([Guard(peer, service_port, send_id, recv_id)])
            case UnguardAll(guards):
                self._deny_keys.remove(guards)
            case Install(mkt, Where.LISTENER):
                self._install_on_listeners(mkt)
            case Install(mkt, Where.CONNECTION):
                self._install_on_connection(mkt)
            case SetRNext(mkt):
                socket = self._living(mkt.pair)
                _find(_keys(socket, mkt.pair), mkt)
                socket.set_rnext(mkt.recv_id)
            case Read(pair):
                return self._read(pair)
            case Remove(mkt, Where.LISTENER):
                self._remove_from_listeners(mkt)
            case Remove(mkt, Where.CONNECTION, switch_to):
                self._remove_from_connection(mkt, switch_to)
            case Prune(keep, also):
                self._prune(keep, also)
            case Probe(pair, on):
                self._living(pair).probe(on)
            case Abort(pair):
                self._connection(pair).abort()
                # Only the owner may close the descriptor, which must never connect again.
                del self._connections[pair]
            case Close():
                raise InstallError(
                    Cause.UNSUPPORTED, 'closing with a NOTIFICATION is the BGP side, not TCP-AO'
                )
            case Install() | Remove():
                raise InstallError(Cause.UNSUPPORTED, f'no such place for a key: {command.where}')
            case _:
                assert_never(command)
        return Done(command)

    # --- listeners --------------------------------------------------------------------------

    def _install_on_listeners(self, mkt: Mkt) -> None:
        sockets = [socket for socket in self._open_listeners() if _awaits(socket, mkt)]
        if not sockets and not isinstance(mkt.protects, PeerPairs):
            raise InstallError(
                Cause.NO_LISTENER,
                f'no listening socket takes a SYN from {mkt.pair.remote} to '
                f'{mkt.pair.local} port {mkt.pair.local_port}: is the daemon told to listen there?',
            )
        self._add_keys([(socket, Key.of(mkt)) for socket in sockets])
        self._on_listeners[mkt.identity] = mkt

    def _remove_from_listeners(self, mkt: Mkt) -> None:
        if mkt.identity not in self._on_listeners:
            raise InstallError(Cause.GONE, f'{mkt.identity} is on no listening socket')
        for socket in self._open_listeners():
            if _awaits(socket, mkt):
                delete_if_there(socket, mkt.peer, mkt.send_id, mkt.recv_id)
        del self._on_listeners[mkt.identity]

    def _open_listeners(self) -> list[KeySocket]:
        self._listeners = [known for known in self._listeners if known[1].is_open()]
        return [socket for _, socket in self._listeners]

    def _add_keys(self, keys: Sequence[KeyOfSocket]) -> None:
        """Add keys to listening sockets, all or none. Raises InstallError."""
        add_all(keys)

    def _delete_deny_keys(self, places: Sequence[GuardOfSocket]) -> None:
        """Delete deny keys, all or none. Raises InstallError."""
        bare: list[GuardOfSocket] = []
        try:
            for socket, guard in places:
                delete_if_there(socket, guard.peer, guard.send_id, guard.recv_id)
                bare.append((socket, guard))
        except InstallError:
            # Still guarded on one socket, so guard on all.
            self._deny_keys.put(bare)
            raise

    # --- connections ------------------------------------------------------------------------

    def _connection(self, pair: SocketPair) -> KeySocket:
        socket = self._connections.get(pair)
        if socket is None:
            raise InstallError(Cause.GONE, f'no socket is known for {pair}')
        if not socket.is_open() or not socket.carries(pair):
            del self._connections[pair]
            raise InstallError(Cause.GONE, f'the socket of {pair} is closed')
        return socket

    def _living(self, pair: SocketPair) -> KeySocket:
        socket = self._connection(pair)
        if socket.is_dead():
            raise InstallError(Cause.GONE, f'the connection {pair} has ended, or never came up')
        return socket

    def _install_on_connection(self, mkt: Mkt) -> None:
        socket = self._living(mkt.pair)
        socket.add(Key.of(mkt), select=socket.is_fresh())

    def _read(self, pair: SocketPair) -> KeyState:
        socket = self._connection(pair)
        state = socket.read()
        if state is None:
            return KeyState(pair, None, None, (), 0, 0)
        return KeyState(
            pair=pair,
            current=state.current,
            rnext=state.rnext,
            keys=tuple(
                KeyCounters(key.send_id, key.recv_id, key.good, key.bad) for key in state.keys
            ),
            not_found=state.not_found,
            unsigned=state.unsigned,
            traffic=socket.traffic(),
        )

    def _remove_from_connection(self, mkt: Mkt, switch_to: Mkt | None) -> None:
        socket = self._connection(mkt.pair)
        keys = _keys(socket, mkt.pair)
        key = _find(keys, mkt)
        if switch_to is not None:
            if switch_to == mkt:
                raise InstallError(Cause.REFUSED, f'{mkt.identity} cannot be its own successor')
            socket.delete(key.peer, key.send_id, key.recv_id, switch_to=_find(keys, switch_to))
        else:
            # Asked first: even a refused delete takes the key off for a moment, and segments under
            # it are then dropped.
            _refuse_if_in_use(mkt.pair, key)
            socket.delete(key.peer, key.send_id, key.recv_id)

    def _prune(self, keep: Mkt, also: Sequence[Mkt]) -> None:
        socket = self._connection(keep.pair)
        keys = _keys(socket, keep.pair)
        _find(keys, keep)
        kept = {(mkt.send_id, mkt.recv_id) for mkt in (keep, *also)}
        others = [key for key in keys if (key.send_id, key.recv_id) not in kept]
        for key in others:
            _refuse_if_in_use(keep.pair, key)
        # The deny key first: no peer can use it, whatever fails after.
        for key in sorted(others, key=is_deny_key, reverse=True):
            socket.delete(key.peer, key.send_id, key.recv_id)
        left = {(key.send_id, key.recv_id) for key in _keys(socket, keep.pair)}
        if not left <= kept:
            raise InstallError(
                Cause.REFUSED, f'{keep.pair} still has {len(left)} keys after pruning'
            )
        _refuse_if_used(socket, keep.pair)


def _keys(socket: KeySocket, pair: SocketPair) -> tuple[InstalledKey, ...]:
    state = socket.read()
    if state is None:
        raise InstallError(Cause.GONE, f'{pair} has no TCP-AO at all')
    return state.keys


def _find(keys: tuple[InstalledKey, ...], mkt: Mkt) -> InstalledKey:
    for key in keys:
        if (key.send_id, key.recv_id) == (mkt.send_id, mkt.recv_id):
            return key
    raise InstallError(
        Cause.GONE,
        f'{mkt.pair} has no key with SendID {mkt.send_id} and RecvID {mkt.recv_id}',
    )


def _refuse_if_used(socket: KeySocket, pair: SocketPair) -> None:
    """Raise InstallError (REFUSED) if segments were good under a key that was pruned.

    Their octets wait for the reader, and the key is another session's, or has ended since the SYN.
    """
    for _ in range(_READS):
        state = socket.read()
        if state is None or not state.of_removed:
            return
    raise InstallError(Cause.REFUSED, f'{pair} has taken segments under a key that is not its own')


def _awaits(socket: KeySocket, mkt: Mkt) -> bool:
    if isinstance(mkt.protects, PeerPairs):
        return socket.can_receive_syn(mkt.peer, None, mkt.protects.service_port)
    return socket.can_receive_syn(mkt.peer, mkt.protects.local, mkt.protects.local_port)


def _refuse_if_in_use(pair: SocketPair, key: InstalledKey) -> None:
    if key.in_use:
        roles = [
            name for name, has in (('Current', key.is_current), ('RNext', key.is_rnext)) if has
        ]
        raise InstallError(
            Cause.BUSY,
            f'on {pair} the key with SendID {key.send_id} and RecvID {key.recv_id} is '
            f'{" and ".join(roles)}',
        )

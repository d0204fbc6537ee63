"""Deny keys: keys on a listening socket that refuse every peer without another key.

A listening socket accepts a SYN without TCP-AO, unless the socket has some key for the peer's
address. So each guarded peer has a key there whose secret is never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from keymaterial import Secret
from tcpao.installer import DENY_ID, Cause, Guard
from tcpao.key_socket import InstalledKey, InstallError, Key, KeySocket
from tcpao.mkt import ALGORITHMS, IPNetwork
from tcpao.prefixes import Prefixes

DENY_ALGORITHM = ALGORITHMS['hmac-sha-1-96']
DENY_SECRET_LENGTH = 32

KeyOfSocket = tuple[KeySocket, Key]
GuardOfSocket = tuple[KeySocket, Guard]


class DenyKeys:
    """The guards in force, each with its deny key on every listening socket that it concerns."""

    def __init__(
        self,
        listeners: Callable[[], Sequence[KeySocket]],
        random: Callable[[int], bytes],
        add_all: Callable[[Sequence[KeyOfSocket]], None],
        delete_all: Callable[[Sequence[GuardOfSocket]], None],
    ) -> None:
        """Take the functions that list the open listening sockets and change keys.

        `add_all` and `delete_all` are a backend's, and do all or nothing.
        """
        self._listeners = listeners
        self._random = random
        self._add_all = add_all
        self._delete_all = delete_all
        self._guards: dict[Guard, None] = {}
        self._by_peer: Prefixes[Guard] = Prefixes()

    def add(self, guards: Iterable[Guard]) -> None:
        """Add guards, all or none. Raises InstallError."""
        new = [guard for guard in dict.fromkeys(guards) if guard not in self._guards]
        known: list[Guard] = []
        try:
            for guard in new:
                self._refuse_overlap(guard)
                self._by_peer.add(guard.peer, guard)
                known.append(guard)
            self.put(self._places(new))
        except InstallError:
            for guard in known:
                self._by_peer.remove(guard.peer, guard)
            raise
        self._guards.update(dict.fromkeys(new))

    def remove(self, guards: Sequence[Guard]) -> None:
        """Remove guards, all or none. Raises InstallError."""
        for guard in guards:
            if guard not in self._guards:
                raise InstallError(Cause.GONE, f'{guard.peer} has no deny key')
        self._delete_all(self._places(guards))
        for guard in guards:
            del self._guards[guard]
            self._by_peer.remove(guard.peer, guard)

    def put_on(self, socket: KeySocket, keys: Sequence[KeyOfSocket]) -> None:
        """Give a new listening socket its deny keys and `keys`, all or none.

        Raises InstallError.
        """
        self.put([(socket, guard) for guard in self._guards if _concerns(guard, socket)], keys)

    def _refuse_overlap(self, guard: Guard) -> None:
        for other in self._by_peer.overlapping(guard.peer):
            if other.service_port != guard.service_port or other.peer == guard.peer:
                # Next to another deny key of the same peer, whose ids differ.
                continue
            raise InstallError(
                Cause.KEYID_IN_USE,
                f'{guard.peer} overlaps {other.peer}, which has a deny key already: '
                f'remove that neighbor first, or give both one prefix',
            )

    def _places(self, guards: Iterable[Guard]) -> list[GuardOfSocket]:
        """Return the sockets on which these deny keys belong."""
        sockets = self._listeners()
        return [(sock, guard) for guard in guards for sock in sockets if _concerns(guard, sock)]

    def put(self, places: Sequence[GuardOfSocket], keys: Sequence[KeyOfSocket] = ()) -> None:
        """Add the deny keys of these guards and `keys`, all or none. Raises InstallError."""
        deny_keys = [(socket, self._key(guard)) for socket, guard in places]
        try:
            self._add_all([*deny_keys, *keys])
        finally:
            for _, key in deny_keys:
                key.master_key.wipe()

    def _key(self, guard: Guard) -> Key:
        """Return a deny key: its secret is not kept, so no segment can be signed with it."""
        return Key(
            peer=guard.peer,
            send_id=guard.send_id,
            recv_id=guard.recv_id,
            algorithm=DENY_ALGORITHM,
            tcp_options=True,
            master_key=Secret(self._random(DENY_SECRET_LENGTH)),
        )


def add_all(keys: Sequence[KeyOfSocket]) -> None:
    """Add keys to listening sockets, all or none. Raises InstallError."""
    added: list[KeyOfSocket] = []
    try:
        for socket, key in keys:
            socket.add(key, select=False)
            added.append((socket, key))
    except InstallError:
        for socket, key in reversed(added):
            # The first refusal is the one to report.
            with suppress(InstallError):
                socket.delete(key.peer, key.send_id, key.recv_id)
        raise


def delete_if_there(socket: KeySocket, peer: IPNetwork, send_id: int, recv_id: int) -> None:
    """Delete a key that the socket may not have. Raises InstallError."""
    try:
        socket.delete(peer, send_id, recv_id)
    except InstallError as error:
        if error.cause is not Cause.GONE:
            raise


def is_deny_key(key: InstalledKey) -> bool:
    """Return True if the key has the usual ids of deny keys.

    The owner of connections does not know of deny keys with other ids.
    """
    return (key.send_id, key.recv_id) == (DENY_ID, DENY_ID)


def _concerns(guard: Guard, socket: KeySocket) -> bool:
    return socket.can_receive_syn(guard.peer, None, guard.service_port)

"""The keys of one socket, with Linux's rules: what may be added, removed, and made RNext.

Listeners and connections both have a keyring. `listeners` and `connection` find the key of a
segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from keymaterial import Secret
from tcpao.installer import Cause
from tcpao.key_socket import InstalledKey, InstallError, SocketState
from tcpao.mkt import Algorithm, IPNetwork, SocketPair
from tcpao.prefixes import Prefixes
from tcpao.userspace.wire.signing import supported

# Longer ones make no MAC stronger (RFC 2104 3), and a message needs a limit.
LONGEST_MASTER_KEY: Final = 1024


@dataclass(eq=False, slots=True)
class StoredKey:
    """One key on a socket."""

    peer: IPNetwork
    pair: SocketPair | None
    """The only connection that the key is for; None: any with this peer."""
    send_id: int
    recv_id: int
    algorithm: Algorithm
    tcp_options: bool
    master_key: Secret
    good: int = 0
    bad: int = 0

    def matches(self, pair: SocketPair) -> bool:
        """Return True if the key is for this connection (RFC 5925 3.1, TCP connection
        identifier).
        """
        return pair == self.pair if self.pair is not None else pair.remote in self.peer

    def inherited(self) -> StoredKey:
        """Return a copy for a child: with counters from zero, and its own copy of the secret."""
        return StoredKey(
            peer=self.peer,
            pair=self.pair,
            send_id=self.send_id,
            recv_id=self.recv_id,
            algorithm=self.algorithm,
            tcp_options=self.tcp_options,
            master_key=Secret(self.master_key.reveal()),
        )

    @property
    def option_length(self) -> int:
        """Return the octets of the TCP-AO option under this key."""
        return 4 + self.algorithm.mac_length


@dataclass(eq=False, slots=True)
class Keyring:
    """A socket's keys. The newest comes first, as in the kernel."""

    keys: list[StoredKey] = field(default_factory=list)
    current: StoredKey | None = None
    rnext: StoredKey | None = None
    not_found: int = 0
    """Segments with an unknown KeyID."""
    unsigned: int = 0
    """Segments without TCP-AO where it is required."""
    of_removed: int = 0
    """Good segments under keys that were deleted."""
    _by_peer: Prefixes[StoredKey] = field(default_factory=Prefixes)

    def __post_init__(self) -> None:
        for key in reversed(self.keys):
            self._by_peer.add(key.peer, key)

    def matching(self, pair: SocketPair) -> list[StoredKey]:
        """Return the keys that are for this connection."""
        return [key for key in self._by_peer.covering(pair.remote) if key.matches(pair)]

    def add(self, key: StoredKey, *, select: bool) -> None:
        """Add a key; `select` makes it Current and RNext. Raises InstallError."""
        if key.algorithm.name not in supported():
            raise InstallError(
                Cause.UNSUPPORTED,
                f'{key.algorithm.name} needs pycryptodome: pip install "exabgp-gatekeeper[kmac]"',
            )
        if not 0 < len(key.master_key) <= LONGEST_MASTER_KEY:
            raise InstallError(
                Cause.REFUSED,
                f'a master key has 1 to {LONGEST_MASTER_KEY} octets, '
                f'this one has {len(key.master_key)}',
            )
        for other in self._by_peer.overlapping(key.peer):
            if other.send_id == key.send_id or other.recv_id == key.recv_id:
                raise InstallError(
                    Cause.KEYID_IN_USE,
                    f'adding the key SendID {key.send_id} RecvID {key.recv_id} for {key.peer}: '
                    f'the key SendID {other.send_id} RecvID {other.recv_id} for {other.peer} '
                    f'has one of these ids already',
                )
        self.keys.insert(0, key)
        self._by_peer.add(key.peer, key)
        if select:
            self.current = self.rnext = key

    def delete(
        self, peer: IPNetwork, send_id: int, recv_id: int, switch_to: tuple[int, int] | None
    ) -> StoredKey:
        """Remove a key; `switch_to` (SendID, RecvID) becomes Current and RNext in the same step.

        Returns the key, wiped. Raises InstallError; unchanged then.
        """
        key = self._find(send_id, recv_id, peer)
        current, rnext = self.current, self.rnext
        if switch_to is not None:
            current = rnext = self._find(*switch_to)
        if key in (current, rnext):
            raise InstallError(
                Cause.BUSY,
                f'removing the key SendID {send_id} RecvID {recv_id} of {peer}: '
                f'it is Current or RNext',
            )
        self.current, self.rnext = current, rnext
        self._remove(key)
        self.of_removed += key.good
        return key

    def take_back(self, key: StoredKey) -> None:
        """Undo an `add`, even if the key is Current or RNext now."""
        self.current = self.current if self.current is not key else None
        self.rnext = self.rnext if self.rnext is not key else None
        self._remove(key)

    def _remove(self, key: StoredKey) -> None:
        self.keys.remove(key)
        self._by_peer.remove(key.peer, key)
        key.master_key.wipe()

    def set_rnext(self, recv_id: int) -> None:
        """Make the key with this RecvID RNext. Raises InstallError if there is none."""
        self.rnext = self.receiving(recv_id)
        if self.rnext is None:
            raise InstallError(Cause.GONE, f'setting RNext to RecvID {recv_id}: no such key')

    def receiving(self, recv_id: int) -> StoredKey | None:
        """Return the key for segments with this KeyID, on a connection, where ids are unique."""
        return next((key for key in self.keys if key.recv_id == recv_id), None)

    def sending(self, send_id: int) -> StoredKey | None:
        """Return the key that the peer asks for with this RNextKeyID, on a connection."""
        return next((key for key in self.keys if key.send_id == send_id), None)

    def state(self) -> SocketState:
        """Return the state in the installer's form."""
        return SocketState(
            current=self.current.send_id if self.current else None,
            rnext=self.rnext.recv_id if self.rnext else None,
            keys=tuple(
                InstalledKey(
                    peer=key.peer,
                    send_id=key.send_id,
                    recv_id=key.recv_id,
                    is_current=key is self.current,
                    is_rnext=key is self.rnext,
                    good=key.good,
                    bad=key.bad,
                )
                for key in self.keys
            ),
            not_found=self.not_found,
            unsigned=self.unsigned,
            of_removed=self.of_removed,
        )

    def wipe(self) -> None:
        """Wipe all keys, when the socket is gone."""
        for key in self.keys:
            key.master_key.wipe()
        self.keys.clear()
        self._by_peer = Prefixes()
        self.current = self.rnext = None

    def _find(self, send_id: int, recv_id: int, peer: IPNetwork | None = None) -> StoredKey:
        # A listener has a deny key for each of a thousand peers, with the same ids.
        among = self.keys if peer is None else self._by_peer.covering(peer)
        for key in among:
            if (key.send_id, key.recv_id) == (send_id, recv_id) and peer in (None, key.peer):
                return key
        raise InstallError(
            Cause.GONE, f'there is no key with SendID {send_id} and RecvID {recv_id}'
        )

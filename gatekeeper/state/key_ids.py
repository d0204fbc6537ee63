"""SendIDs and RecvIDs towards one peer.

Two spaces. Each side assigns only its own SendIDs (the other's RecvIDs), so crossing exchanges
can't clash. An id is taken from its request or answer on, until the exchange has failed or the MKT
has ended at both ends. It then rests for its socket pair, since segments may be in flight, and is
free for every other pair. 0 is never negotiated: deny keys have it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from tcpao.mkt import SocketPair

LARGEST = 255


class NoKeyIdError(Exception):
    """Every SendID towards this peer is taken."""


@dataclass(frozen=True, slots=True)
class _Resting:
    send_id: int
    recv_id: int
    until: float


@dataclass(slots=True)
class KeyIds:
    """The ids in use with one peer, for all its addresses (a DELETE names only the id)."""

    random: Callable[[int], bytes]
    _sending: set[int] = field(default_factory=set)
    _receiving: set[int] = field(default_factory=set)
    _resting: dict[SocketPair, list[_Resting]] = field(default_factory=dict)
    _manual: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())

    @property
    def sending(self) -> frozenset[int]:
        """Return the SendIDs that are taken."""
        return self._manual[0].union(self._sending)

    @property
    def receiving(self) -> frozenset[int]:
        """Return the RecvIDs that are taken."""
        return self._manual[1].union(self._receiving)

    def reserve(self, sending: Iterable[int], receiving: Iterable[int]) -> None:
        """Set the ids of the peer's manual keys, in place of the earlier ones."""
        self._manual = frozenset(sending), frozenset(receiving)

    def take_send_id(self, unwanted: Container[int] = ()) -> int:
        """Take and return a free SendID from a random start on, not one of `unwanted`.

        Raises NoKeyIdError.
        """
        start = self.random(1)[0]
        taken = self.sending
        for step in range(LARGEST):
            candidate = (start + step) % LARGEST + 1
            if candidate not in taken and candidate not in unwanted:
                self._sending.add(candidate)
                return candidate
        raise NoKeyIdError(f'all {LARGEST} KeyIDs towards this peer are taken')

    def take_recv_id(self, recv_id: int) -> bool:
        """Take the peer's SendID as RecvID; return False if it is not free."""
        if not 0 < recv_id <= LARGEST or recv_id in self.receiving:
            return False
        self._receiving.add(recv_id)
        return True

    def release(self, send_id: int, recv_id: int | None) -> None:
        """Free both ids."""
        self._sending.discard(send_id)
        if recv_id is not None:
            self._receiving.discard(recv_id)

    def rest(self, pair: SocketPair, send_id: int, recv_id: int, until: float) -> None:
        """Withhold both ids from this socket pair until `until`."""
        self._resting.setdefault(pair, []).append(_Resting(send_id, recv_id, until))

    def resting(self, pair: SocketPair, now: float) -> tuple[frozenset[int], frozenset[int]]:
        """Return the SendIDs and the RecvIDs that this socket pair may not have yet."""
        self._forget_rested(now)
        found = self._resting.get(pair, ())
        return frozenset(one.send_id for one in found), frozenset(one.recv_id for one in found)

    def _forget_rested(self, now: float) -> None:
        for pair, resting in list(self._resting.items()):
            left = [one for one in resting if now < one.until]
            if left:
                self._resting[pair] = left
            else:
                del self._resting[pair]

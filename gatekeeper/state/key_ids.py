"""SendIDs and RecvIDs towards one peer.

Two spaces. Each side gives out only its own SendIDs (the other's RecvIDs), so exchanges that cross
can't clash. An id is taken from the moment that it goes into a request or an answer, until the
exchange has failed or the MKT is gone at both ends. 0 is never negotiated: deny keys have it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

LARGEST = 255
NEW_SESSION_LIMIT = 127
"""MKTs live or pending from which on no new session is begun: the other half is for rekeys."""


class NoKeyIdError(Exception):
    """Every SendID towards this peer is taken."""


@dataclass(slots=True)
class KeyIds:
    """The ids in use with one peer, whatever the addresses (a DELETE names nothing else)."""

    random: Callable[[int], bytes]
    _sending: set[int] = field(default_factory=set)
    _receiving: set[int] = field(default_factory=set)
    _manual: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())

    @property
    def sending(self) -> frozenset[int]:
        """SendIDs that are taken."""
        return self._manual[0].union(self._sending)

    @property
    def receiving(self) -> frozenset[int]:
        """RecvIDs that are taken."""
        return self._manual[1].union(self._receiving)

    def reserve(self, sending: Iterable[int], receiving: Iterable[int]) -> None:
        """The ids of the peer's manual keys, instead of those that were so far."""
        self._manual = frozenset(sending), frozenset(receiving)

    def take_send_id(self, unwanted: Container[int] = ()) -> int:
        """A free SendID from a random start on, not one of `unwanted`. Raises NoKeyIdError."""
        start = self.random(1)[0]
        taken = self.sending
        for step in range(LARGEST):
            candidate = (start + step) % LARGEST + 1
            if candidate not in taken and candidate not in unwanted:
                self._sending.add(candidate)
                return candidate
        raise NoKeyIdError(f'all {LARGEST} KeyIDs towards this peer are taken')

    def take_recv_id(self, recv_id: int) -> bool:
        """Take the peer's SendID as RecvID; False if it can't be taken."""
        if not 0 < recv_id <= LARGEST or recv_id in self.receiving:
            return False
        self._receiving.add(recv_id)
        return True

    def release(self, send_id: int, recv_id: int | None) -> None:
        """Both are free again."""
        self._sending.discard(send_id)
        if recv_id is not None:
            self._receiving.discard(recv_id)

    @property
    def full_for_new_sessions(self) -> bool:
        """True when what is left is kept for rekeys."""
        return len(self._sending) >= NEW_SESSION_LIMIT

"""Deadlines: what is due when, and for which object. No clock: `now` is always an argument.

A table in `core` has the action for each deadline.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from enum import StrEnum
from itertools import count
from math import inf


class Due(StrEnum):
    """Every kind of deadline."""

    # of a connection
    GATE = 'the attempt to open must have its key'
    ASK_AGAIN = 'repeat the request for a new MKT'
    SYN = 'the listener holds a key no longer for a SYN that does not come'
    SYN_ANSWER = 'look at what became of the answers to our SYN'
    PROOF = 'the socket must have been read'
    REKEY = 'soft lifetime'
    VOLUME = 'look how much the key in use has protected'
    UNANSWERED = 'the rekey request must have been answered'
    READ = 'look how far traffic has moved to the successor'
    GRACE = 'traffic must have moved to the successor'
    DOUBT = 'a key that the peer does not know must have shown a good segment'
    DELETED = 'TCP must have said the same as a DELETE'
    REPLACED = 'the daemon must have closed a connection that a new request replaces'
    CEASE = 'shortly before the hard lifetime'
    HARD = 'hard lifetime'
    SYNC = 'make its manual keys those of its keychain again'
    # of the life of an MKT
    LIVENESS = 'ask whether the IKE SA lives, before the rekey needs it'
    RETIRE = 'take an old key off its connection'
    IDS = 'its KeyIDs may be used again'
    # of an MKT
    LISTENER = 'take a key off the listener: the kernel has refused it before'
    # of a peer
    IKE = 'try to make an IKE SA again'
    # of all keychains
    CHAINS = 'a lifetime of a key begins or ends'
    # of everything that must be renewed by operators
    FOREWARN = 'the end of something has come nearer'


_SPARE = 64
"""Cancelled entries that may stay in the heap in addition to the same number as live ones."""


class Deadlines:
    """The time of each deadline for each subject; setting one again moves it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Due, Hashable]] = []
        self._live: dict[tuple[Due, Hashable], int] = {}
        self._numbers = count()

    def set(self, due: Due, subject: Hashable, when: float) -> None:
        """Set the deadline `due` of `subject` to `when`, in place of an earlier setting.

        At infinity it never comes.
        """
        if when == inf:
            self.cancel(due, subject)
            return
        number = self._live[due, subject] = next(self._numbers)
        heapq.heappush(self._heap, (when, number, due, subject))
        if len(self._heap) > 2 * len(self._live) + _SPARE:
            self._heap = [one for one in self._heap if self._live.get(one[2:]) == one[1]]
            heapq.heapify(self._heap)

    def is_set(self, due: Due, subject: Hashable) -> bool:
        """Return True if the deadline is set."""
        return (due, subject) in self._live

    def cancel(self, due: Due, subject: Hashable) -> None:
        """Cancel the deadline, if set."""
        self._live.pop((due, subject), None)

    def cancel_all(self, subject: Hashable) -> None:
        """Cancel all deadlines of a subject that has ended."""
        for due in Due:
            self.cancel(due, subject)

    def next(self) -> float | None:
        """Return the time of the earliest deadline, or None."""
        while self._heap:
            when, number, due, subject = self._heap[0]
            if self._live.get((due, subject)) == number:
                return when
            heapq.heappop(self._heap)
        return None

    def pop(self, now: float) -> tuple[Due, Hashable] | None:
        """Return the earliest deadline that has come, and unset it; None if there is none."""
        when = self.next()
        if when is None or when > now:
            return None
        _, _, due, subject = heapq.heappop(self._heap)
        del self._live[due, subject]
        return due, subject

"""Deadlines of a core that has no clock.

No I/O and no waiting: the adapter sleeps until `next()` and calls `run(now)`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[float], None]
"""Called with `now`, which may be later than the deadline."""

_COMPACT_FROM = 64


class Timer:
    """One deadline; `cancel` may be called at any time and more than once."""

    __slots__ = ('_action', '_timers', 'when')

    def __init__(self, when: float, action: Action, timers: Timers) -> None:
        self.when = when
        self._action: Action | None = action
        self._timers = timers

    def cancel(self) -> None:
        """Never call the action. The objects that the action refers to are released at once."""
        if self._action is not None:
            self._action = None
            self._timers.cancelled()

    def take(self) -> Action | None:
        """Return the action, once; None if the timer was cancelled."""
        action, self._action = self._action, None
        return action

    @property
    def pending(self) -> bool:
        """Return True until the action has run or was cancelled."""
        return self._action is not None


class Timers:
    """Deadlines in order. Cost grows with the logarithm of their number."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._cancelled = 0

    def at(self, when: float, action: Action) -> Timer:
        """Call `action` once `when` has come, and return the timer."""
        timer = Timer(when, action, self)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def next(self) -> float | None:
        """Return the earliest deadline, or None if there is none."""
        while self._heap and not self._heap[0][2].pending:
            heapq.heappop(self._heap)
            self._cancelled = max(0, self._cancelled - 1)
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Call the actions that are due, in the order of the deadlines.

        An action that sets a deadline which is already due runs in the next call, so that no
        mistake can keep this call from returning.
        """
        due: list[Timer] = []
        while (when := self.next()) is not None and when <= now:
            due.append(heapq.heappop(self._heap)[2])
        for timer in due:
            action = timer.take()
            if action is not None:  # an earlier one of this round may have cancelled it
                action(now)

    def cancelled(self) -> None:
        """Count a cancelled timer; cancelled entries never outnumber the others for long."""
        self._cancelled += 1
        if self._cancelled > _COMPACT_FROM and 2 * self._cancelled > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].pending]
            heapq.heapify(self._heap)
            self._cancelled = 0

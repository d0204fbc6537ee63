"""Deadlines, by name. No clock: `now` is always an argument.

Setting a name again moves its deadline. Nothing here runs by itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from itertools import count

Action = Callable[[float], None]


class Timers:
    """Named deadlines, each with what is to be done then."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._live: dict[Hashable, tuple[int, Action]] = {}
        self._numbers = count()

    def set(self, name: Hashable, when: float, action: Action) -> None:
        """Do `action(now)` at `when`, in place of what `name` stood for before."""
        number = next(self._numbers)
        self._live[name] = (number, action)
        heapq.heappush(self._heap, (when, number, name))

    def cancel(self, name: Hashable) -> None:
        """Forget `name`, if it is set."""
        self._live.pop(name, None)

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._heap:
            when, number, name = self._heap[0]
            live = self._live.get(name)
            if live is not None and live[0] == number:
                return when
            heapq.heappop(self._heap)
        return None

    def run(self, now: float) -> None:
        """Do everything that is due, in the order of the deadlines."""
        while (when := self.next()) is not None and when <= now:
            _, _, name = heapq.heappop(self._heap)
            _, action = self._live.pop(name)
            action(now)

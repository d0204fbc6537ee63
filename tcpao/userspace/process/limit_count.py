"""When to read how many packets the kernel has dropped beyond the limit. No I/O.

The kernel tells of none of them. Some of a flood pass, though: then it is read a second later, and
each second until none have passed.
"""

from __future__ import annotations

from typing import Final

from tcpao.userspace.rules.interface import A_SECOND

_MANY: Final = A_SECOND // 4
"""Packets that passed; where the limit has begun to drop there were more."""
_PAUSE: Final = 1.0


class LimitCount:
    """The count of dropped packets, also where rules were made anew and count from 0."""

    def __init__(self) -> None:
        self.due: float | None = None
        """When to read, in seconds of the monotonic clock."""
        self.total = 0
        self._passed = 0
        self._last = 0

    def passed(self, packets: int, now: float) -> None:
        """Note packets of the common queue."""
        self._passed += packets
        if self.due is None and self._passed >= _MANY:
            self._plan(now)

    def is_due(self, now: float) -> bool:
        """Return True if the kernel's count is to be read now."""
        if self.due is None or now < self.due:
            return False
        self.due = None
        if self._passed:
            self._plan(now)
        return True

    def read(self, dropped: int) -> None:
        """Note the kernel's count."""
        self.total += dropped - self._last if dropped >= self._last else dropped
        self._last = dropped

    def _plan(self, now: float) -> None:
        self.due = now + _PAUSE
        self._passed = 0

"""A limit on CPU time for peers that are not authenticated yet.

Work is measured, not counted: one message may cost a hundred times as much as another. No clock
here: `now` and the time spent are arguments, both in seconds.
"""

from __future__ import annotations


class Budget:
    """A store of CPU seconds that fills with time.

    Initiators without a cookie may use its upper half. The lower half is for initiators that have
    returned a cookie: an attacker who only forges source addresses can't use it (RFC 7296, 2.6).
    """

    __slots__ = ('_left', '_share', '_since', '_size')

    def __init__(self, share: float, size: float) -> None:
        """Set `share`, the CPU seconds added per second, and `size`, the most that is kept."""
        self._share = share
        self._size = size
        self._left = size
        self._since = 0.0

    def allows(self, now: float, *, cookie: bool) -> bool:
        """Return True if more work may be begun."""
        self._fill(now)
        return self._left > (0.0 if cookie else self._size / 2)

    def spend(self, seconds: float, now: float) -> None:
        """Charge the cost of some work. Work that was begun may leave a debt, within bounds."""
        self._fill(now)
        self._left = max(self._left - seconds, -self._size)

    def give_back(self, seconds: float) -> None:
        """Give back the cost of work for a peer that has authenticated since."""
        self._left = min(self._left + seconds, self._size)

    def _fill(self, now: float) -> None:
        if now <= self._since:
            return
        self._left += self._share * (now - self._since)
        self._since = now
        if self._left > self._size:
            self._left = self._size

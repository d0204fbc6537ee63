"""A limit on how often something may happen."""

from __future__ import annotations

from collections import deque


class Rate:
    """At most `most` times within any `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=most)

    def allow(self, now: float) -> bool:
        """True, and counted, if it may happen now."""
        times = self._times
        if len(times) == times.maxlen and now < times[0] + self._seconds:
            return False
        times.append(now)
        return True

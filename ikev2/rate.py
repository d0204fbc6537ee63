"""A limit on how often something may happen."""

from __future__ import annotations


class Rate:
    """At most `most` times within any `seconds`."""

    __slots__ = ('_most', '_seconds', '_times')

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._times: list[float] = []

    def allow(self, now: float) -> bool:
        """True, and counted, if it may happen now."""
        times = self._times
        if len(times) == self._most:
            if now < times[0] + self._seconds:
                return False
            del times[0]
        times.append(now)
        return True

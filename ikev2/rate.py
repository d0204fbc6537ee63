"""A limit on the rate of an action."""

from __future__ import annotations


class Rate:
    """A limit of `most` times within any `seconds`."""

    __slots__ = ('_most', '_seconds', '_times')

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._times: list[float] = []

    def allow(self, now: float) -> bool:
        """Return True, and count, if the action is allowed now."""
        times = self._times
        if len(times) == self._most:
            if now < times[0] + self._seconds:
                return False
            del times[0]
        times.append(now)
        return True

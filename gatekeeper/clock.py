"""The clock of lifetimes, and descriptors that become readable at a time of that clock.

CLOCK_BOOTTIME doesn't step and counts suspension: a hard lifetime is a promise about real time.
Keychains use UTC; another descriptor becomes readable when that clock is set.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from contextlib import suppress

_libc = ctypes.CDLL(None, use_errno=True)

CLOCK_BOOTTIME = time.CLOCK_BOOTTIME
LATE = 1.0
"""Seconds after a deadline from which on this process counts as having been paused (stopped,
suspended, starved): segments that the kernel has accepted in that time may be signed under an ended
key."""
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
# Seconds since the epoch: the timer itself never expires.
_FAR = 1 << 40
# Seconds; well below a step of the clock (limits.CLOCK_TOLERANCE).
_ONE_MOMENT = 0.01


def boottime() -> float:
    """Return seconds since boot, suspension included."""
    return time.clock_gettime(CLOCK_BOOTTIME)


def both_clocks() -> tuple[float, float]:
    """Return seconds since the epoch and since boot, of one moment.

    On a busy machine a thread may be interrupted between the two readings, which would look like a
    clock that was set: then both are read again.
    """
    while True:
        before, wall, now = boottime(), time.time(), boottime()
        if now - before < _ONE_MOMENT:
            return wall, now


class _Timespec(ctypes.Structure):
    _fields_ = (('seconds', ctypes.c_long), ('nanoseconds', ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (('interval', _Timespec), ('value', _Timespec))


def _settime(descriptor: int, flags: int, value: _Timespec) -> None:
    spec = _Itimerspec(_Timespec(0, 0), value)
    if _libc.timerfd_settime(descriptor, flags, ctypes.byref(spec), None):
        raise OSError(ctypes.get_errno(), 'timerfd_settime')


def _timerfd(clock: int) -> int:
    descriptor = int(_libc.timerfd_create(clock, _TFD_FLAGS))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), 'timerfd_create')
    return descriptor


class ClockWatch:
    """A descriptor that becomes readable when the clock of UTC is set.

    timerfd_create(2), TFD_TIMER_CANCEL_ON_SET: users of that clock need not poll it.
    """

    def __init__(self) -> None:
        self._descriptor = _timerfd(time.CLOCK_REALTIME)
        self._arm()

    def fileno(self) -> int:
        """Return the descriptor for a selector."""
        return self._descriptor

    def _arm(self) -> None:
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        _settime(self._descriptor, flags, _Timespec(_FAR, 0))

    def clear(self) -> None:
        """Watch for the next time."""
        with suppress(BlockingIOError):
            try:
                os.read(self._descriptor, 8)
            except OSError as error:
                if error.errno != errno.ECANCELED:
                    raise
                self._arm()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


class Alarm:
    """A timerfd on CLOCK_BOOTTIME (timerfd_create(2)): the time-out of a poll does not count
    suspension.

    Python has timerfd only from 3.13 on.
    """

    def __init__(self) -> None:
        self._descriptor = _timerfd(CLOCK_BOOTTIME)

    def fileno(self) -> int:
        """Return the descriptor for a selector."""
        return self._descriptor

    def set(self, when: float | None) -> None:
        """Become readable at `when` (at once if it is past); None: never."""
        # All zero would disarm the timer, and time 0 of this clock is past anyway.
        nanoseconds = max(1, int(when * 1e9)) if when is not None else 0
        value = _Timespec(*divmod(nanoseconds, 1_000_000_000))
        _settime(self._descriptor, _TFD_TIMER_ABSTIME, value)

    def clear(self) -> None:
        """Make the descriptor unreadable again."""
        with suppress(BlockingIOError):
            os.read(self._descriptor, 8)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

"""The clock of lifetimes, and a descriptor that becomes readable at a time of that clock.

CLOCK_BOOTTIME doesn't step and counts suspension: a hard lifetime is a promise about real time.
"""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress

CLOCK_BOOTTIME = time.CLOCK_BOOTTIME
_TFD_TIMER_ABSTIME = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


def boottime() -> float:
    """Seconds since boot, suspension included."""
    return time.clock_gettime(CLOCK_BOOTTIME)


class _Timespec(ctypes.Structure):
    _fields_ = (('seconds', ctypes.c_long), ('nanoseconds', ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (('interval', _Timespec), ('value', _Timespec))


class Alarm:
    """A timerfd on CLOCK_BOOTTIME (timerfd_create(2)): a poll's own time-out sleeps through a
    suspension. Python has it only from 3.13 on."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(CLOCK_BOOTTIME, _TFD_FLAGS)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), 'timerfd_create')

    def fileno(self) -> int:
        """For a selector."""
        return int(self._descriptor)

    def set(self, when: float | None) -> None:
        """Ring at `when` (at once if it is past); None: never."""
        # All zero would disarm it, and time 0 of this clock is before us anyway.
        nanoseconds = max(1, int(when * 1e9)) if when is not None else 0
        value = _Timespec(*divmod(nanoseconds, 1_000_000_000))
        spec = _Itimerspec(_Timespec(0, 0), value)
        if self._libc.timerfd_settime(
            self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None
        ):
            raise OSError(ctypes.get_errno(), 'timerfd_settime')

    def clear(self) -> None:
        """Take the ringing away."""
        with suppress(BlockingIOError):
            os.read(self._descriptor, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

"""A watch for changes by legacy iptables, which sends no events.

A program that changes rules opens a lock file first and closes it when done (iptables,
`xtables_lock`). So does a program that only lists them, but not `iptables-save`: our own checks
cause no event.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

LOCK_FILE: Final = os.environ.get('XTABLES_LOCKFILE', '/run/xtables.lock')

# linux/inotify.h
_IN_ATTRIB: Final = 0x004
_IN_CLOSE_WRITE: Final = 0x008
_IN_CLOSE_NOWRITE: Final = 0x010
_IN_MOVE_SELF: Final = 0x800
_MASK: Final = _IN_CLOSE_WRITE | _IN_CLOSE_NOWRITE | _IN_ATTRIB | _IN_MOVE_SELF
"""Closed: a change precedes it. The others, and those that come unasked (IN_IGNORED, IN_UNMOUNT,
IN_Q_OVERFLOW), mean that the file was removed or replaced, or that events were lost."""
_LARGEST: Final = 1 << 16

_libc: Final = ctypes.CDLL(None, use_errno=True)


class LockWatch:
    """A watch on the lock of the legacy iptables, in any network namespace."""

    def __init__(self, path: str = LOCK_FILE) -> None:
        """Start to watch. Raises OSError if the lock can't be watched."""
        self._path = path
        self._descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), path)
        try:
            self._find_file()
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return a descriptor that is readable when a program has released the lock."""
        return self._descriptor

    def __str__(self) -> str:
        return f'the lock {self._path}'

    def removals(self) -> bool:
        """Return True if rules may have been removed since the last call.

        Raises OSError if watching is not possible any more.
        """
        found = False
        while True:
            try:
                os.read(self._descriptor, _LARGEST)
            except BlockingIOError:
                break
            found = True
        if found:
            # The file may have been replaced; the same file is watched once.
            self._find_file()
        return found

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)

    def _find_file(self) -> None:
        path = os.fsencode(self._path)
        if _libc.inotify_add_watch(self._descriptor, path, _MASK) == -1:
            # As iptables would create it.
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            _checked(_libc.inotify_add_watch(self._descriptor, path, _MASK), self._path)


def _checked(result: int, path: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result

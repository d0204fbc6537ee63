"""Noticing that legacy iptables were at work, which tell nobody: whoever changes rules with them
opens a lock file first and closes it when done (iptables, `xtables_lock`).

So does the one that only lists them, but not `iptables-save`: to look at rules is no event.
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
"""Closed: a change is made before. The others, and those that come unasked (IN_IGNORED,
IN_UNMOUNT, IN_Q_OVERFLOW), say that the file was removed or replaced, or that events were lost."""
_LARGEST: Final = 1 << 16

_libc: Final = ctypes.CDLL(None, use_errno=True)


class LockWatch:
    """Whoever has held the lock of the legacy iptables, in any network namespace."""

    def __init__(self, path: str = LOCK_FILE) -> None:
        """Raises OSError if the lock can't be watched."""
        self._path = path
        self._descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), path)
        try:
            self._find_file()
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when somebody has let go of the lock."""
        return self._descriptor

    def __str__(self) -> str:
        return f'the lock {self._path}'

    def removals(self) -> bool:
        """True if rules may have been removed since the last call. Raises OSError if there is no
        watching any more."""
        found = False
        while True:
            try:
                os.read(self._descriptor, _LARGEST)
            except BlockingIOError:
                break
            found = True
        if found:
            # It may be another file by now; the same one is watched once.
            self._find_file()
        return found

    def close(self) -> None:
        """Nothing more is to be noticed."""
        os.close(self._descriptor)

    def _find_file(self) -> None:
        path = os.fsencode(self._path)
        if _libc.inotify_add_watch(self._descriptor, path, _MASK) == -1:
            # As iptables would make it.
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            _checked(_libc.inotify_add_watch(self._descriptor, path, _MASK), self._path)


def _checked(result: int, path: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result

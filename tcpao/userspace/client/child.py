"""The packet process as the daemon has it: a program of its own, with a watchdog for its parent."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import tcpao
from tcpao.userspace.protocol.messages import END, KILL

# What the process needs of the daemon's environment; keys are in none.
_PASSED_ON: Final = (
    'PATH',
    'PYTHONPATH',
    'LD_LIBRARY_PATH',
    'LANG',
    'LC_ALL',
    'VIRTUAL_ENV',
    'XTABLES_LOCKFILE',
)
_TELLS_WITHIN: Final = 0.2
"""Seconds between the end of the process's channels and what its watchdog says of it."""


class Child(Protocol):
    """The process; tests fork theirs."""

    def fileno(self) -> int:
        """Readable once it has ended."""

    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it lives."""

    def status_soon(self) -> int | None:
        """As `status`, where something else says already that it has ended."""

    def kill(self) -> None:
        """End it now, whoever we are by now; its rules stay."""

    def end(self) -> None:
        """It has to end, and to take its rules with it, soon."""

    def wait(self, timeout: float | None = None) -> int:
        """Until nothing of it is left. Raises subprocess.TimeoutExpired."""


class WatchedChild:
    """The real one."""

    def __init__(self, descriptors: Sequence[int], kinds: Iterable[str]) -> None:
        """`descriptors` are its own. Raises OSError."""
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._status: int | None = None
        passed = (theirs.fileno(), *descriptors)
        try:
            with theirs:
                self._watchdog = subprocess.Popen(
                    # -P: the working directory isn't ours.
                    [sys.executable, '-P', '-m', 'tcpao.userspace', *map(str, passed), *kinds],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    cwd='/',
                    env=_environment(),
                    pass_fds=passed,
                    # A Ctrl-C is for the daemon, which ends the process when it has nothing to
                    # sign.
                    start_new_session=True,
                )
        except OSError:
            self._control.close()
            raise

    def fileno(self) -> int:
        """See Child."""
        return self._control.fileno()

    def status(self) -> int | None:
        """See Child."""
        if self._status is None and self._is_readable(0):
            with suppress(OSError):
                # Without a word its watchdog was killed, and it ends with that.
                self._status = int(self._control.recv(16) or -1)
        return self._status

    def status_soon(self) -> int | None:
        """See Child."""
        self._is_readable(_TELLS_WITHIN)
        return self.status()

    def kill(self) -> None:
        """See Child."""
        self._say(KILL)

    def end(self) -> None:
        """See Child."""
        self._say(END)

    def wait(self, timeout: float | None = None) -> int:
        """See Child."""
        try:
            return self._watchdog.wait(timeout)
        finally:
            self._control.close()

    def _say(self, word: bytes) -> None:
        with suppress(OSError):
            self._control.send(word)

    def _is_readable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        return bool(poll.poll(timeout * 1000))


def _environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    home = str(Path(tcpao.__file__).resolve().parents[1])
    search = [home, *filter(None, [environment.get('PYTHONPATH')])]
    return environment | {'PYTHONPATH': os.pathsep.join(search)}

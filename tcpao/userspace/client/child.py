"""The packet process as the daemon's child: a separate program, with a watchdog as its parent."""

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

# Variables of the daemon's environment that the process needs; none has a key.
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
"""Seconds between the end of the process's channels and its watchdog's report."""


class Child(Protocol):
    """The packet process; tests fork theirs."""

    def fileno(self) -> int:
        """Return a descriptor that is readable once the process has ended."""

    def status(self) -> int | None:
        """Return the exit status, negative for a signal; None while the process runs."""

    def status_soon(self) -> int | None:
        """Return the status, after another sign of the end: waits a moment for the report."""

    def kill(self) -> None:
        """Kill the process now, whatever our user id; its rules stay."""

    def end(self) -> None:
        """Tell the process to remove its rules and end soon."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit status. Raises subprocess.TimeoutExpired."""


class WatchedChild:
    """The packet process under its watchdog."""

    def __init__(self, descriptors: Sequence[int], kinds: Iterable[str]) -> None:
        """Start the process with these `descriptors`. Raises OSError."""
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._status: int | None = None
        passed = (theirs.fileno(), *descriptors)
        try:
            with theirs:
                self._watchdog = subprocess.Popen(
                    # -P: modules must not come from the working directory.
                    [sys.executable, '-P', '-m', 'tcpao.userspace', *map(str, passed), *kinds],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    cwd='/',
                    env=_environment(),
                    pass_fds=passed,
                    # A Ctrl-C is for the daemon, which ends the process once there is nothing to
                    # sign.
                    start_new_session=True,
                )
        except OSError:
            self._control.close()
            raise

    def fileno(self) -> int:
        return self._control.fileno()

    def status(self) -> int | None:
        if self._status is None and self._is_readable(0):
            with suppress(OSError):
                # Without a report its watchdog was killed, and the process ends with it.
                self._status = int(self._control.recv(16) or -1)
        return self._status

    def status_soon(self) -> int | None:
        self._is_readable(_TELLS_WITHIN)
        return self.status()

    def kill(self) -> None:
        self._say(KILL)

    def end(self) -> None:
        self._say(END)

    def wait(self, timeout: float | None = None) -> int:
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

"""ExaBGP's command line as one connection that stays open, for many commands without a process
each.

`exabgp cli` opens the daemon's two named pipes, asks once, and takes a second of processor time to
start; this module keeps the pipes open.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from types import TracebackType
from typing import Self

DONE = 'done'
ERROR = 'error'
# A command whose answer differs from all others.
GREETING = 'version'
GREETED = 'exabgp '
# A daemon that is starting answers once it is up.
ANSWER_SECONDS = 20.0


class CommandLineError(Exception):
    """The daemon gave no answer, or refused the command."""


class CommandLine:
    """The pipes in `folder`: `exabgp.in` takes commands, `exabgp.out` gives answers."""

    def __init__(self, folder: Path) -> None:
        # Opened for both directions, so that neither open() nor read() depends on other processes
        # that have the pipe open.
        self._commands = os.open(folder / 'exabgp.in', os.O_RDWR | os.O_NONBLOCK)
        self._answers = os.open(folder / 'exabgp.out', os.O_RDWR | os.O_NONBLOCK)
        self._pending = b''
        self._greeted = False

    def ask(self, command: str, *, seconds: float = ANSWER_SECONDS) -> list[str]:
        """Return the lines of the answer, which may be none. Raises CommandLineError."""
        deadline = time.monotonic() + seconds
        if not self._greeted:
            self._greet(deadline)
        os.write(self._commands, f'{command}\n'.encode())
        lines: list[str] = []
        while True:
            line = self._line(command, deadline)
            if line == DONE:
                return lines
            if line == ERROR:
                raise CommandLineError(f'{command}: refused: {" ".join(lines)}')
            lines.append(line)

    def _greet(self, deadline: float) -> None:
        """Skip answers for others.

        ExaBGP's helper asks the daemon something when it starts, and an answer that takes more than
        a second arrives here.
        """
        os.write(self._commands, f'{GREETING}\n'.encode())
        while not self._line(GREETING, deadline).startswith(GREETED):
            pass
        while self._line(GREETING, deadline) != DONE:
            pass
        self._greeted = True

    def _line(self, command: str, deadline: float) -> str:
        while b'\n' not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise CommandLineError(f'{command}: no answer in time')
            self._pending += os.read(self._answers, 65536)
        line, _, self._pending = self._pending.partition(b'\n')
        return line.decode()

    def close(self) -> None:
        """Close the pipes."""
        os.close(self._commands)
        os.close(self._answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

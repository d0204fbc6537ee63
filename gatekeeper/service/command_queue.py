"""Commands for connections, from the gatekeeper's thread to the one that owns the connections.

A routing daemon closes and reuses descriptors on its own thread, so only that one touches them: its
commands wait here until it drains them. Before that thread reads or writes it asks whether every
deadline that has come was acted upon: after a pause of the process the kernel has octets for it
that were signed under a key whose lifetime is over.
"""

from __future__ import annotations

import os
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue

from tcpao.installer import Command


class CommandQueue:
    """One; `put`, `wake` and `expect` are for the gatekeeper's thread, the others for the
    daemon's."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Command] = SimpleQueue()
        self._due = inf

    def open(self) -> None:
        """Make the descriptor. It is never closed: another thread may be about to write to it.
        Raises OSError."""
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Readable when commands wait, or something else is there to look at."""
        return self._wake

    def wake(self) -> None:
        """Have the daemon's thread look."""
        os.eventfd_write(self._wake, 1)

    def put(self, command: Command) -> None:
        """Have a command carried out."""
        self._queue.put(command)
        self.wake()

    def expect(self, due: float | None) -> None:
        """All commands of deadlines before `due` (seconds of CLOCK_BOOTTIME) are put; None: no
        deadline is set."""
        self._due = inf if due is None else due

    def is_settled(self, now: float) -> bool:
        """Return True if no deadline has come that was not acted upon, and no command waits."""
        # In this order: commands are put before the deadline moves.
        return now < self._due and self._queue.empty()

    def take(self) -> list[Command]:
        """What waits, oldest first."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        taken = []
        with suppress(Empty):
            while True:
                taken.append(self._queue.get_nowait())
        return taken

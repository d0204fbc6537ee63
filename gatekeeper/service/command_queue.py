"""Commands for connections, from the gatekeeper's thread to the thread that owns the connections.

A routing daemon closes and reuses descriptors on its own thread, so only that thread touches them:
its commands wait here until it takes them. Before that thread reads or writes a connection, it asks
whether all deadlines so far were acted upon: after a pause of the process the kernel may hold
octets that were signed under a key whose lifetime has ended.
"""

from __future__ import annotations

import os
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue

from tcpao.installer import Command


class CommandQueue:
    """The queue of one gatekeeper.

    `put`, `wake` and `expect` are for the gatekeeper's thread, the others for the daemon's.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Command] = SimpleQueue()
        self._due = inf

    def open(self) -> None:
        """Make the descriptor. Raises OSError.

        It is never closed: another thread may be about to write to it.
        """
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return a descriptor that is readable when commands wait, or after `wake`."""
        return self._wake

    def wake(self) -> None:
        """Wake the daemon's thread."""
        os.eventfd_write(self._wake, 1)

    def put(self, command: Command) -> None:
        """Add a command, and wake the daemon's thread."""
        self._queue.put(command)
        self.wake()

    def expect(self, due: float | None) -> None:
        """Note that all commands of deadlines before `due` were put.

        `due` is in seconds of CLOCK_BOOTTIME; None: no deadline is set.
        """
        self._due = inf if due is None else due

    def is_settled(self, now: float) -> bool:
        """Return True if all deadlines so far were acted upon, and no command waits."""
        # In this order: commands are put before the deadline changes.
        return now < self._due and self._queue.empty()

    def take(self) -> list[Command]:
        """Return the waiting commands, oldest first."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        taken = []
        with suppress(Empty):
            while True:
                taken.append(self._queue.get_nowait())
        return taken

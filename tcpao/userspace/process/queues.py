"""The two queues of a packet process: one for open connections, and the common one.

What our own sockets send, and what arrives for a connection that is open, is in the live queue.
All else is in the common one, which anyone can fill: SYNs above all.
"""

from __future__ import annotations

import contextlib
from typing import Final

from tcpao.userspace.netlink.nfqueue import Queue, Queued

_SHARE: Final = 16
"""Of so many packets the common queue has one, if the live one never ends."""


class Lane:
    """One queue, and its verdicts that were not sent yet."""

    def __init__(self, queue: Queue) -> None:
        self.queue: Final = queue
        self.verdicts: list[bytes] = []

    def send(self) -> None:
        """Send the verdicts."""
        if self.verdicts:
            self.queue.send(self.verdicts)
            self.verdicts = []


class Queues:
    """Both queues of one process."""

    def __init__(self, common: Queue, live: Queue) -> None:
        self.common: Final = Lane(common)
        self.live: Final = Lane(live)
        self.number: Final = common.number
        """The number that names this process's rules."""
        self._turn = 0

    @property
    def descriptors(self) -> tuple[int, int]:
        """Return descriptors that are readable when packets wait."""
        return self.live.queue.fileno(), self.common.queue.fileno()

    def receive(self) -> tuple[Lane, list[Queued]]:
        """Return the packets that wait, if any: open connections' before others'."""
        self._turn = (self._turn + 1) % _SHARE
        order = (self.live, self.common) if self._turn else (self.common, self.live)
        for lane in order:
            queued = lane.queue.receive()
            if queued:
                return lane, queued
        return self.common, []

    def send(self) -> None:
        """Send all verdicts."""
        self.live.send()
        self.common.send()

    def close(self) -> None:
        """Unbind both: packets that the rules match are dropped from now on."""
        with contextlib.closing(self.live.queue):
            self.common.queue.close()

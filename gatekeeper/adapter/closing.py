"""The end of a protected connection after our NOTIFICATION: wait for the peer's FIN, then close.

A close with SO_LINGER {1, 0} drops undelivered data, the NOTIFICATION too; a shutdown would leave a
TIME-WAIT that blocks the pinned port. So we keep the socket, up to 2 s.
"""

from __future__ import annotations

import select
import time

from gatekeeper.adapter.sockets import ProtectedSocket, ProtectedSockets
from gatekeeper.adapter.wakeup import ENDED, Wakeup

WAIT_FOR_FIN = 2.0
"""Seconds."""
_READ = 65536


class ClosingSockets:
    """The sockets that wait for the peer's FIN."""

    def __init__(self, links: ProtectedSockets, waker: Wakeup) -> None:
        self._links = links
        self._waker = waker
        self._waiting: list[ProtectedSocket] = []

    def begin(self, link: ProtectedSocket) -> None:
        """Take a socket that BGP has finished with a NOTIFICATION."""
        link.deadline = time.monotonic() + WAIT_FOR_FIN
        link.connection = link.peer = None
        self._waker.watch(link.sock, ENDED)
        self._waiting.append(link)

    def settle(self) -> None:
        """Close the sockets whose peer has closed, or whose time is over."""
        now = time.monotonic()
        for link in self._waiting:
            if link.ended is None and (_peer_closed(link) or _is_over(link, now)):
                self._links.end(link, 'closed after NOTIFICATION')
        self._waiting = [link for link in self._waiting if link.ended is None]

    def finish(self) -> None:
        """Wait for all sockets, at the end of the daemon, which has nothing else to do."""
        self.settle()
        while self._waiting:
            ends = select.poll()
            for link in self._waiting:
                ends.register(link.sock, select.POLLIN)
            now = time.monotonic()
            left = min(link.deadline - now for link in self._waiting if link.deadline is not None)
            ends.poll(max(0.0, left) * 1000)
            self.settle()


def _is_over(link: ProtectedSocket, now: float) -> bool:
    return link.deadline is not None and now >= link.deadline


def _peer_closed(link: ProtectedSocket) -> bool:
    """Read and ignore data up to the FIN; return True at the FIN."""
    while True:
        try:
            if not link.sock.recv(_READ):
                return True
        except BlockingIOError:
            return False
        except OSError:
            return True

"""The answer that a routing protocol waits for, across threads.

The gatekeeper's thread settles a ticket; the daemon's thread looks at it when it is woken.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from gatekeeper.errors import GateError
from tcpao.mkt import Mkt


class Ticket:
    """One attempt. `done` turns true once; then either `mkt` or `error` is set."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._lock = Lock()
        self._cancel = cancel
        self.session_key: str | None = None
        """The session that the connection belongs to (of a `prove`, once done without error)."""
        self.mkt: Mkt | None = None
        self.error: GateError | None = None
        self.done = False

    def settle(self, session_key: str, mkt: Mkt) -> None:
        """The gatekeeper's thread: granted. A second settlement is ignored."""
        with self._lock:
            if not self.done:
                self.session_key, self.mkt, self.done = session_key, mkt, True

    def fail(self, error: GateError) -> None:
        """The gatekeeper's thread: refused."""
        with self._lock:
            if not self.done:
                self.error, self.done = error, True

    def cancel(self) -> None:
        """The daemon's thread: nobody waits any more. Idempotent, returns at once."""
        with self._lock:
            if self.done:
                return
            self.error, self.done = GateError('cancelled'), True
        self._cancel()

"""The answer that a routing protocol waits for, across threads.

The gatekeeper's thread settles a ticket; the daemon's thread reads it when woken.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from gatekeeper.errors import GateError
from tcpao.mkt import Mkt


class Ticket:
    """One attempt. `done` becomes true once; then either `mkt` or `error` is set."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._lock = Lock()
        self._cancel = cancel
        self.session_key: str | None = None
        """The session of the connection (of a `prove`, once done without error)."""
        self.mkt: Mkt | None = None
        self.error: GateError | None = None
        self.done = False

    def settle(self, session_key: str, mkt: Mkt) -> None:
        """Grant, on the gatekeeper's thread. A second settlement is ignored."""
        with self._lock:
            if not self.done:
                self.session_key, self.mkt, self.done = session_key, mkt, True

    def fail(self, error: GateError) -> None:
        """Refuse, on the gatekeeper's thread."""
        with self._lock:
            if not self.done:
                self.error, self.done = error, True

    def cancel(self) -> None:
        """Cancel, on the daemon's thread, which does not wait any more. Returns at once."""
        with self._lock:
            if self.done:
                return
            self.error, self.done = GateError('cancelled'), True
        self._cancel()

"""Failures that healthy peers have too, while they come up: reported only if they last.

Both open and one listens, two attempts collide, one end starts first. Such a failure is reported
when it comes again after PATIENCE and the session has not been up in between. No I/O, no clock:
`now` is an argument, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

from gatekeeper.reporting.reasons import ORDINARY

PATIENCE = 10.0
"""Seconds that a healthy session needs to come up, at most."""

WORDS = frozenset(reason.word for reason in ORDINARY)
EVERY = ''


@dataclass(slots=True)
class OrdinaryFailures:
    """The start of each session's ordinary failures. For several threads."""

    _since: dict[tuple[str, str], float] = field(default_factory=dict)
    _up: set[tuple[str, str]] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def lasts(self, neighbor: str, session: str, word: str, now: float) -> bool:
        """Return True if a failure for the reason with this word has to be reported."""
        if word not in WORDS:
            return True
        with self._lock:
            if session == EVERY:
                if any(each[0] == neighbor for each in self._up):
                    return False
            elif (neighbor, session) in self._up:
                return False
            return now - self._since.setdefault((neighbor, session), now) >= PATIENCE

    def up(self, neighbor: str, session: str) -> None:
        """Note that the session has a proven connection."""
        with self._lock:
            self._up.add((neighbor, session))
            self._since.pop((neighbor, session), None)
            self._since.pop((neighbor, EVERY), None)

    def down(self, neighbor: str, session: str) -> None:
        """Note that the session has no proven connection any more."""
        with self._lock:
            self._up.discard((neighbor, session))

    def forget(self) -> None:
        """Forget all, after a load: neighbors may be gone, and failures count anew."""
        with self._lock:
            self._since.clear()

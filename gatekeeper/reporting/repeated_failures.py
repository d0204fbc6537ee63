"""Which failures are news to an operator: each is told once, then once an hour while it lasts.

A routing daemon tries again for ever, and so does IKE; who reads the log wants the cause, not each
attempt.
No I/O, no clock: `now` is an argument, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from threading import Lock

AGAIN_AFTER = 3600.0
"""What goes on failing the same way is told again after so long."""
MOST = 8
"""Failures without a kind of one session that are told in that time: some of their words are a
stranger's, who must not be able to fill a disk."""
MOST_OF_A_KIND = 3
"""Wordings of one kind of failure that are told in that time. A stranger chooses among our kinds,
and can use up the wordings of one; the first of every other kind is told all the same."""
SETTLED_AFTER = 60.0
"""A connection that has held for so long was good: what fails after it is news."""

EVERY = ''
"""In place of a session: what is told of it is told of every session of the neighbor."""


@dataclass(slots=True)
class _Told:
    at: float
    kind: str
    kept_back: int = 0


@dataclass(slots=True)
class RepeatedFailures:
    """What has been told, of every neighbor's sessions. For several threads."""

    _told: dict[str, dict[tuple[str, str], _Told]] = field(default_factory=dict)
    _up_since: dict[tuple[str, str], float] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def worth_telling(
        self, neighbor: str, session: str, text: str, now: float, kind: str = ''
    ) -> int | None:
        """Return None if this has been told lately; else how often it was kept back since.

        `kind` is the failure in words of ours alone; empty where `text` is all there is.
        """
        with self._lock:
            if now - self._up_since.pop((neighbor, session), inf) >= SETTLED_AFTER:
                self._told.pop(neighbor, None)
            told = self._told.setdefault(neighbor, {})
            for where in (session, EVERY):
                known = told.get((where, text))
                if known is not None and now - known.at < AGAIN_AFTER:
                    known.kept_back += 1
                    return None
            lately = [key for key, one in told.items() if now - one.at < AGAIN_AFTER]
            alike = [key for key in lately if (key[0], told[key].kind) == (session, kind)]
            if len(alike) >= (MOST_OF_A_KIND if kind else MOST):
                told[alike[-1]].kept_back += 1
                return None
            known = told.get((session, text))
            # What nobody has seen for an hour is forgotten: the table has an end.
            self._told[neighbor] = {key: told[key] for key in lately} | {
                (session, text): _Told(now, kind)
            }
            return known.kept_back if known is not None else 0

    def is_up(self, neighbor: str, session: str, now: float) -> None:
        """The session has a proven connection."""
        with self._lock:
            self._up_since[neighbor, session] = now

    def forget(self) -> None:
        """The configuration was loaded: what still fails is news again."""
        with self._lock:
            self._told.clear()

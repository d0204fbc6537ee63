"""A filter for repeated failures: each is reported once, then once an hour while it lasts.

A routing daemon retries for ever, and so does IKE; a reader of the log wants the cause, not each
attempt. No I/O, no clock: `now` is an argument, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from threading import Lock

AGAIN_AFTER = 3600.0
"""Seconds until the same failure is reported again."""
MOST = 8
"""Failures without a kind of one session that are reported in that time: some of their text comes
from unknown peers, which must not be able to fill a disk."""
MOST_OF_A_KIND = 3
"""Texts of one kind of failure that are reported in that time. An unknown peer can cause any kind,
and use up the texts of one; the first of every other kind is reported all the same."""
SETTLED_AFTER = 60.0
"""Seconds after which a connection counts as stable: a later failure is a new one."""

EVERY = ''
"""In place of a session: applies to every session of the neighbor."""


@dataclass(slots=True)
class _Told:
    at: float
    kind: str
    kept_back: int = 0


@dataclass(slots=True)
class RepeatedFailures:
    """The reported failures of every neighbor's sessions. For several threads."""

    _told: dict[str, dict[tuple[str, str], _Told]] = field(default_factory=dict)
    _up_since: dict[tuple[str, str], float] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def worth_telling(
        self, neighbor: str, session: str, text: str, now: float, kind: str = ''
    ) -> int | None:
        """Return None if this was reported lately; else how often it was suppressed since.

        `kind` is the failure in words of ours alone; empty if `text` has no other words.
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
            # Failures older than an hour are forgotten, so that the table stays bounded.
            self._told[neighbor] = {key: told[key] for key in lately} | {
                (session, text): _Told(now, kind)
            }
            return known.kept_back if known is not None else 0

    def is_up(self, neighbor: str, session: str, now: float) -> None:
        """Note that the session has a proven connection."""
        with self._lock:
            self._up_since[neighbor, session] = now

    def forget(self) -> None:
        """Forget all, after a load: failures that last are reported again."""
        with self._lock:
            self._told.clear()

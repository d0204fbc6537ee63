"""Warnings of expiry: when the end is near, again shortly before it, and at the end.

Each is a deadline; a reload that renews nothing repeats them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.events import EventName
from gatekeeper.reporting.expiry import ExpiryStage, ends_of
from gatekeeper.state.deadlines import Due
from gatekeeper.state.store import Store

ENDS = 'ends'
"""The subject of the deadline Due.FOREWARN."""
_SOONEST = 1.0
"""Seconds between two checks: two clocks that differ by a rounding must not make a busy loop."""
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Forewarning:
    """A warning to report."""

    neighbors: str
    cause: str
    hint: str


def begin(state: Store, now: float) -> None:
    """Begin anew after a load of the configuration."""
    state.forewarned.clear()
    look(state, ENDS, now)


def look(state: Store, subject: object, now: float) -> None:
    """Report ends that have come nearer: Due.FOREWARN, and when the clock was set."""
    wall = state.wall(now)
    told, next_time = news(state.policies.values(), wall, state.forewarned)
    for one in told:
        state.note(None, EventName.EXPIRES, neighbor=one.neighbors, cause=one.cause, hint=one.hint)
    state.deadlines.set(Due.FOREWARN, ENDS, now + max(_SOONEST, next_time - wall))


def news(
    policies: Iterable[SessionPolicy], wall: float, told: dict[tuple[str, float], ExpiryStage]
) -> tuple[list[Forewarning], float]:
    """Return the warnings due at `wall` (seconds since the epoch), and when to check again.

    Never is infinity. `told` are the reported stages, and is updated.
    """
    ends, found = ends_of(policies, wall), []
    before = dict(told)
    told.clear()
    for end, neighbors in ends.items():
        key, stage = (end.what, end.at), end.stage(wall)
        if stage > before.get(key, ExpiryStage.FAR):
            found.append(Forewarning(_several(neighbors), end.words(wall), end.hint))
        told[key] = stage
    return found, min((end.next_time(wall) for end in ends), default=inf)


def _several(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    more = len(found) - _MOST_NAMED
    return ', '.join(found[:_MOST_NAMED]) + (f' and {more} more' if more > 0 else '')

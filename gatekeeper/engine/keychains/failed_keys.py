"""Keys of a chain that failed on one connection, and when each may be tried again."""

from __future__ import annotations

from dataclasses import dataclass, field

from gatekeeper.policy.keychain import ChainKey
from gatekeeper.state.limits import MANUAL_RETRY, backoff


@dataclass(eq=False, slots=True)
class FailedKeys:
    """The failures of each key, by its number."""

    counts: dict[int, int] = field(default_factory=dict)
    """How often each has failed."""
    until: dict[int, float] = field(default_factory=dict)
    """When each may be tried again."""

    def add(self, key: ChainKey, now: float, fraction: float) -> float:
        """Count a failure; return when the key may be tried again, later each time."""
        failures = self.counts.get(key.number, 0)
        self.counts[key.number] = failures + 1
        again = self.until[key.number] = now + backoff(MANUAL_RETRY, failures, fraction)
        return again

    def banned(self, now: float) -> set[int]:
        """Return the keys that may not be tried yet."""
        return {number for number, until in self.until.items() if now < until}

    def next_try(self, now: float) -> float | None:
        """Return when the next of them may be tried; None if there is none."""
        return min((until for until in self.until.values() if now < until), default=None)

    def clear(self) -> None:
        """Forget all failures."""
        self.counts.clear()
        self.until.clear()

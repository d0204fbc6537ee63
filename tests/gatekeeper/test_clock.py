"""The two clocks, read together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gatekeeper.clock import both_clocks
from gatekeeper.state.limits import CLOCK_TOLERANCE


def test_lost_turn_between_two_readings_is_no_clock_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Seconds that pass before each reading: since boot, since the epoch, since boot, and again.
    passing = iter([0.0, 0.0, 3.0, 0.0, 0.0, 0.001])
    since_boot = 100.0

    def read() -> float:
        nonlocal since_boot
        since_boot += next(passing)
        return since_boot

    monkeypatch.setattr('gatekeeper.clock.boottime', read)
    monkeypatch.setattr('gatekeeper.clock.time', SimpleNamespace(time=lambda: 1000.0 + read()))
    wall, now = both_clocks()
    assert wall - now == pytest.approx(1000.0, abs=CLOCK_TOLERANCE / 10)

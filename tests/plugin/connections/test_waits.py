"""The limit on the reactor's waits in a load."""

from __future__ import annotations

import time
from concurrent.futures import Future

import pytest

from plugin.connections.waits import LONGEST, Waits


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, 'monotonic', clock)
    return clock


def test_limit_is_whole_when_a_load_has_parsed_for_longer(clock: Clock) -> None:
    waits = Waits()
    waits.begin()
    clock.now += 10 * LONGEST
    with waits.waiting() as within:
        assert within == LONGEST


def test_limit_shrinks_when_something_was_waited_for(clock: Clock) -> None:
    waits = Waits()
    waits.begin()
    with waits.waiting():
        clock.now += LONGEST / 4
    with waits.waiting() as within:
        assert within == pytest.approx(LONGEST * 3 / 4)


def test_limit_is_used_up_when_a_wait_took_longer(clock: Clock) -> None:
    waits = Waits()
    waits.begin()
    with waits.waiting():
        clock.now += 2 * LONGEST
    with waits.waiting() as within:
        assert within == 0
    assert not waits.is_over(Future())


def test_limit_is_whole_again_when_the_next_load_begins(clock: Clock) -> None:
    waits = Waits()
    waits.begin()
    with waits.waiting():
        clock.now += LONGEST
    waits.begin()
    with waits.waiting() as within:
        assert within == LONGEST

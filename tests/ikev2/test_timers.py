"""Deadlines."""

from __future__ import annotations

from ikev2.timers import Timers


def test_timers_run_in_order_of_deadlines() -> None:
    timers = Timers()
    ran: list[str] = []
    timers.at(2.0, lambda now: ran.append('second'))
    timers.at(1.0, lambda now: ran.append('first'))
    timers.at(3.0, lambda now: ran.append('third'))
    timers.run(2.0)
    assert ran == ['first', 'second']
    assert timers.next() == 3.0


def test_timer_never_runs_when_cancelled() -> None:
    timers = Timers()
    ran: list[str] = []
    timers.at(1.0, lambda now: ran.append('x')).cancel()
    assert timers.next() is None
    timers.run(5.0)
    assert ran == []


def test_timer_may_be_cancelled_in_same_round() -> None:
    timers = Timers()
    ran: list[str] = []
    first = timers.at(1.0, lambda now: second.cancel())
    second = timers.at(1.0, lambda now: ran.append('x'))
    timers.run(1.0)
    assert not first.pending
    assert ran == []


def test_timer_waits_for_next_round_when_due_at_once() -> None:
    timers = Timers()
    rounds: list[float] = []

    def again(now: float) -> None:
        rounds.append(now)
        timers.at(now, again)

    timers.at(1.0, again)
    timers.run(1.0)
    assert rounds == [1.0]
    assert timers.next() == 1.0


def test_timers_release_cancelled_ones() -> None:
    timers = Timers()
    ran: list[int] = []
    kept = [timers.at(float(i), lambda now, i=i: ran.append(i)) for i in range(5)]  # type: ignore[misc]
    for _ in range(1000):
        timers.at(1e9, lambda now: None).cancel()
    assert len(timers._heap) < 100
    assert all(timer.pending for timer in kept)
    timers.run(10.0)
    assert ran == [0, 1, 2, 3, 4]
    assert timers.next() is None

"""The survival of sessions: a part of each table of `tests.gatekeeper.survival`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatekeeper.engine import ending
from tests.gatekeeper.survival import (
    LIFETIMES,
    MANY,
    closed_by_outage,
    closed_in_wave,
    closed_under_loss,
    seconds_after_flap,
    starts,
    up_many,
)


@pytest.mark.parametrize('share', [0.05, 0.2])
def test_longer_lifetime_is_never_less_safe_than_a_shorter(share: float) -> None:
    """IKE datagrams are lost for two lifetimes and more, with the same seeds for each lifetime."""
    closed = [
        sum(closed_under_loss(lifetime, share, seed) for seed in range(3)) for lifetime in LIFETIMES
    ]
    assert closed == sorted(closed, reverse=True)
    assert not any(closed[LIFETIMES.index(30) :])


@pytest.mark.parametrize('lifetime', [60, 61, 90, 140, 300, 600, 3600])
def test_sessions_survive_an_outage_of_a_quarter_of_a_lifetime(lifetime: int) -> None:
    """The outage begins before, with and during the rekey."""
    seconds = lifetime / 4
    assert not any(
        closed_by_outage(lifetime, seconds, begins) for begins in starts(lifetime, seconds)
    )


def test_sessions_are_up_in_10_seconds_when_they_end_together() -> None:
    assert seconds_after_flap(MANY) <= 10


def test_wave_of_rekeys_under_loss_closes_nothing() -> None:
    assert closed_in_wave(MANY, 600, 0.2) == 0


def test_last_of_many_sessions_may_be_begun_again() -> None:
    """The session's old connection is still being closed, from another port."""
    world, r1, _, wanted = up_many(MANY)
    state, policy = r1.core.state, wanted[-1]
    assert state.has_room(r1.peer, policy)
    assert not state.has_room(r1.peer, replace(policy, key='another'))
    (conn,) = (c for c in state.connections.values() if c.policy.key == policy.key)
    r1.busy = True
    ending.abort(state, conn, 'a test', world.now)
    assert state.has_room(r1.peer, replace(policy, key='another'))

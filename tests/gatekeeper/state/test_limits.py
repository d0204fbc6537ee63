"""Soft lifetimes and backoff."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.state.limits import (
    REKEY_BACKOFF,
    backoff,
    head_start,
    lingers,
    rekey_gap,
    rekey_patience,
    soft_lifetime,
    wait_before,
)

fractions = st.floats(0, 1)


@given(hard=st.integers(15, 10**7), fraction=fractions, began=st.booleans())
def test_soft_lifetime_jitters_within_half_of_the_lifetime(
    hard: int, fraction: float, began: bool
) -> None:
    gap = hard - soft_lifetime(hard, fraction, began_last=began)
    assert rekey_gap(hard) - 1e-6 <= gap <= hard / 2 + 1e-6


@given(hard=st.integers(15, 10**7))
def test_rekey_gap_holds_an_outage_of_a_quarter(hard: int) -> None:
    assert rekey_gap(hard) == min(hard / 2, hard / 4 + 35)


@given(hard=st.integers(15, 10**6), more=st.integers(1, 10**6))
def test_rekey_gap_grows_with_the_lifetime(hard: int, more: int) -> None:
    assert rekey_gap(hard) < rekey_gap(hard + more)


@given(hard=st.integers(15, 10**6), one=fractions, other=fractions)
def test_two_ends_begin_apart_when_there_is_no_jitter(hard: int, one: float, other: float) -> None:
    """The middle of the jitter is the only moment that both sides may choose."""
    first = soft_lifetime(hard, one, began_last=True)
    second = soft_lifetime(hard, other, began_last=False) + head_start(hard)
    assert second - first >= (0 if hard > 233 else 0.3 * head_start(hard))
    assert head_start(hard) <= 0.04 * hard


@given(hard=st.integers(15, 10**6))
def test_rekey_patience_leaves_room_for_a_new_ike_sa(hard: int) -> None:
    assert 1 < rekey_patience(hard) <= min(30, rekey_gap(hard) / 4)


@given(left=st.floats(0, 10**4), less=st.floats(0, 1))
def test_waits_shrink_with_the_time_that_is_left(left: float, less: float) -> None:
    assert wait_before(100 + left * less, 100) <= wait_before(100 + left, 100)


@given(hard=st.integers(15, 10**6), one=fractions, other=fractions)
def test_initiator_of_the_last_exchange_takes_the_earlier_half(
    hard: int, one: float, other: float
) -> None:
    assert soft_lifetime(hard, one, began_last=True) <= soft_lifetime(hard, other, began_last=False)


@given(attempt=st.integers(0, 10_000), fraction=fractions)
def test_backoff_stays_within_its_bounds(attempt: int, fraction: float) -> None:
    wait = backoff(REKEY_BACKOFF, attempt, fraction)
    assert 0.75 * REKEY_BACKOFF[0] <= wait <= REKEY_BACKOFF[1]


def test_backoff_doubles() -> None:
    assert [backoff((1.0, 60.0), attempt, 0) for attempt in range(7)] == pytest.approx(
        [1, 2, 4, 8, 16, 32, 60]
    )


@pytest.mark.parametrize(('hard', 'seconds'), [(15, 1.5), (300, 30), (600, 60), (86400, 60)])
def test_replaced_key_lingers_for_a_tenth_up_to_a_minute(hard: int, seconds: float) -> None:
    assert lingers(hard) == pytest.approx(seconds)

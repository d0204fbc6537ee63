"""Soft lifetimes and backoff."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.state.limits import REKEY_BACKOFF, backoff, lingers, soft_lifetime

fractions = st.floats(0, 1)


@given(hard=st.integers(15, 59), fraction=fractions, began=st.booleans())
def test_the_gap_is_at_least_half_of_a_hard_lifetime_under_60_seconds(
    hard: int, fraction: float, began: bool
) -> None:
    soft = soft_lifetime(hard, fraction, began_last=began)
    assert 0.39 * hard <= soft <= hard / 2


@given(hard=st.integers(60, 1799), fraction=fractions, began=st.booleans())
def test_the_gap_is_10_to_20_percent_in_between(hard: int, fraction: float, began: bool) -> None:
    gap = hard - soft_lifetime(hard, fraction, began_last=began)
    assert 0.1 * hard - 1e-6 <= gap <= 0.2 * hard + 1e-6


@given(hard=st.integers(1800, 10**7), fraction=fractions, began=st.booleans())
def test_the_gap_is_at_least_5_minutes_from_30_minutes_on(
    hard: int, fraction: float, began: bool
) -> None:
    assert hard - soft_lifetime(hard, fraction, began_last=began) >= 300


@given(hard=st.integers(15, 10**6), one=fractions, other=fractions)
def test_who_began_the_last_exchange_takes_the_earlier_half(
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
def test_a_replaced_key_lingers_for_a_tenth_of_its_lifetime_and_no_longer_than_a_minute(
    hard: int, seconds: float
) -> None:
    assert lingers(hard) == pytest.approx(seconds)

"""The CPU time that unauthenticated peers may use."""

from __future__ import annotations

from ikev2.budget import Budget

SHARE, SIZE = 0.1, 0.4


def test_budget_keeps_its_lower_half_for_cookies() -> None:
    budget = Budget(SHARE, SIZE)
    budget.spend(SIZE / 2, 0.0)
    assert not budget.allows(0.0, cookie=False)
    assert budget.allows(0.0, cookie=True)
    budget.spend(SIZE / 2, 0.0)
    assert not budget.allows(0.0, cookie=True)


def test_budget_fills_with_time_but_never_beyond_its_size() -> None:
    budget = Budget(SHARE, SIZE)
    budget.spend(SIZE, 0.0)
    assert budget.allows(0.1, cookie=True)
    assert not budget.allows(0.1, cookie=False)
    assert budget.allows(1000.0, cookie=False)
    budget.spend(SIZE / 2, 1000.0)
    assert not budget.allows(1000.0, cookie=False)


def test_budget_debt_is_bounded_when_one_message_costs_much() -> None:
    """No peer waits longer than for twice the size."""
    budget = Budget(SHARE, SIZE)
    budget.spend(3600.0, 0.0)
    assert not budget.allows(SIZE / SHARE - 0.1, cookie=True)
    assert budget.allows(SIZE / SHARE + 0.1, cookie=True)


def test_budget_is_whole_again_when_a_peer_was_proven() -> None:
    budget = Budget(SHARE, SIZE)
    budget.spend(SIZE, 0.0)
    budget.give_back(SIZE)
    assert budget.allows(0.0, cookie=False)
    budget.give_back(SIZE)
    budget.spend(SIZE, 0.0)
    assert not budget.allows(0.0, cookie=True)

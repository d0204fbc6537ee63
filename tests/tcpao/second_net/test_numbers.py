"""Numbers of tables, which other users of the host must not be able to take before us."""

from __future__ import annotations

import pytest

from tcpao.second_net.numbers import NUMBERS, hold, hold_a_free_one, nobody_holds
from tcpao.second_net.ruleset import number_of, table_name

MANY = 256


def test_number_is_free_when_a_user_holds_many() -> None:
    others = [held for number in range(MANY) if (held := hold(number)) is not None]
    number, ours = hold_a_free_one()
    assert nobody_holds([number]) == []
    ours.close()
    assert nobody_holds([number]) == [number]
    for held in others:
        held.close()


def test_number_is_passed_over_when_held_or_taken() -> None:
    wanted = iter((7, 8, 9))
    held = hold(7)
    assert held is not None
    number, ours = hold_a_free_one(taken=[8], below=lambda most: next(wanted))
    assert number == 9
    held.close()
    ours.close()


def test_no_number_is_found_when_all_are_taken() -> None:
    with pytest.raises(OSError, match='held'):
        hold_a_free_one(taken=[5], below=lambda most: 5)


def test_largest_number_is_read_from_its_table_name() -> None:
    assert number_of(table_name(NUMBERS - 1)) == NUMBERS - 1

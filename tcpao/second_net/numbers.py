"""The numbers of tables in use: a running keeper holds an abstract socket named by its number.

Such a socket belongs to a network namespace, as tables do, and ends with its process, however that
ends (unix(7)). Any user may bind one: numbers are random, so that no user can hold the
next one.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from secrets import randbelow
from typing import Final

from tcpao.second_net.ruleset import PREFIX

NUMBERS: Final = 1_000_000_000
_TRIES: Final = 16


def hold(number: int) -> socket.socket | None:
    """Return a socket that holds the number until it is closed; None if another one holds it."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f'\0{PREFIX}{number}')
    except OSError:
        held.close()
        return None
    return held


def hold_a_free_one(
    taken: Iterable[int] = (), below: Callable[[int], int] = randbelow
) -> tuple[int, socket.socket]:
    """Return a free number, and the socket that holds it. Skips `taken`.

    Raises OSError if none is found.
    """
    passed = set(taken)
    for _ in range(_TRIES):
        number = below(NUMBERS)
        held = hold(number) if number not in passed else None
        if held is not None:
            return number, held
    raise OSError(f'{_TRIES} numbers in succession are held')


def nobody_holds(numbers: Iterable[int]) -> list[int]:
    """Return the numbers that no running keeper holds: their tables were left behind."""
    free = []
    for number in sorted(numbers):
        held = hold(number)
        if held is not None:
            held.close()
            free.append(number)
    return free

"""A state with keys proves nothing without segments."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gatekeeper.engine.evidence import is_missing
from tcpao.installer import KeyCounters, KeyState
from tcpao.mkt import SocketPair

PAIR = SocketPair(ip_address('10.0.0.1'), 40001, ip_address('10.0.0.2'), 179)


def seen(current: int | None, *good: int) -> KeyState:
    keys = tuple(KeyCounters(1, 2, count, 0) for count in good)
    return KeyState(PAIR, current, current and 2, keys, 0, 0)


@pytest.mark.parametrize(
    ('state', 'opener', 'missing'),
    [
        (seen(1, 1), True, False),
        (seen(1, 0), True, True),
        # Linux begins a child's counters at 0.
        (seen(1, 0), False, False),
        (seen(None, 0), True, True),
        (seen(None, 5), False, True),
    ],
)
def test_evidence_is_missing_when_no_segment_was_seen(
    state: KeyState, opener: bool, missing: bool
) -> None:
    assert is_missing(state, opener=opener) is missing


def test_evidence_is_not_asked_when_there_are_no_keys() -> None:
    """Then the socket has no TCP-AO, which is told as that."""
    assert not is_missing(seen(None), opener=True)

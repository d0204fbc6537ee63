"""A state with keys proves nothing without segments."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from gatekeeper.engine.evidence import is_missing
from tcpao.installer import KeyCounters, KeyState, Prune
from tcpao.mkt import SocketPair
from tests.doubles.memory_network import MemorySocket
from tests.gatekeeper.world import World, pair_of, two_routers

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


def test_nothing_is_proven_when_a_pruned_key_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another key than the session's has signed what waits for the reader."""
    delete = MemorySocket.delete

    def delete_used(self: MemorySocket, *key: Any) -> None:
        delete(self, *key)
        self._of_removed += 1

    monkeypatch.setattr(MemorySocket, 'delete', delete_used)
    world = World()
    r1, r2 = two_routers(world)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(3)
    assert any(isinstance(command, Prune) for command in r2.installer.submitted)
    assert not r2.sessions

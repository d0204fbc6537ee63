"""Which selectors need a rule, whatever comes and goes in whatever order."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpao.mkt import SocketPair
from tcpao.userspace.selectors import Selector, Selectors, only

US, THEM = ip_address('10.0.0.1'), ip_address('10.0.0.2')
ANY = [
    Selector(local, port, ip_network(remote), remote_port)
    for local in (None, US)
    for port in (179, 180)
    for remote in ('10.0.0.2/32', '10.0.0.3/32', '10.0.0.0/24')
    for remote_port in (None, 40001, 40002)
]


def needed(wanted: Counter[Selector]) -> set[Selector]:
    """Return the selectors that are needed, by the definition."""
    there = +wanted
    return {
        one
        for one in there
        if not any(
            other != one and other.remote_port is None and other.covers(one) for other in there
        )
    }


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(ANY))))
def test_rules_are_those_that_nothing_covers(changes: list[tuple[bool, Selector]]) -> None:
    selectors, wanted = Selectors(), Counter[Selector]()
    for add, selector in changes:
        if add:
            selectors.add(selector)
            wanted[selector] += 1
        elif wanted[selector]:
            selectors.discard(selector)
            wanted[selector] -= 1
        assert selectors.rules() == needed(wanted)


def test_connection_costs_the_same_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    covers = Selector.covers

    def count(self: Selector, other: Selector) -> bool:
        nonlocal compared
        compared += 1
        return covers(self, other)

    monkeypatch.setattr(Selector, 'covers', count)
    selectors = Selectors()
    guard = Selector(None, 179, ip_network(THEM), None)
    selectors.add(guard)
    pairs = [SocketPair(US, port, THEM, 179) for port in range(1024, 3024)]
    for pair in pairs:
        selectors.add(only(pair))
    for pair in pairs:
        selectors.discard(only(pair))
    assert compared <= 2 * len(pairs)
    assert selectors.rules() == {guard}

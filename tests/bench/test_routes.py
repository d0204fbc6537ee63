"""The bench's table: as many routes as asked for, none twice."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from bench.routes import PREFIX_LENGTH, split_routes


@pytest.mark.parametrize('count', [1, 2, 5, 4095, 100_000, 1_000_000])
def test_routes_are_as_many_as_asked_for(count: int) -> None:
    prefixes = [ip_network(line.split()[1]) for line in split_routes(count)]
    assert sum(1 << PREFIX_LENGTH - prefix.prefixlen for prefix in prefixes) == count
    assert not any(one.overlaps(other) for one in prefixes for other in prefixes if one != other)

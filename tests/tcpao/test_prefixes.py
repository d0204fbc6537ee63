"""Values that are kept by prefix, against a look at everything."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from tcpao.mkt import IPNetwork
from tcpao.prefixes import Prefixes


def _network(bits: int, length: int, wide: bool) -> IPNetwork:
    """Few of them, so that they overlap."""
    if wide:
        return IPv6Network((bits << 125, min(length * 16, 128)), strict=False)
    return IPv4Network((bits << 29, length * 4), strict=False)


networks = st.builds(_network, st.integers(0, 7), st.integers(0, 8), st.booleans())


@given(st.lists(networks), networks, st.data())
def test_prefixes_find_what_a_full_search_finds(
    there: list[IPNetwork], asked: IPNetwork, data: st.DataObject
) -> None:
    prefixes: Prefixes[int] = Prefixes()
    kept = dict(enumerate(there))
    for number, prefix in kept.items():
        prefixes.add(prefix, number)
    for number in data.draw(st.sets(st.sampled_from(sorted(kept)))) if kept else ():
        prefixes.remove(kept.pop(number), number)
    same = {number: one for number, one in kept.items() if one.version == asked.version}
    address = asked.network_address
    assert set(prefixes.covering(address)) == {n for n, one in same.items() if address in one}
    assert set(prefixes.overlapping(asked)) == {n for n, one in same.items() if one.overlaps(asked)}
    assert set(prefixes.covering(asked)) == {
        number
        for number, one in same.items()
        if address in one and one.prefixlen <= asked.prefixlen
    }


def test_newest_of_a_prefix_comes_first() -> None:
    prefixes: Prefixes[str] = Prefixes()
    for word in ('older', 'newer'):
        prefixes.add(ip_network('10.0.0.1/32'), word)
    assert list(prefixes.covering(ip_address('10.0.0.1'))) == ['newer', 'older']

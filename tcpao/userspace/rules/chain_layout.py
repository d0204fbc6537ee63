"""The chains of rules, laid out so that a packet meets few rules. No I/O.

Not one rule for each of a thousand neighbors, but one for each service port, then one for each
digit of an address. Packets of other ports leave after the first. `iptables` and `nftables` write
the chains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tcpao.userspace.selectors import Selector

MOST: Final = 16
"""Peers in one chain; a larger number is divided by a digit of their address first."""

_DIGIT_BITS: Final = 4
_PLACES: Final = '0123456789abcdefghijklmnopqrstuv'
"""One character for each digit of an IPv6 address: a name in iptables has 28 characters."""


class TrafficKind(StrEnum):
    """The kind of packets that a chain examines."""

    IN = 'i'
    OUT = 'o'
    ERRORS = 'e'
    """ICMP errors that quote our packets."""


@dataclass(frozen=True, slots=True, order=True)
class Service:
    """TCP with one port: ours, or the peer's."""

    ours: bool
    port: int

    @classmethod
    def of(cls, selector: Selector) -> Service:
        """Return the service of a selector: for a connection the lower port, which others share."""
        there = selector.remote_port
        if there is None or selector.local_port <= there:
            return cls(ours=True, port=selector.local_port)
        return cls(ours=False, port=there)


@dataclass(frozen=True, slots=True, order=True)
class Digit:
    """Peers that have this hexadecimal digit in their address, `place` digits before the last."""

    place: int
    value: int

    @property
    def bits(self) -> int:
        """Return the bits of the address, as a number."""
        return self.value << _DIGIT_BITS * self.place

    @property
    def mask(self) -> int:
        """Return the mask of those bits."""
        return 15 << _DIGIT_BITS * self.place


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain in each direction."""

    version: int
    service: Service
    digit: Digit | None = None

    def name(self, queue: int, way: TrafficKind) -> str:
        """Return the name of the chain, at most 28 characters."""
        side = 'l' if self.service.ours else 'r'
        digit = f'-{_PLACES[self.digit.place]}{self.digit.value:x}' if self.digit else ''
        return f'{prefix(queue)}{way}-{side}{self.service.port}{digit}'


def limited_chain(queue: int) -> str:
    """Return the name of the chain that counts and drops what is beyond the limit."""
    return f'{prefix(queue)}limited'


def prefix(queue: int) -> str:
    """Return the prefix of the names of all our chains."""
    return f'exabgp-gk-{queue}-'


Layout = dict[Chain, tuple[Selector | Digit, ...]]


def lay_out(selectors: Iterable[Selector]) -> Layout:
    """Return the content of each chain. Chains with a digit precede the one that leads to them."""
    selectors = sorted(selectors, key=_order)
    listening = {one.local_port for one in selectors if one.remote_port is None}
    groups: dict[tuple[int, Service], list[Selector]] = {}
    for selector in selectors:
        service = Service.of(selector)
        if selector.live and selector.local_port in listening:
            # In the chain of the listener's rule, which takes the same packets, before that rule.
            service = Service(ours=True, port=selector.local_port)
        groups.setdefault((selector.remote.version, service), []).append(selector)
    found: Layout = {}
    for (version, service), group in groups.items():
        hosts = [one for one in group if one.remote.prefixlen == one.remote.max_prefixlen]
        if len(hosts) <= MOST:
            found[Chain(version, service)] = tuple(group)
            continue
        place = _telling_place(hosts)
        inside: dict[Digit, list[Selector]] = {}
        for host in hosts:
            inside.setdefault(Digit(place, _digit(host, place)), []).append(host)
        for digit, some in sorted(inside.items()):
            found[Chain(version, service, digit)] = tuple(some)
        wide = (one for one in group if one.remote.prefixlen < one.remote.max_prefixlen)
        # Rules of open connections are among those of hosts.
        found[Chain(version, service)] = (*sorted(inside), *wide)
    return found


def _order(selector: Selector) -> tuple[bool, int, int, int, int, str]:
    remote = selector.remote
    ports = selector.local_port, selector.remote_port or 0
    address = int(remote.network_address), remote.prefixlen
    return not selector.live, *address, *ports, str(selector.local)


def _digit(host: Selector, place: int) -> int:
    return int(host.remote.network_address) >> _DIGIT_BITS * place & 15


def _telling_place(hosts: list[Selector]) -> int:
    """Return the place at which digits differ most, so that the fewest hosts share one."""
    places = range(hosts[0].remote.max_prefixlen // _DIGIT_BITS)
    return min(
        places, key=lambda place: max(Counter(_digit(host, place) for host in hosts).values())
    )

"""The matches of iptables rules as text: TCP segments, and ICMP errors that quote them (`u32`).

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from tcpao.mkt import IPNetwork
from tcpao.userspace.rules.chain_layout import Chain, Digit, TrafficKind
from tcpao.userspace.selectors import Selector
from tcpao.userspace.wire.icmp import EXTENSIONS


def commented(text: str) -> str:
    """Return the match that adds a comment to a rule, and matches everything."""
    return f'-m comment --comment "{text}"'


def segments(way: TrafficKind, selector: Selector) -> str:
    """Return the match for TCP from the peer, or to it."""
    incoming = way is TrafficKind.IN
    ours, theirs = ('-d', '-s') if incoming else ('-s', '-d')
    our_port, their_port = ('--dport', '--sport') if incoming else ('--sport', '--dport')
    parts = ['-p tcp', theirs, f'{selector.remote}']
    if selector.local is not None:
        parts += [ours, f'{ip_network(selector.local)}']
    parts += [our_port, str(selector.local_port)]
    if selector.remote_port is not None:
        parts += [their_port, str(selector.remote_port)]
    return ' '.join(parts)


def unless_opening() -> str:
    """Return the match for every segment but a SYN without ACK; it follows `-p tcp`."""
    return '! --tcp-flags SYN,ACK SYN'


def within(a_second: int) -> str:
    """Return the match for packets up to this rate; as many at once after a pause."""
    return f'-m limit --limit {a_second}/second --limit-burst {a_second}'


def entrance(way: TrafficKind, chain: Chain) -> str:
    """Return the match for packets that may belong to a service."""
    service = chain.service
    if way is not TrafficKind.ERRORS:
        option = '--dport' if service.ours is (way is TrafficKind.IN) else '--sport'
        return f'-p tcp {option} {service.port}'
    quoted = _QUOTED[chain.version]
    port = f'{quoted.base}{quoted.ports}' + ('>>16' if service.ours else '') + '&0xFFFF'
    return f'{quoted.protocol} {_u32((*quoted.tests, f"{port}={service.port}"))}'


def digit_match(way: TrafficKind, version: int, digit: Digit) -> str:
    """Return the match for peers of a chain of their own."""
    if way is TrafficKind.ERRORS:
        quoted = _QUOTED[version]
        words, place = divmod(digit.place, 8)
        offset = quoted.destination + quoted.length - 4 * (words + 1)
        test = f'{quoted.base}{offset}&0x{15 << 4 * place:x}=0x{digit.value << 4 * place:x}'
        return f'{quoted.protocol} {_u32((test,))}'
    address = IPv4Address if version == 4 else IPv6Address
    return f'{"-s" if way is TrafficKind.IN else "-d"} {address(digit.bits)}/{address(digit.mask)}'


@dataclass(frozen=True)
class _Quoted:
    """ICMP errors that quote one of our packets; offsets are those of u32."""

    protocol: str
    tests: tuple[str, ...]
    unusual: tuple[str, ...]
    """Used instead of `tests`, for a quote with IPv4 options or IPv6 extension headers."""
    base: str
    source: int
    destination: int
    ports: int
    length: int
    """Octets of an address."""


_QUOTED: Final = {
    4: _Quoted(
        protocol='-p icmp',
        # Past the outer IP header (its own length); an error's quoted header has no options.
        tests=('0>>22&0x3C@0>>24=3', '0>>22&0x3C@8>>24=0x45', '0>>22&0x3C@16>>16&0xFF=6'),
        unusual=('0>>22&0x3C@0>>24=3', '0>>22&0x3C@8>>24=0x46:0x4F', '0>>22&0x3C@16>>16&0xFF=6'),
        base='0>>22&0x3C@',
        source=20,
        destination=24,
        ports=28,
        length=4,
    ),
    6: _Quoted(
        protocol='-p icmpv6',
        # No extension header outside or inside.
        tests=('4>>8&0xFF=58', '40>>24=1:2', '52>>8&0xFF=6'),
        unusual=(
            '4>>8&0xFF=58',
            '40>>24=1:2',
            f'52>>8&0xFF={",".join(map(str, EXTENSIONS))}',
        ),
        base='',
        source=56,
        destination=72,
        ports=88,
        length=16,
    ),
}


def unusual_errors(version: int) -> str:
    """Return the match for ICMP errors that quote IPv4 options or IPv6 extension headers.

    The packet path finds the ports in them.
    """
    quoted = _QUOTED[version]
    return f'{quoted.protocol} {_u32(quoted.unusual)}'


def _u32(tests: Iterable[str]) -> str:
    return f'-m u32 --u32 "{" && ".join(tests)}"'


def quoting(selector: Selector) -> str:
    """Return the match for ICMP errors that quote one of our packets to the peer."""
    quoted = _QUOTED[selector.remote.version]
    base = quoted.base
    addresses = list(_address_tests(base, quoted.destination, selector.remote))
    if selector.local is not None:
        addresses += _address_tests(base, quoted.source, ip_network(selector.local))
    tests = [*quoted.tests, f'{base}{quoted.ports}>>16&0xFFFF={selector.local_port}']
    if selector.remote_port is not None:
        tests.append(f'{base}{quoted.ports}&0xFFFF={selector.remote_port}')
    # One match has eleven tests at most.
    return ' '.join((quoted.protocol, *(_u32(part) for part in (tests, addresses) if part)))


def _address_tests(base: str, offset: int, network: IPNetwork) -> Iterator[str]:
    address, mask = network.network_address.packed, network.netmask.packed
    for at in range(0, len(address), 4):
        wanted, bits = address[at : at + 4].hex(), mask[at : at + 4].hex()
        if int(bits, 16):
            yield f'{base}{offset + at}&0x{bits}=0x{wanted}'

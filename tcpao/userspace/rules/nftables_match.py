"""The matches of nftables rules: expressions, in netlink's octets.

Written here, since a rule has thirty attributes and pyroute2 takes 7 ms to write them: for a
thousand neighbors, 23 s. No I/O.
"""

from __future__ import annotations

from ipaddress import ip_network
from struct import Struct
from typing import Final

from tcpao.mkt import IPNetwork
from tcpao.userspace.netlink.messages import attribute
from tcpao.userspace.rules.chain_layout import Chain, Digit, TrafficKind
from tcpao.userspace.selectors import Selector
from tcpao.userspace.wire.icmp import EXTENSIONS
from tcpao.userspace.wire.packet import ACK, FLAGS, SYN

Expression = bytes

_NFPROTO: Final = {4: 2, 6: 10}

# enum nft_payload_bases, enum nft_meta_keys, the register that all expressions use, and the codes
# of a jump and a comparison (enum nft_verdicts, enum nft_cmp_ops).
_NETWORK: Final = 1
_TRANSPORT: Final = 2
_META_NFPROTO: Final = 15
_META_L4PROTO: Final = 16
_REGISTER: Final = 1
_VERDICT_REGISTER: Final = 0
_JUMP: Final = -3
_DROP: Final = 0
_EQUAL: Final = 0
_DIFFERENT: Final = 1

# enum nft_limit_type, enum nft_limit_flags.
_PACKETS: Final = 0
_INVERTED: Final = 1

# Numbers of attributes (linux/netfilter/nf_tables.h): NFTA_LIST_ELEM, NFTA_EXPR_*, NFTA_DATA_*,
# NFTA_VERDICT_*, NFTA_COUNTER_PACKETS.
_LIST_ELEM: Final = 1
_EXPR_NAME: Final = 1
_EXPR_DATA: Final = 2
_COUNTED_PACKETS: Final = 2
_DATA_VALUE: Final = 1
_DATA_VERDICT: Final = 2
_VERDICT_CODE: Final = 1
_VERDICT_CHAIN: Final = 2
_NLA: Final = Struct('=HH')
_SHORT: Final = Struct('!H')
_SIGNED: Final = Struct('!i')

_TCP: Final = 6
_ICMP: Final = {4: 1, 6: 58}
# Offset and length of source and destination address in the IP header, and its length.
_SOURCE: Final = {4: (12, 4), 6: (8, 16)}
_DESTINATION: Final = {4: (16, 4), 6: (24, 16)}
_HEADER: Final = {4: 20, 6: 40}
_PROTOCOL: Final = {4: 9, 6: 6}
_ICMP_HEADER: Final = 8
_NO_OPTIONS: Final = b'\x45'
"""Version and length of an IPv4 header without options."""
ERRORS: Final = {4: (3,), 6: (1, 2)}
"""ICMP types: destination unreachable, and IPv6's "packet too big"."""


def jump(chain: str) -> Expression:
    """Return a jump to a chain, which returns if nothing there matches."""
    to = _attribute(_VERDICT_CODE, _SIGNED.pack(_JUMP))
    to += _attribute(_VERDICT_CHAIN, chain.encode() + b'\0')
    return _made('immediate', _number(_VERDICT_REGISTER), _attribute(_DATA_VERDICT, to))


def queue(number: int) -> Expression:
    """Return the expression that queues to this number; the packet is dropped without a
    listener.
    """
    return _made('queue', _SHORT.pack(number), _SHORT.pack(1), _SHORT.pack(0))


def drop() -> list[Expression]:
    """Return the expressions that count a packet and drop it."""
    verdict = _attribute(_DATA_VERDICT, _attribute(_VERDICT_CODE, _SIGNED.pack(_DROP)))
    return [
        _made('counter', *map(_long, (0, 0))),
        _made('immediate', _number(_VERDICT_REGISTER), verdict),
    ]


def counted(expressions: bytes) -> int:
    """Return the packets that `drop` has counted, from its expressions as the kernel has them."""
    first = attribute(expressions, _LIST_ELEM) or b''
    count = attribute(attribute(first, _EXPR_DATA) or b'', _COUNTED_PACKETS)
    return int.from_bytes(count or b'', 'big')


def beyond(a_second: int) -> Expression:
    """Match packets beyond this rate; as many at once after a pause."""
    rate = map(_long, (a_second, 1))
    return _made('limit', *rate, *map(_number, (a_second, _PACKETS, _INVERTED)))


def unless_opening() -> list[Expression]:
    """Match every TCP segment but a SYN without ACK."""
    return [
        _payload(_TRANSPORT, FLAGS, 1),
        _masked(bytes((SYN | ACK,))),
        _differs(bytes((SYN,))),
    ]


def entrances(way: TrafficKind, chain: Chain) -> list[list[Expression]]:
    """Return the matches for packets that may belong to a service: any of these."""
    service, version = chain.service, chain.version
    port = service.port.to_bytes(2, 'big')
    if way is not TrafficKind.ERRORS:
        offset = 2 if service.ours is (way is TrafficKind.IN) else 0
        return [[*_of(version, _TCP), *_octets(_TRANSPORT, offset, port)]]
    offset = _ICMP_HEADER + _HEADER[version] + (0 if service.ours else 2)
    return [
        [*_quoting_tcp(version, kind), *_octets(_TRANSPORT, offset, port)]
        for kind in ERRORS[version]
    ]


def of_digit(way: TrafficKind, version: int, digit: Digit) -> list[Expression]:
    """Return the match for peers of a chain of their own, whose IP version and protocol are
    known.
    """
    if way is TrafficKind.ERRORS:
        base, (offset, length) = _TRANSPORT, _DESTINATION[version]
        offset += _ICMP_HEADER
    else:
        base = _NETWORK
        offset, length = (_SOURCE if way is TrafficKind.IN else _DESTINATION)[version]
    at = length - 1 - digit.place // 2
    mask, value = (one.to_bytes(length, 'big')[at : at + 1] for one in (digit.mask, digit.bits))
    return [_payload(base, offset + at, 1), _masked(mask), _equals(value)]


def matches(way: TrafficKind, selector: Selector) -> list[list[Expression]]:
    """Return the matches of a selector's traffic: any of these."""
    if way is TrafficKind.ERRORS:
        return [_error(selector, kind) for kind in ERRORS[selector.remote.version]]
    return [_tcp(selector, incoming=way is TrafficKind.IN)]


def _tcp(selector: Selector, *, incoming: bool) -> list[Expression]:
    version = selector.remote.version
    ours, theirs = (_DESTINATION, _SOURCE) if incoming else (_SOURCE, _DESTINATION)
    our_port, their_port = (2, 0) if incoming else (0, 2)
    found = _of(version, _TCP)
    if selector.local is not None:
        found += _address(_NETWORK, *ours[version], ip_network(selector.local))
    found += _address(_NETWORK, *theirs[version], selector.remote)
    found += _octets(_TRANSPORT, our_port, selector.local_port.to_bytes(2, 'big'))
    if selector.remote_port is not None:
        found += _octets(_TRANSPORT, their_port, selector.remote_port.to_bytes(2, 'big'))
    return found


def _error(selector: Selector, kind: int) -> list[Expression]:
    version = selector.remote.version
    quoted = _ICMP_HEADER
    ports = quoted + _HEADER[version]
    found = _quoting_tcp(version, kind)
    if selector.local is not None:
        offset, length = _SOURCE[version]
        found += _address(_TRANSPORT, quoted + offset, length, ip_network(selector.local))
    offset, length = _DESTINATION[version]
    found += _address(_TRANSPORT, quoted + offset, length, selector.remote)
    found += _octets(_TRANSPORT, ports, selector.local_port.to_bytes(2, 'big'))
    if selector.remote_port is not None:
        found += _octets(_TRANSPORT, ports + 2, selector.remote_port.to_bytes(2, 'big'))
    return found


def _quoting_tcp(version: int, kind: int) -> list[Expression]:
    found = [*_of(version, _ICMP[version]), *_octets(_TRANSPORT, 0, bytes((kind,)))]
    if version == 4:
        # A quoted header without options: then its ports are at fixed offsets.
        found += _octets(_TRANSPORT, _ICMP_HEADER, _NO_OPTIONS)
    return found + _octets(_TRANSPORT, _ICMP_HEADER + _PROTOCOL[version], bytes((_TCP,)))


def unusual_errors(version: int) -> list[list[Expression]]:
    """Return the matches for ICMP errors that quote IPv4 options or IPv6 extension headers.

    Any of these; the packet path finds the ports in them.
    """
    found = []
    for kind in ERRORS[version]:
        match = [*_of(version, _ICMP[version]), *_octets(_TRANSPORT, 0, bytes((kind,)))]
        if version == 4:
            options = [_payload(_TRANSPORT, _ICMP_HEADER, 1), _differs(_NO_OPTIONS)]
            protocol = _octets(_TRANSPORT, _ICMP_HEADER + _PROTOCOL[4], bytes((_TCP,)))
            found.append([*match, *options, *protocol])
        else:
            at = _ICMP_HEADER + _PROTOCOL[6]
            found += ([*match, *_octets(_TRANSPORT, at, bytes((one,)))] for one in EXTENSIONS)
    return found


def _of(version: int, protocol: int) -> list[Expression]:
    return [*_meta(_META_NFPROTO, _NFPROTO[version]), *_meta(_META_L4PROTO, protocol)]


def _meta(key: int, value: int) -> list[Expression]:
    return [_made('meta', _number(_REGISTER), _number(key)), _equals(bytes((value,)))]


def _octets(base: int, offset: int, value: bytes) -> list[Expression]:
    return [_payload(base, offset, len(value)), _equals(value)]


def _address(base: int, offset: int, length: int, network: IPNetwork) -> list[Expression]:
    found = [_payload(base, offset, length)]
    if network.prefixlen < network.max_prefixlen:
        found.append(_masked(network.netmask.packed))
    return [*found, _equals(network.network_address.packed)]


def _payload(base: int, offset: int, length: int) -> Expression:
    return _made('payload', *map(_number, (_REGISTER, base, offset, length)))


def _masked(mask: bytes) -> Expression:
    numbers = map(_number, (_REGISTER, _REGISTER, len(mask)))
    return _made('bitwise', *numbers, _data(mask), _data(bytes(len(mask))))


def _equals(value: bytes) -> Expression:
    return _made('cmp', _number(_REGISTER), _number(_EQUAL), _data(value))


def _differs(value: bytes) -> Expression:
    return _made('cmp', _number(_REGISTER), _number(_DIFFERENT), _data(value))


# --- octets ---------------------------------------------------------------------------------


def _data(value: bytes) -> bytes:
    return _attribute(_DATA_VALUE, value)


def _made(name: str, *attributes: bytes) -> Expression:
    """Return an expression; each kind's attributes are numbered from 1."""
    inside = b''.join(_attribute(number, value) for number, value in enumerate(attributes, 1))
    said = _attribute(_EXPR_NAME, name.encode() + b'\0')
    return _attribute(_LIST_ELEM, said + _attribute(_EXPR_DATA, inside))


def _long(value: int) -> bytes:
    return value.to_bytes(8, 'big')


def _number(value: int) -> bytes:
    return value.to_bytes(4, 'big')


def _attribute(kind: int, value: bytes) -> bytes:
    """Return struct nlattr with its payload, padded to a multiple of 4 octets."""
    return _NLA.pack(_NLA.size + len(value), kind) + value + bytes(-len(value) % 4)

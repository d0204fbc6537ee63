"""The structures are the kernel's, octet for octet (include/uapi/linux/tcp.h)."""

from __future__ import annotations

import ctypes
import sys
from ipaddress import ip_network

import pytest

from tcpao.kernel import abi as linux_abi
from tcpao.kernel.abi import (
    TcpAoAdd,
    TcpAoDel,
    TcpAoGetsockopt,
    TcpAoInfoOpt,
    peer_network,
    peer_sockaddr,
)

AF_INET = 2
AF_INET6 = 10


@pytest.mark.parametrize(
    ('structure', 'size'),
    [(TcpAoAdd, 288), (TcpAoDel, 144), (TcpAoInfoOpt, 48), (TcpAoGetsockopt, 304)],
)
def test_structs_have_the_kernels_sizes(structure: type[ctypes.Structure], size: int) -> None:
    assert ctypes.sizeof(structure) == size
    assert size % 8 == 0, 'aligned(8), so no hidden padding at the end'


@pytest.mark.parametrize(
    ('structure', 'field', 'offset'),
    [
        (TcpAoAdd, 'alg_name', 128),
        (TcpAoAdd, 'ifindex', 192),
        (TcpAoAdd, 'prefix', 202),
        (TcpAoAdd, 'keylen', 207),
        (TcpAoAdd, 'key', 208),
        (TcpAoDel, 'ifindex', 128),
        (TcpAoDel, 'prefix', 138),
        (TcpAoDel, 'current_key', 141),
        (TcpAoDel, 'keyflags', 143),
        (TcpAoInfoOpt, 'current_key', 6),
        (TcpAoInfoOpt, 'rnext', 7),
        (TcpAoInfoOpt, 'pkt_good', 8),
        (TcpAoInfoOpt, 'pkt_ao_required', 32),
        (TcpAoGetsockopt, 'key', 192),
        (TcpAoGetsockopt, 'nkeys', 272),
        (TcpAoGetsockopt, 'sndid', 278),
        (TcpAoGetsockopt, 'keylen', 283),
        (TcpAoGetsockopt, 'ifindex', 284),
        (TcpAoGetsockopt, 'pkt_good', 288),
    ],
)
def test_fields_have_the_kernels_offsets(
    structure: type[ctypes.Structure], field: str, offset: int
) -> None:
    assert getattr(structure, field).offset == offset


@pytest.mark.skipif(sys.byteorder != 'little', reason='bits from the high end there')
@pytest.mark.parametrize(
    ('structure', 'field', 'offset', 'octet'),
    [
        (TcpAoAdd, 'set_current', 196, 1),
        (TcpAoAdd, 'set_rnext', 196, 2),
        (TcpAoDel, 'set_current', 132, 1),
        (TcpAoDel, 'set_rnext', 132, 2),
        (TcpAoDel, 'del_async', 132, 4),
        (TcpAoInfoOpt, 'set_current', 0, 1),
        (TcpAoInfoOpt, 'set_rnext', 0, 2),
        (TcpAoInfoOpt, 'ao_required', 0, 4),
        (TcpAoInfoOpt, 'set_counters', 0, 8),
        (TcpAoInfoOpt, 'accept_icmps', 0, 16),
        (TcpAoGetsockopt, 'is_current', 276, 1),
        (TcpAoGetsockopt, 'is_rnext', 276, 2),
        (TcpAoGetsockopt, 'get_all', 276, 4),
    ],
)
def test_flags_have_the_kernels_bits(
    structure: type[ctypes.Structure], field: str, offset: int, octet: int
) -> None:
    instance = structure(**{field: 1})
    expected = bytearray(ctypes.sizeof(structure))
    expected[offset] = octet
    assert bytes(instance) == bytes(expected)


def test_options_have_the_kernels_numbers() -> None:
    assert [option.value for option in linux_abi.Option] == [38, 39, 40, 41, 42]


@pytest.mark.parametrize(
    ('peer', 'family', 'start'),
    [
        ('10.0.0.1/32', AF_INET, b'\0\0\x0a\0\0\x01'),
        ('fd00::1/128', AF_INET6, bytes(6) + b'\xfd' + bytes(14) + b'\x01'),
        ('10.0.0.0/24', AF_INET6, bytes(6) + bytes(10) + b'\xff\xff\x0a\0\0\0'),
    ],
)
def test_peer_address_has_no_port_when_it_is_packed(peer: str, family: int, start: bytes) -> None:
    network = ip_network(peer)
    sockaddr = peer_sockaddr(network, family)
    octets = bytes(sockaddr)
    assert len(octets) == 128
    assert octets == family.to_bytes(2, sys.byteorder) + start + bytes(126 - len(start))
    assert peer_network(sockaddr, network.prefixlen) == network


def test_ipv6_peer_is_refused_when_the_socket_is_ipv4() -> None:
    with pytest.raises(ValueError, match='fd00::1'):
        peer_sockaddr(ip_network('fd00::1/128'), AF_INET)

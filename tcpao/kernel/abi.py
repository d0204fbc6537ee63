"""Linux's TCP-AO socket options: numbers and structures of `include/uapi/linux/tcp.h` (6.7 on).

Layouts only; `tcpao.kernel.installer` makes the calls. Bit-fields are declared as such: ctypes lays
them out as the C compiler does, from the low bit on little-endian machines and from the high bit on
big-endian ones. Multi-octet fields are in host byte order.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from enum import IntEnum, IntFlag
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

from tcpao.mkt import IPNetwork

TCP_AO_MAXKEYLEN = 80


class Option(IntEnum):
    """Socket options of level IPPROTO_TCP."""

    ADD_KEY = 38
    DEL_KEY = 39
    INFO = 40
    GET_KEYS = 41
    REPAIR = 42


class KeyFlag(IntFlag):
    """Flags of the field `keyflags`."""

    IFINDEX = 1
    """The key is for one VRF. We do not set this flag: a key without it matches in every VRF, which
    is right only while a socket serves one."""
    EXCLUDE_OPT = 2
    """TCP options other than TCP-AO aren't in the MAC (RFC 5925 3.1)."""


class SockaddrStorage(ctypes.Structure):
    """`struct __kernel_sockaddr_storage`."""

    _fields_ = (('octets', ctypes.c_uint8 * 128),)


class TcpAoAdd(ctypes.Structure):
    """`struct tcp_ao_add`, for setsockopt(TCP_AO_ADD_KEY); 288 octets."""

    _fields_ = (
        ('addr', SockaddrStorage),
        ('alg_name', ctypes.c_char * 64),
        ('ifindex', ctypes.c_int32),
        ('set_current', ctypes.c_uint32, 1),
        ('set_rnext', ctypes.c_uint32, 1),
        ('reserved', ctypes.c_uint32, 30),
        ('reserved2', ctypes.c_uint16),
        ('prefix', ctypes.c_uint8),
        ('sndid', ctypes.c_uint8),
        ('rcvid', ctypes.c_uint8),
        ('maclen', ctypes.c_uint8),
        ('keyflags', ctypes.c_uint8),
        ('keylen', ctypes.c_uint8),
        ('key', ctypes.c_uint8 * TCP_AO_MAXKEYLEN),
    )


class TcpAoDel(ctypes.Structure):
    """`struct tcp_ao_del`, for setsockopt(TCP_AO_DEL_KEY); 144 octets."""

    _fields_ = (
        ('addr', SockaddrStorage),
        ('ifindex', ctypes.c_int32),
        ('set_current', ctypes.c_uint32, 1),
        ('set_rnext', ctypes.c_uint32, 1),
        ('del_async', ctypes.c_uint32, 1),
        ('reserved', ctypes.c_uint32, 29),
        ('reserved2', ctypes.c_uint16),
        ('prefix', ctypes.c_uint8),
        ('sndid', ctypes.c_uint8),
        ('rcvid', ctypes.c_uint8),
        ('current_key', ctypes.c_uint8),
        ('rnext', ctypes.c_uint8),
        ('keyflags', ctypes.c_uint8),
    )


class TcpAoInfoOpt(ctypes.Structure):
    """`struct tcp_ao_info_opt`, for TCP_AO_INFO both ways; 48 octets."""

    _fields_ = (
        ('set_current', ctypes.c_uint32, 1),
        ('set_rnext', ctypes.c_uint32, 1),
        ('ao_required', ctypes.c_uint32, 1),
        ('set_counters', ctypes.c_uint32, 1),
        ('accept_icmps', ctypes.c_uint32, 1),
        ('reserved', ctypes.c_uint32, 27),
        ('reserved2', ctypes.c_uint16),
        ('current_key', ctypes.c_uint8),
        ('rnext', ctypes.c_uint8),
        ('pkt_good', ctypes.c_uint64),
        ('pkt_bad', ctypes.c_uint64),
        ('pkt_key_not_found', ctypes.c_uint64),
        ('pkt_ao_required', ctypes.c_uint64),
        ('pkt_dropped_icmp', ctypes.c_uint64),
    )


class TcpAoGetsockopt(ctypes.Structure):
    """`struct tcp_ao_getsockopt`, for getsockopt(TCP_AO_GET_KEYS); 304 octets.

    The kernel returns it with the raw key: wipe it.
    """

    _fields_ = (
        ('addr', SockaddrStorage),
        ('alg_name', ctypes.c_char * 64),
        ('key', ctypes.c_uint8 * TCP_AO_MAXKEYLEN),
        ('nkeys', ctypes.c_uint32),
        ('is_current', ctypes.c_uint16, 1),
        ('is_rnext', ctypes.c_uint16, 1),
        ('get_all', ctypes.c_uint16, 1),
        ('reserved', ctypes.c_uint16, 13),
        ('sndid', ctypes.c_uint8),
        ('rcvid', ctypes.c_uint8),
        ('prefix', ctypes.c_uint8),
        ('maclen', ctypes.c_uint8),
        ('keyflags', ctypes.c_uint8),
        ('keylen', ctypes.c_uint8),
        ('ifindex', ctypes.c_int32),
        ('pkt_good', ctypes.c_uint64),
        ('pkt_bad', ctypes.c_uint64),
    )


# sockaddr_in: family, port, address; sockaddr_in6: family, port, flow, address, scope. The port
# is 0 always (Linux refuses to match by port), the address is in network byte order.
_SOCKADDR_IN = struct.Struct('=HH4s')
_SOCKADDR_IN6 = struct.Struct('=HHI16sI')


def peer_sockaddr(peer: IPNetwork, family: int) -> SockaddrStorage:
    """Return the peer's address in the form of a socket of `family`.

    On an AF_INET6 socket an IPv4 peer is an IPv4-mapped address, whose prefix length stays that of
    IPv4. Raises ValueError for an IPv6 peer on an AF_INET socket.
    """
    address = peer.network_address
    if family == socket.AF_INET:
        if address.version != 4:
            raise ValueError(f'an IPv4 socket has no peer {address}')
        packed = _SOCKADDR_IN.pack(socket.AF_INET, 0, address.packed)
    else:
        octets = address.packed
        if address.version == 4:
            octets = bytes(10) + b'\xff\xff' + octets
        packed = _SOCKADDR_IN6.pack(socket.AF_INET6, 0, 0, octets, 0)
    return SockaddrStorage.from_buffer_copy(packed.ljust(ctypes.sizeof(SockaddrStorage), b'\0'))


def peer_network(sockaddr: SockaddrStorage, prefix: int) -> IPNetwork:
    """Return the peer of a key, decoded from the kernel's structure."""
    octets = bytes(sockaddr)
    family = struct.unpack_from('=H', octets)[0]
    if family == socket.AF_INET:
        return IPv4Network((_SOCKADDR_IN.unpack_from(octets)[2], prefix))
    address = IPv6Address(_SOCKADDR_IN6.unpack_from(octets)[3])
    if address.ipv4_mapped is not None:
        return ip_network((address.ipv4_mapped.packed, prefix))
    return IPv6Network((address, prefix))

"""The MAC of one segment (RFC 5925 5.1), and the octets that it covers.

The traffic key comes from `tcpao.kdf`, the segment from `tcpao.verification.segment`.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable

from cryptography.hazmat.primitives import cmac
from cryptography.hazmat.primitives.ciphers import algorithms

from keymaterial import Secret
from tcpao.kdf import kmac256
from tcpao.mkt import Algorithm
from tcpao.verification.segment import AoOption, Segment

TCP_PROTOCOL = 6
TCP_HEADER_LENGTH = 20
CHECKSUM = slice(16, 18)


def mac_input(segment: Segment, option: AoOption, sne: int, *, tcp_options: bool) -> bytes:
    """Return the octets that the MAC covers (RFC 5925 5.1): SNE, pseudo-header, TCP header,
    payload.

    The checksum and the option's MAC field are zero. With `tcp_options` false, TCP-AO is the only
    option; the header's data offset stays unchanged.
    """
    header = bytearray(segment.header)
    header[CHECKSUM] = bytes(2)
    header[option.mac_offset : option.end] = bytes(option.end - option.mac_offset)
    if not tcp_options:
        header = header[:TCP_HEADER_LENGTH] + header[option.offset : option.end]
    return b''.join((struct.pack('!I', sne), pseudo_header(segment), header, segment.payload))


def pseudo_header(segment: Segment) -> bytes:
    """Return the pseudo-header of RFC 9293 3.1 for IPv4, of RFC 8200 8.1 for IPv6.

    Its length field is that of the whole segment.
    """
    length = len(segment.header) + len(segment.payload)
    if segment.source.version == 4:
        tail = struct.pack('!BBH', 0, TCP_PROTOCOL, length)
    else:
        tail = struct.pack('!IHBB', length, 0, 0, TCP_PROTOCOL)
    return segment.source.packed + segment.destination.packed + tail


def compute_mac(algorithm: Algorithm, traffic_key: Secret, message: bytes) -> bytes:
    """Return the MAC with the length of the algorithm's option.

    Raises tcpao.kdf.KmacUnavailableError for kmac256-128 without pycryptodome.
    """
    return full_mac(algorithm, traffic_key, message)[: algorithm.mac_length]


def full_mac(algorithm: Algorithm, traffic_key: Secret, message: bytes) -> bytes:
    """Return the MAC before truncation, for the diagnosis of a bad one.

    Raises tcpao.kdf.KmacUnavailableError for kmac256-128 without pycryptodome.
    """
    return _MACS[algorithm.name](traffic_key.reveal(), message)


def same_mac(one: Algorithm, other: Algorithm) -> bool:
    """Return True if both algorithms compute the same MAC under one traffic key, but for its
    length.
    """
    return _MACS[one.name] is _MACS[other.name]


def is_good(
    segment: Segment,
    option: AoOption,
    algorithm: Algorithm,
    traffic_key: Secret,
    sne: int,
    *,
    tcp_options: bool,
) -> bool:
    """Return True if the segment's MAC verifies; compared in constant time."""
    if len(option.mac) != algorithm.mac_length:
        return False
    message = mac_input(segment, option, sne, tcp_options=tcp_options)
    return hmac.compare_digest(option.mac, compute_mac(algorithm, traffic_key, message))


def _hmac_sha1(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, 'sha1')


def _hmac_sha256(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, 'sha256')


def _aes_cmac(key: bytes, message: bytes) -> bytes:
    mac = cmac.CMAC(algorithms.AES(key))
    mac.update(message)
    return mac.finalize()


def _kmac256(key: bytes, message: bytes) -> bytes:
    return kmac256(key, message, 16, b'')


_MACS: dict[str, Callable[[bytes, bytes], bytes]] = {
    'hmac-sha-1-96': _hmac_sha1,
    'aes-128-cmac-96': _aes_cmac,
    'hmac-sha-256-96': _hmac_sha256,
    'hmac-sha-256-128': _hmac_sha256,
    'hmac-sha256-128-hkdf': _hmac_sha256,
    'kmac256-128': _kmac256,
}

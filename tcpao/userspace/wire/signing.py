"""The MAC of segments of one connection, with all constant parts computed once.

A traffic key belongs to one direction of one connection; a MAC function to a traffic key and an
SNE. The argument of that function is all that differs between two segments.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache

from cryptography.hazmat.primitives import cmac, hashes, hmac
from cryptography.hazmat.primitives.ciphers import algorithms

from keymaterial import Secret
from tcpao.kdf import KmacUnavailableError, derive_traffic_key, kmac256
from tcpao.mkt import ALGORITHMS, Algorithm

Mac = Callable[[bytes], bytes]
"""From the rest of the input (RFC 5925 5.1) to the MAC, with the length of the option's MAC
field."""


def mac_function(
    algorithm: Algorithm, master_key: Secret, context: bytes, sne: int, pseudo_header: bytes
) -> Mac:
    """Return the function that computes the MAC of segments under one traffic key and SNE.

    `context` is the KDF's (`tcpao.kdf.context`), `pseudo_header` the part of it that comes before
    the length. Raises tcpao.kdf.KmacUnavailableError.
    """
    traffic_key = derive_traffic_key(algorithm, master_key, context)
    try:
        key = traffic_key.reveal()
        return _MAKERS[algorithm.name](
            key, struct.pack('!I', sne) + pseudo_header, algorithm.mac_length
        )
    finally:
        traffic_key.wipe()


@cache
def supported() -> frozenset[str]:
    """Return the names of the algorithms that work in this interpreter."""
    names = set(ALGORITHMS)
    try:
        kmac256(bytes(32), b'', 16, b'')
    except KmacUnavailableError:
        names.remove('kmac256-128')
    return frozenset(names)


# Both functions copy the prepared state, which is cheaper than a new key schedule.
def _hmac(key: bytes, algorithm: hashes.HashAlgorithm, prefix: bytes, length: int) -> Mac:
    primed = hmac.HMAC(key, algorithm)
    primed.update(prefix)

    def mac(rest: bytes) -> bytes:
        copy = primed.copy()
        copy.update(rest)
        return copy.finalize()[:length]

    return mac


def _cmac(key: bytes, prefix: bytes, length: int) -> Mac:
    primed = cmac.CMAC(algorithms.AES(key))
    primed.update(prefix)

    def mac(rest: bytes) -> bytes:
        copy = primed.copy()
        copy.update(rest)
        return copy.finalize()[:length]

    return mac


def _kmac(key: bytes, prefix: bytes, length: int) -> Mac:
    def mac(rest: bytes) -> bytes:
        return kmac256(key, prefix + rest, length, b'')

    return mac


def _hmac_sha1(key: bytes, prefix: bytes, length: int) -> Mac:
    return _hmac(key, hashes.SHA1(), prefix, length)


def _hmac_sha256(key: bytes, prefix: bytes, length: int) -> Mac:
    return _hmac(key, hashes.SHA256(), prefix, length)


_MAKERS: dict[str, Callable[[bytes, bytes, int], Mac]] = {
    'hmac-sha-1-96': _hmac_sha1,
    'aes-128-cmac-96': _cmac,
    'hmac-sha-256-96': _hmac_sha256,
    'hmac-sha-256-128': _hmac_sha256,
    'hmac-sha256-128-hkdf': _hmac_sha256,
    'kmac256-128': _kmac,
}

"""Traffic keys from master keys: the KDFs of RFC 5926, of Linux, and of the newer drafts.

A traffic key belongs to one direction of one connection. The caller knows the connection and
decides which ISNs go into the context (`tcpao.verification.verify`); the MAC is in
`tcpao.verification.mac`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib.util import find_spec

from cryptography.hazmat.primitives import cmac, hashes, hmac
from cryptography.hazmat.primitives.ciphers import algorithms

from keymaterial import Secret
from tcpao.mkt import Algorithm, IPAddress

LABEL = b'TCP-AO'
"""RFC 5926 3.1.1."""


class KmacUnavailableError(Exception):
    """KMAC256 needs pycryptodome: install exabgp-gatekeeper[kmac]."""

    def __init__(self) -> None:
        super().__init__('kmac256-128 needs pycryptodome: pip install "exabgp-gatekeeper[kmac]"')


def context(
    source: IPAddress,
    destination: IPAddress,
    source_port: int,
    destination_port: int,
    source_isn: int,
    destination_isn: int,
) -> bytes:
    """Return the KDF's Context (RFC 5925 5.2): 20 octets for IPv4, 44 for IPv6, network byte order.

    Source is the sender of the segment. `destination_isn` is 0 for a SYN without ACK.
    """
    return (
        source.packed
        + destination.packed
        + struct.pack('!HHII', source_port, destination_port, source_isn, destination_isn)
    )


def derive_traffic_key(algorithm: Algorithm, master_key: Secret, context: bytes) -> Secret:
    """Return the traffic key of one direction.

    Raises KmacUnavailableError for kmac256-128 without pycryptodome.
    """
    return Secret(_KDFS[algorithm.name](master_key.reveal(), context))


def is_available(algorithm: Algorithm) -> bool:
    """Return False if the suite needs a library that isn't installed (the extra `kmac`)."""
    if _KDFS[algorithm.name] is not _kdf_kmac256:
        return True
    return find_spec('Crypto') is not None


def same_kdf(one: Algorithm, other: Algorithm) -> bool:
    """Return True if both algorithms derive the same traffic key from the same master key."""
    return _KDFS[one.name] is _KDFS[other.name]


def _counter_mode_block(context: bytes, bits: int) -> bytes:
    # RFC 5926 3.1.1: i || Label || Context || Output_Length. One block is enough for each of
    # these: the PRF's output is as long as the key.
    return b'\x01' + LABEL + context + struct.pack('!H', bits)


def _hmac(algorithm: hashes.HashAlgorithm, key: bytes, message: bytes) -> bytes:
    prf = hmac.HMAC(key, algorithm)
    prf.update(message)
    return prf.finalize()


def _aes_cmac(key: bytes, message: bytes) -> bytes:
    prf = cmac.CMAC(algorithms.AES(key))
    prf.update(message)
    return prf.finalize()


def _kdf_hmac_sha1(master_key: bytes, context: bytes) -> bytes:
    """Derive by KDF_HMAC_SHA1 (RFC 5926 3.1.1.1)."""
    return _hmac(hashes.SHA1(), master_key, _counter_mode_block(context, 160))


def _kdf_aes_128_cmac(master_key: bytes, context: bytes) -> bytes:
    """Derive by KDF_AES_128_CMAC (RFC 5926 3.1.1.2), with extraction if the key has not 16
    octets.
    """
    if len(master_key) != 16:
        master_key = _aes_cmac(bytes(16), master_key)
    return _aes_cmac(master_key, _counter_mode_block(context, 128))


def _kdf_hmac_sha256(master_key: bytes, context: bytes) -> bytes:
    """Derive by RFC 5926's construction with SHA-256: Linux, IOS-XE, draft-nayak-tcp-sha2-03."""
    return _hmac(hashes.SHA256(), master_key, _counter_mode_block(context, 256))


def _kdf_hkdf_sha256(master_key: bytes, context: bytes) -> bytes:
    """Derive by HKDF-SHA256 with a zero salt and one block (draft-ietf-tcpm-tcp-ao-algs-07)."""
    pseudorandom_key = _hmac(hashes.SHA256(), bytes(32), master_key)
    return _hmac(hashes.SHA256(), pseudorandom_key, context + b'\x01')


def _kdf_kmac256(master_key: bytes, context: bytes) -> bytes:
    """Derive by KMAC256 as one-step KDF (SP 800-56C, draft-ietf-tcpm-tcp-ao-algs-07)."""
    return kmac256(bytes(132), b'\0\0\0\x01' + master_key + context, 32, b'KDF')


def kmac256(key: bytes, message: bytes, length: int, customization: bytes) -> bytes:
    """Return KMAC256 (SP 800-185); `length` in octets. Raises KmacUnavailableError."""
    try:
        # An extra, and slow to import: only users of KMAC pay for it.
        from Crypto.Hash import KMAC256
    except ImportError:
        raise KmacUnavailableError from None
    return KMAC256.new(key=key, data=message, mac_len=length, custom=customization).digest()


_KDFS: dict[str, Callable[[bytes, bytes], bytes]] = {
    'hmac-sha-1-96': _kdf_hmac_sha1,
    'aes-128-cmac-96': _kdf_aes_128_cmac,
    'hmac-sha-256-96': _kdf_hmac_sha256,
    'hmac-sha-256-128': _kdf_hmac_sha256,
    'hmac-sha256-128-hkdf': _kdf_hkdf_sha256,
    'kmac256-128': _kdf_kmac256,
}

"""The unavoidable part of a handshake: the cryptographic primitives of both ends.

Counted from the protocol (RFC 7296, 2.13 to 2.18) and timed alone, by the calls of the library that
the engine uses. The inputs have the sizes of a handshake on the wire. Work that could be done
once for many handshakes is not counted: reading of long-lived public keys, and the hashes by which
repetitions are recognised; nor are random numbers, and SHA-1 for NAT detection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ikev2.constants import RP_SUITES
from ikev2.wire.message import HEADER_LENGTH
from ikev2.wire.payload import GENERIC_HEADER_LENGTH

_ENDS = 2
_HASH = hashes.SHA256()
_OUTPUT = 32  # of PRF_HMAC_SHA2_256
_SHARED = 32  # the x of a P-256 point, or X25519's
_NONCE = 32
_SPI = 8
_KEY = 32  # AES-256
_SALT = 4
_IV = 8
_ICV = 16
_PAD_LENGTH = 1
_KEY_PAD = 17  # 'Key Pad for IKEv2'
_CURVE = ec.SECP256R1()
_ECDSA = ec.ECDSA(_HASH)

Call = Callable[[], object]


@dataclass(frozen=True)
class Primitive:
    """One line of the list."""

    name: str
    count: int
    """Number of calls by both ends together, in one handshake."""
    work: Call
    """Calls the primitive once."""
    library: Mapping[str, int]
    """The functions of the library that `work` calls, and how often."""


def primitives(
    lengths: Sequence[int], identities: Sequence[int], *, group: str, signed: bool
) -> list[Primitive]:
    """Return the primitives of one handshake.

    `lengths` are the octets of the six datagrams of a handshake with AES-256-GCM, in order;
    `identities` those of both ends' identities; `group` is x25519 or p256; `signed` is true for
    ECDSA on P-256 with SHA-256 and false for a pre-shared key.
    """
    init, protected = lengths[:2], lengths[2:]
    # The octets that AUTH covers: the signer's IKE_SA_INIT message, the other's nonce, prf(SK_p,
    # ID).
    covered = max(init) + _NONCE + _OUTPUT
    generate, exchange = _key_exchange(group)
    return [
        # For the IKE SA, and for the routing-protocol SA.
        Primitive(f'{group} key generation', 2 * _ENDS, *generate),
        Primitive(f'{group} exchange', 2 * _ENDS, *exchange),
        Primitive('SKEYSEED: prf', _ENDS, *_prf(2 * _NONCE, _SHARED)),
        Primitive(
            'SK_*: prf+, 6 blocks',
            _ENDS,
            *_prf_plus(2 * _NONCE + 2 * _SPI, 3 * _OUTPUT + 2 * (_KEY + _SALT)),
        ),
        Primitive('AES-256-GCM key', 2 * _ENDS, lambda: AESGCM(bytes(_KEY)), {}),
        *_sealing(protected),
        # Each end makes a proof, and checks the other's.
        Primitive('AUTH: prf of an ID', 2 * _ENDS, *_prf(_OUTPUT, 4 + max(identities))),
        *(_signatures(covered) if signed else _shared_key(covered)),
        Primitive(
            'KEYMAT: prf+, 1 block',
            _ENDS,
            *_prf_plus(_SHARED + 2 * _NONCE, RP_SUITES['hmac-sha-1-96'].master_key_length),
        ),
    ]


Work = tuple[Call, Mapping[str, int]]


def _key_exchange(group: str) -> tuple[Work, Work]:
    if group == 'x25519':
        return _x25519()
    return _p256()


def _x25519() -> tuple[Work, Work]:
    ours = x25519.X25519PrivateKey.generate()
    theirs = x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()

    def generate() -> bytes:
        return x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()

    def exchange() -> bytes:
        return ours.exchange(x25519.X25519PublicKey.from_public_bytes(theirs))

    return (
        (generate, {'generate_key': 1}),
        (exchange, {'exchange': 1}),
    )


def _p256() -> tuple[Work, Work]:
    ours = ec.generate_private_key(_CURVE)

    def generate() -> bytes:
        key = ec.generate_private_key(_CURVE).public_key()
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    theirs = generate()

    def exchange() -> bytes:
        peer = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, theirs)
        return ours.exchange(ec.ECDH(), peer)

    return (
        (generate, {'generate_private_key': 1}),
        (exchange, {'exchange': 1}),
    )


def _prf(key_length: int, length: int) -> Work:
    key, data = os.urandom(key_length), os.urandom(length)

    def work() -> bytes:
        mac = HMAC(key, _HASH)
        mac.update(data)
        return mac.finalize()

    return work, {'finalize': 1}


def _prf_plus(seed_length: int, length: int) -> Work:
    key, seed = os.urandom(_OUTPUT), os.urandom(seed_length)
    counters = [bytes([number]) for number in range(1, -(-length // _OUTPUT) + 1)]

    def work() -> None:
        keyed = HMAC(key, _HASH)
        block = b''
        for counter in counters:
            mac = keyed.copy()
            mac.update(block + seed + counter)
            block = mac.finalize()

    return work, {'finalize': len(counters)}


def _sealing(lengths: Sequence[int]) -> list[Primitive]:
    """Return the sealing of each message, sealed once and opened once."""
    found = []
    for length in lengths:
        octets = length - HEADER_LENGTH - GENERIC_HEADER_LENGTH - _IV - _ICV
        name = f'AES-256-GCM, {octets} octets sealed and opened'
        library = {'encrypt': 1, 'decrypt': 1}
        found.append(Primitive(name, 1, _seal_and_open(octets), library))
    return found


def _seal_and_open(octets: int) -> Call:
    cipher = AESGCM(os.urandom(_KEY))
    nonce = os.urandom(_SALT + _IV)
    plain = os.urandom(octets)
    associated = os.urandom(HEADER_LENGTH + GENERIC_HEADER_LENGTH)

    def work() -> None:
        cipher.decrypt(nonce, cipher.encrypt(nonce, plain, associated), associated)

    return work


def _shared_key(covered: int) -> list[Primitive]:
    return [
        Primitive('AUTH: prf of the key pad', 2 * _ENDS, *_prf(36, _KEY_PAD)),
        Primitive('AUTH: prf', 2 * _ENDS, *_prf(_OUTPUT, covered)),
    ]


def _signatures(covered: int) -> list[Primitive]:
    key = ec.generate_private_key(_CURVE)
    public = key.public_key()
    octets = os.urandom(covered)
    signature = key.sign(octets, _ECDSA)
    return [
        Primitive(
            'ECDSA P-256 signature',
            _ENDS,
            lambda: key.sign(octets, _ECDSA),
            {'sign': 1},
        ),
        Primitive(
            'ECDSA P-256 verification',
            _ENDS,
            lambda: public.verify(signature, octets, _ECDSA),
            {'verify': 1},
        ),
    ]

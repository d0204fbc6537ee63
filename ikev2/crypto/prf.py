"""The negotiated pseudorandom function and prf+ (RFC 7296, 2.13; RFC 4868).

Only HMAC with SHA-2: each takes a key of any length and prefers one as long as its output.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from ikev2.constants import PrfId
from ikev2.errors import MalformedMessage, UnsupportedAlgorithm
from keymaterial import Secret

_HASHES: dict[int, hashes.HashAlgorithm] = {
    PrfId.HMAC_SHA2_256: hashes.SHA256(),
    PrfId.HMAC_SHA2_384: hashes.SHA384(),
    PrfId.HMAC_SHA2_512: hashes.SHA512(),
}
PRFS = frozenset(_HASHES)
_MOST_BLOCKS = 255  # RFC 7296, 2.13: the counter is one octet


def _hash(prf_id: int) -> hashes.HashAlgorithm:
    algorithm = _HASHES.get(prf_id)
    if algorithm is None:
        raise UnsupportedAlgorithm(f'pseudorandom function {prf_id} is not supported')
    return algorithm


def prf_length(prf_id: int) -> int:
    """Return the output length and preferred key length in octets."""
    return _hash(prf_id).digest_size


def check_nonce(prf_id: int, nonce: bytes) -> None:
    """Check that a peer's nonce has at least half the PRF's key length (RFC 7296, 2.10).

    Raises MalformedMessage. The payload has already checked that the nonce has 16 octets or more.
    """
    if 2 * len(nonce) < prf_length(prf_id):
        raise MalformedMessage(f'nonce of {len(nonce)} octets for {PrfId(prf_id).name}')


def prf(prf_id: int, key: Secret | bytes, data: bytes) -> bytes:
    """Return prf(key, data).

    `key` is octets only where it is no secret (the nonces of SKEYSEED).
    """
    mac = HMAC(key.reveal() if isinstance(key, Secret) else key, _hash(prf_id))
    mac.update(data)
    return mac.finalize()


def prf_plus(prf_id: int, key: Secret, seed: bytes, length: int) -> Secret:
    """Return the first `length` octets of prf+(key, seed).

    Raises ValueError if `length` is more than 255 times the PRF's output.
    """
    algorithm = _hash(prf_id)
    blocks = -(-length // algorithm.digest_size)
    if blocks > _MOST_BLOCKS:
        raise ValueError(f'prf+ gives at most 255 blocks, not {blocks}')
    keyed = HMAC(key.reveal(), algorithm)
    output = bytearray()
    block = b''
    for counter in range(1, blocks + 1):
        mac = keyed.copy()
        mac.update(block + seed + bytes([counter]))
        block = mac.finalize()
        output += block
    return Secret(output[:length])

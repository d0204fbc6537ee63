"""Policies for the IKE SA by name, which operators write instead of lists of algorithms.

No policy has anything below RFC 8247. A name may gain algorithms, but never one that is weaker than
its weakest. `docs/configuration.md` tells which to take.
"""

from __future__ import annotations

from typing import Final

from ikev2.constants import KeyExchangeId, PrfId
from ikev2.crypto.cipher import (
    AES_128_CBC_HMAC_SHA2_256_128,
    AES_128_GCM_16,
    AES_256_CBC_HMAC_SHA2_256_128,
    AES_256_GCM_16,
    CHACHA20_POLY1305,
)
from ikev2.crypto.key_exchange import available
from ikev2.errors import LocalError, UnsupportedAlgorithm
from ikev2.proposals.ike import IkePolicy

_K = KeyExchangeId

POLICIES: Final[dict[str, IkePolicy]] = {
    'default': IkePolicy(),
    # For peers that support nothing better.
    'compatible': IkePolicy(
        encryptions=(
            AES_256_GCM_16,
            CHACHA20_POLY1305,
            AES_128_GCM_16,
            AES_256_CBC_HMAC_SHA2_256_128,
            AES_128_CBC_HMAC_SHA2_256_128,
        ),
        prfs=(PrfId.HMAC_SHA2_256, PrfId.HMAC_SHA2_384, PrfId.HMAC_SHA2_512),
        groups=(
            _K.CURVE25519,
            _K.ECP_256,
            _K.ECP_384,
            _K.MODP_3072,
            _K.MODP_4096,
            _K.MODP_2048,
        ),
    ),
    # 192 bits and more, without post-quantum algorithms.
    'high': IkePolicy(
        encryptions=(AES_256_GCM_16,),
        prfs=(PrfId.HMAC_SHA2_384, PrfId.HMAC_SHA2_512),
        groups=(_K.ECP_384,),
    ),
    # The default with ML-KEM: recorded traffic stays secret from a quantum computer.
    'hybrid': IkePolicy(
        additional=(_K.ML_KEM_768, _K.ML_KEM_1024),
        additional_required=True,
    ),
    'hybrid-optional': IkePolicy(additional=(_K.ML_KEM_768, _K.ML_KEM_1024)),
    # The algorithms of the Commercial National Security Algorithm Suite 2.0 for IKE itself.
    'cnsa-2': IkePolicy(
        encryptions=(AES_256_GCM_16,),
        prfs=(PrfId.HMAC_SHA2_384,),
        groups=(_K.ECP_384,),
        additional=(_K.ML_KEM_1024,),
        additional_required=True,
    ),
}


def policy_named(name: str) -> IkePolicy:
    """Return the policy of this name.

    Raises LocalError if there is none, UnsupportedAlgorithm if this host does not support its
    algorithms.
    """
    policy = POLICIES.get(name)
    if policy is None:
        raise LocalError(f'there is no policy {name!r}: it is one of {", ".join(POLICIES)}')
    for method in policy.additional:
        if not available(method):
            raise UnsupportedAlgorithm(
                f'policy {name} needs {method.name.replace("_", "-")}, which needs OpenSSL 3.5'
            )
    return policy

"""IKEv2 (RFC 7296) for routing-protocol SAs: an engine without I/O, and a UDP adapter.

`Endpoint` is the engine, `Peer` an entry of its Peer Authorization Database, `events` what passes
between it and its user, `UdpSockets` the adapter. This package knows nothing of TCP-AO's use of
the keys, nor of BGP.
"""

from __future__ import annotations

from ikev2.auth import (
    CertifiedKey,
    Fingerprint,
    PresharedKey,
    PrivateKey,
    PublicKey,
    TrustAnchors,
)
from ikev2.endpoint import Endpoint
from ikev2.errors import IkeError, LocalError, PeerError
from ikev2.identity import Identity
from ikev2.limits import Limits
from ikev2.peer import Peer
from ikev2.proposals import IkePolicy

__all__ = [
    'CertifiedKey',
    'Endpoint',
    'Fingerprint',
    'Identity',
    'IkeError',
    'IkePolicy',
    'Limits',
    'LocalError',
    'Peer',
    'PeerError',
    'PresharedKey',
    'PrivateKey',
    'PublicKey',
    'TrustAnchors',
]

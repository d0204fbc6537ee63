"""IKEv2 (RFC 7296) for routing-protocol SAs: an engine without I/O, and a UDP adapter.

`Endpoint` is the engine, `Peer` an entry of its Peer Authorization Database, `events` the data
exchanged between engine and user, `UdpSockets` the adapter. This package knows nothing of TCP-AO's
use of the keys, nor of BGP.

From the wire up, each a package with a map of its own:

- `wire`: messages as octets
- `crypto`: primitives by the numbers of the registries
- `proposals`: offers and choices
- `authentication`: identities and proofs
- `sa`: one IKE SA
- `exchanges`: the messages that make an IKE SA and that go over it

This folder has the modules that they share (`constants`, `errors`, `events`, `limits`, `timers`,
`context`), the PAD (`peer`), and the modules that use them all: `association` (the IKE SAs with one
peer), `endpoint` (with all peers), behind `cookies` and `rate`; `snapshot` shows their state.
"""

from __future__ import annotations

from ikev2.authentication.auth import (
    CertifiedKey,
    Fingerprint,
    PresharedKey,
    PrivateKey,
    PublicKey,
    TrustAnchors,
)
from ikev2.authentication.identity import Identity
from ikev2.endpoint import Endpoint
from ikev2.errors import IkeError, LocalError, PeerError
from ikev2.limits import Limits
from ikev2.peer import Peer
from ikev2.proposals.ike import IkePolicy

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

"""IKEv2 (RFC 7296) for routing-protocol SAs: an engine without I/O, and a UDP adapter.

`Endpoint` is the engine, `Peer` an entry of its Peer Authorization Database, `events` what passes
between it and its user, `UdpSockets` the adapter. This package knows nothing of TCP-AO's use of
the keys, nor of BGP.

Its modules, from the wire up:

- numbers and octets: `constants`, `reader`, `payload` and `payloads*`, `message`, `protection`,
  `fragments`
- cryptography: `prf`, `keys`, `cipher`, `key_exchange` with `modp` and `mlkem`, `ppk`, `entropy`
- identities and proofs: `identity`, `auth`, `schemes`, `signatures`, `credentials`; X.509 in
  `certificates`, `paths`, `crl`, `names`, `name_constraints`
- what is offered and chosen: `policies`, `proposals` for the IKE SA, `rp_proposals` for RP SAs
- one IKE SA: `transitions` (its life as a table), `ike_sa`, `channel`, `window`, `timers`
- exchanges: `ike_init*`, `ike_intermediate`, `ike_auth`, `create_child` with `ike_rekey`,
  `rp_initiator` and `rp_responder`, `follow_up`, `informational`, `reauth`; what is said without
  protection in `unprotected`, `cookies`
- all of them: `association` (one peer's), `endpoint`
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

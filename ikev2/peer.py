"""A peer of IKE: an entry of the Peer Authorization Database (RFC 4301, 4.4.3).

Configuration only. The gatekeeper's part of the entry says which sessions the peer may ask for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ikev2.authentication.auth import LocalCredential, PeerCredential, TrustAnchors
from ikev2.authentication.identity import Identity
from ikev2.authentication.ppk import Ppk
from ikev2.authentication.x509.certificates import certifiable
from ikev2.errors import LocalError
from ikev2.events import IPAddress
from ikev2.proposals.ike import IkePolicy

_SHORTEST_IKE_LIFETIME = 60.0


@dataclass(frozen=True, slots=True)
class Peer:
    """The identities and credentials of both sides, and the addresses and ports of IKE.

    Raises LocalError for a combination that can't work.
    """

    name: str
    """Our name for the peer, unique in an endpoint."""
    local_id: Identity
    remote_id: Identity
    credential: LocalCredential
    remote_credential: PeerCredential
    addresses: tuple[tuple[IPAddress, IPAddress], ...]
    """(local, remote): IKE runs between any of these pairs, and begins with the first."""
    remote_port: int = 500
    """The peer's UDP port for IKE without NAT traversal."""
    remote_natt_port: int = 4500
    policy: IkePolicy = field(default_factory=IkePolicy)
    """Also for the key exchange of RP SAs."""
    ppk: Ppk | None = None
    """In addition to the credentials (RFC 8784)."""
    liveness_idle: float | None = None
    """Seconds without an authentic message from the peer until we check its liveness."""
    ike_lifetime: float = 4 * 3600.0
    """Seconds; an IKE SA is rekeyed before this time, and deleted at its end."""
    reauthenticate_after: float | None = None
    """Seconds; a new IKE SA is made before this time, with new proofs of both identities. None:
    before the end of the peer's proof, if it ends."""

    def __post_init__(self) -> None:
        if not self.addresses:
            raise LocalError(f'peer {self.name} has no addresses')
        if any(local.version != remote.version for local, remote in self.addresses):
            raise LocalError(f'peer {self.name}: both addresses of a pair are IPv4 or both IPv6')
        if self.local_id == self.remote_id:
            # With the same identity on both sides, our own messages sent back would authenticate.
            raise LocalError(f'peer {self.name}: local and remote identity are the same')
        if isinstance(self.remote_credential, TrustAnchors) and not certifiable(self.remote_id):
            raise LocalError(
                f'peer {self.name}: a {self.remote_id} is in no certificate, take another identity'
            )
        if self.ike_lifetime < _SHORTEST_IKE_LIFETIME:
            raise LocalError(f'peer {self.name}: an IKE SA lives at least a minute')
        after = self.reauthenticate_after
        if after is not None and after < _SHORTEST_IKE_LIFETIME:
            raise LocalError(f'peer {self.name}: a proof of identity holds at least a minute')
        if self.liveness_idle is not None and self.liveness_idle <= 0:
            raise LocalError(f'peer {self.name}: the liveness idle time is more than 0 s')

"""How an IKE SA came to be: what its first exchange fixed for good, and what IKE_AUTH needs of it.

Data only; no keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ikev2.constants import KeyExchangeId
from ikev2.proposals.ike import IkeSuite
from ikev2.sa.intermediate import IntAuth
from ikev2.wire.payloads import CertificateRequestPayload


@dataclass(frozen=True, slots=True)
class Origin:
    """How an IKE SA came to be; never changes."""

    initiator: bool
    """We are the original initiator."""
    spi_i: bytes
    spi_r: bytes
    suite: IkeSuite
    ni: bytes
    nr: bytes
    """Nonces of the exchange that made it."""
    begun: float
    """`now` of its IKE_SA_INIT, or of its first ancestor's."""
    profile: bool
    """The peer sent our Vendor ID."""
    nat: bool
    fragmentation: bool = False
    """Both sides announced IKE fragmentation (RFC 7383, 2.3)."""

    @property
    def our_spi(self) -> bytes:
        """The one that finds this IKE SA here."""
        return self.spi_i if self.initiator else self.spi_r

    @property
    def lowest_nonce(self) -> bytes:
        """Of two IKE SAs the one with the lower goes (RFC 7296, 2.8.1, 2.8.2)."""
        return min(self.ni, self.nr)

    @property
    def spis(self) -> str:
        """Both in hex, for people."""
        return f'{self.spi_i.hex()}:{self.spi_r.hex()}'


@dataclass(slots=True)
class Handshake:
    """What IKE_AUTH needs of the exchanges before it (RFC 7296, 2.15)."""

    request: bytes
    response: bytes
    peer_hashes: frozenset[int]
    certificate_requests: tuple[CertificateRequestPayload, ...] = ()
    announced: tuple[bytes, ...] | None = None
    """AlgorithmIdentifiers that the peer takes; None if it knows no RFC 9593."""
    ppk: bool = False
    """Both sides sent USE_PPK (RFC 8784, 3)."""
    additional_left: list[KeyExchangeId] = field(default_factory=list)
    """Key exchanges that IKE_INTERMEDIATE has still to bring (RFC 9370, 2.2.2)."""
    int_auth: IntAuth = field(default_factory=IntAuth)
    """Of the IKE_INTERMEDIATE exchanges so far (RFC 9242, 3.3.2)."""

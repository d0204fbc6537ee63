"""How an IKE SA came to be: what its first exchange fixed for good, and what IKE_AUTH needs of it.

Data only; no keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from ikev2.payloads import CertificateRequestPayload
from ikev2.proposals import IkeSuite


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


@dataclass(frozen=True, slots=True)
class Handshake:
    """What IKE_AUTH needs of IKE_SA_INIT (RFC 7296, 2.15)."""

    request: bytes
    response: bytes
    peer_hashes: frozenset[int]
    certificate_requests: tuple[CertificateRequestPayload, ...] = ()

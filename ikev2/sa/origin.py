"""The origin of an IKE SA: data that its first exchange fixed, and data that IKE_AUTH needs.

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
    """The origin of an IKE SA; never changes."""

    initiator: bool
    """True if we are the original initiator."""
    spi_i: bytes
    spi_r: bytes
    suite: IkeSuite
    ni: bytes
    nr: bytes
    """The nonces are those of the exchange that made this IKE SA."""
    begun: float
    """`now` of the IKE_SA_INIT of this IKE SA, or of its first ancestor."""
    profile: bool
    """True if the peer sent our Vendor ID."""
    nat: bool
    fragmentation: bool = False
    """True if both sides announced IKE fragmentation (RFC 7383, 2.3)."""

    @property
    def our_spi(self) -> bytes:
        """Return our SPI, which finds this IKE SA on this side."""
        return self.spi_i if self.initiator else self.spi_r

    @property
    def lowest_nonce(self) -> bytes:
        """Return the lowest nonce: of two IKE SAs, the one with the lower is closed (RFC 7296,
        2.8.1, 2.8.2).
        """
        return min(self.ni, self.nr)

    @property
    def spis(self) -> str:
        """Return both SPIs in hex, for people."""
        return f'{self.spi_i.hex()}:{self.spi_r.hex()}'


@dataclass(slots=True)
class Handshake:
    """Data of the exchanges before IKE_AUTH that IKE_AUTH needs (RFC 7296, 2.15)."""

    request: bytes
    response: bytes
    peer_hashes: frozenset[int]
    certificate_requests: tuple[CertificateRequestPayload, ...] = ()
    announced: tuple[bytes, ...] | None = None
    """AlgorithmIdentifiers that the peer accepts; None if it does not support RFC 9593."""
    ppk: bool = False
    """True if both sides sent USE_PPK (RFC 8784, 3)."""
    additional_left: list[KeyExchangeId] = field(default_factory=list)
    """Key exchanges that IKE_INTERMEDIATE still has to do (RFC 9370, 2.2.2)."""
    int_auth: IntAuth = field(default_factory=IntAuth)
    """IntAuth of the IKE_INTERMEDIATE exchanges so far (RFC 9242, 3.3.2)."""

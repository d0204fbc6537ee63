"""What a peer proved itself with, for those who must judge it again when the configuration changes.

A pre-shared key and a pinned key leave nothing to judge: they are the configured one or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ikev2.authentication.auth import PeerCredential
from ikev2.authentication.credentials import TrustAnchors
from ikev2.authentication.identity import Identity
from ikev2.constants import CertificateEncoding
from ikev2.wire.payloads import CertificatePayload


@dataclass(frozen=True, slots=True)
class Proof:
    """The certificates and CRLs that the peer sent, in DER, its own certificate first."""

    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]


def proof_of(credential: PeerCredential, received: Sequence[CertificatePayload]) -> Proof | None:
    """What verified just now, if it came in CERT payloads that a CA vouches for."""
    if not isinstance(credential, TrustAnchors):
        return None
    return Proof(
        tuple(c.data for c in received if c.encoding == CertificateEncoding.X509_SIGNATURE),
        tuple(c.data for c in received if c.encoding == CertificateEncoding.CRL),
    )


def proven_until(
    proof: Proof | None, credential: PeerCredential, identity: Identity, at: float
) -> float | None:
    """Until when, in seconds since the epoch, a proof would do for another credential of the peer.

    None if only a new proof can tell. Raises AuthenticationFailed if it wouldn't do at `at`.
    """
    if not isinstance(credential, TrustAnchors) or proof is None:
        return None
    return credential.prove(identity, proof.certificates, proof.crls, at)[1]

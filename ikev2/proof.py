"""What a peer proved itself with, for those who must judge it again when the configuration changes.

A pre-shared key and a pinned key leave nothing to judge: they are the configured one or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ikev2.constants import CertificateEncoding
from ikev2.credentials import TrustAnchors
from ikev2.payloads import CertificatePayload
from ikev2.peer import Peer


@dataclass(frozen=True, slots=True)
class Proof:
    """The certificates and CRLs that the peer sent, in DER, its own certificate first."""

    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]


def proof_of(peer: Peer, received: Sequence[CertificatePayload]) -> Proof | None:
    """What verified just now, if it came in CERT payloads that a CA vouches for."""
    if not isinstance(peer.remote_credential, TrustAnchors):
        return None
    return Proof(
        tuple(c.data for c in received if c.encoding == CertificateEncoding.X509_SIGNATURE),
        tuple(c.data for c in received if c.encoding == CertificateEncoding.CRL),
    )


def still_proven(proof: Proof | None, before: Peer, after: Peer, at: float) -> bool:
    """Whether a peer would pass, at `at` (seconds since the epoch), under a new configuration.

    False if only a new proof can tell. Raises AuthenticationFailed if it wouldn't.
    """
    credential = after.remote_credential
    if credential == before.remote_credential:
        return True
    if not isinstance(credential, TrustAnchors) or proof is None:
        return False
    credential.prove(after.remote_id, proof.certificates, proof.crls, at)
    return True

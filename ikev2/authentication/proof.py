"""The proof of a peer's identity on which an IKE SA rests, and how it is judged again.

An IKE SA has the proof of the IKE_AUTH that authenticated it. Its successors by rekey inherit the
proof, and every routing-protocol SA that is made under them holds it too: each of them is judged by
its own proof, and no proof prolongs another one.

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
class SentCertificates:
    """The certificates and CRLs that the peer sent, in DER, its own certificate first."""

    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]


def sent_certificates(
    credential: PeerCredential, received: Sequence[CertificatePayload]
) -> SentCertificates | None:
    """Return the certificates that just verified, if a CA vouches for the credential; else None."""
    if not isinstance(credential, TrustAnchors):
        return None
    return SentCertificates(
        tuple(c.data for c in received if c.encoding == CertificateEncoding.X509_SIGNATURE),
        tuple(c.data for c in received if c.encoding == CertificateEncoding.CRL),
    )


@dataclass(slots=True, eq=False)
class Proof:
    """One proof: the identity, when it was proven, by which certificates, and when it ends.

    All SAs that rest on this proof share one object; only a new judgement changes it.
    """

    identity: Identity
    authenticated: float
    """`now` of the IKE_AUTH."""
    sent: SentCertificates | None
    """None if the key itself is configured."""
    judged_at: float
    """Seconds since the epoch, by this host's clock at the last judgement."""
    until: float | None
    """Seconds since the epoch when this proof ends; None if it does not end by itself."""

    def judge(self, credential: PeerCredential, wall: float) -> None:
        """Judge the certificates again, by another credential or at another time.

        `wall` is in seconds since the epoch. Nothing changes where there are no certificates, or
        where the credential has no CAs. Raises AuthenticationFailed if the proof does not hold;
        unchanged then.
        """
        if isinstance(credential, TrustAnchors) and self.sent is not None:
            sent = self.sent
            _, until = credential.prove(self.identity, sent.certificates, sent.crls, wall)
            self.judged_at, self.until = wall, until

    def judge_by_clock(self, credential: PeerCredential, wall: float) -> None:
        """Judge this proof again if the clock was set back, or is past its end.

        Raises as `judge`.
        """
        if wall < self.judged_at or (self.until is not None and wall >= self.until):
            self.judge(credential, wall)

"""Credentials that rest on X.509: our certificate with its key, and the CAs that we trust.

RFC 7296, 3.6 and 3.7; RFC 4945, 3 and 5. Pre-shared keys are in auth.py, raw keys in
signatures/keys.py; x509/paths.py judges a peer's certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final, Self, TypeVar

from ikev2.authentication.identity import Identity
from ikev2.authentication.signatures.keys import PrivateKey
from ikev2.authentication.x509.certificates import Certificate, CertificateError, read_file
from ikev2.authentication.x509.crl import RevocationList, read_crl_file
from ikev2.authentication.x509.paths import find_path
from ikev2.errors import AuthenticationFailed, CredentialError, ProofFault

MOST_CERTIFICATES: Final = 16
"""CERT payloads of a peer that are read."""
LARGEST_CHAIN: Final = 40 * 1024
"""Octets of our own certificates: they go into one IKE_AUTH message, which holds less than 64 kB,
and of a peer's message we accept 48 kB."""
MOST_AUTHORITIES: Final = 10
"""CAs that a CERTREQ names."""
_DIGEST: Final = 20  # SHA-1

_Read = TypeVar('_Read')


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """Our private key with its certificate and those between it and the trust anchor."""

    key: PrivateKey
    chain: tuple[Certificate, ...]
    """Our certificate first, then the others in any order."""

    def __post_init__(self) -> None:
        """Check the chain. Raises CredentialError."""
        if not 1 <= len(self.chain) <= MOST_CERTIFICATES:
            raise CredentialError(f'a chain has 1 to {MOST_CERTIFICATES} certificates')
        if sum(len(certificate.der) for certificate in self.chain) > LARGEST_CHAIN:
            raise CredentialError(f'a chain has at most {LARGEST_CHAIN} octets of DER')
        if self.chain[0].spki != self.key.public_key.spki:
            raise CredentialError('the first certificate is not for the private key')

    @classmethod
    def load(cls, key: PrivateKey, content: bytes) -> Self:
        """Make a credential from a file's content: PEM, our certificate first, or only ours in DER.

        Raises CredentialError.
        """
        try:
            ours, *others = read_file(content)
        except CertificateError as error:
            raise CredentialError(str(error)) from None
        # Roots are left out: the peer has to hold them already.
        return cls(key, (ours, *(other for other in others if not other.issued_by(other))))

    @property
    def not_after(self) -> float:
        """Return when the first certificate of the chain expires, in seconds since the epoch."""
        return min(certificate.not_after for certificate in self.chain)

    def excuse(self, at: float) -> str:
        """Return a probable reason for the refusal of a peer that names none; empty if we see
        none.
        """
        late = [one.name for one in self.chain if at > one.not_after]
        return f': in our own chain {late[0]} has expired, install a new one' if late else ''

    def chain_for(self, authorities: bytes) -> tuple[bytes, ...]:
        """Return the certificates to send, in DER, ours first, for a CERTREQ with these
        `authorities`.

        CAs that the peer has already are left out.
        """
        held = {authorities[i : i + _DIGEST] for i in range(0, len(authorities), _DIGEST)}
        ours, *others = self.chain
        return (ours.der, *(other.der for other in others if other.authority not in held))


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """The CAs that we trust to name a peer's identity, and their CRLs."""

    anchors: tuple[Certificate, ...]
    lists: tuple[RevocationList, ...] = ()
    crl_required: bool = False
    """True if every issuer in a path must have a current CRL, not only those with one in
    `lists`."""

    def __post_init__(self) -> None:
        """Check that there are anchors and that they may sign. Raises CredentialError."""
        if not self.anchors:
            raise CredentialError('there is no trust anchor')
        for anchor in self.anchors:
            if not anchor.may_sign_certificates:
                raise CredentialError(f'{anchor.name} is not a CA that may sign certificates')

    @classmethod
    def load(cls, content: bytes, crls: bytes | None = None, *, crl_required: bool = False) -> Self:
        """Make trust anchors from files' contents, PEM or DER. Raises CredentialError."""
        try:
            return cls(read_file(content), read_crl_file(crls) if crls else (), crl_required)
        except CertificateError as error:
            raise CredentialError(str(error)) from None

    @property
    def authorities(self) -> bytes:
        """Return the Certification Authority field of our CERTREQ (RFC 7296, 3.7).

        The field is a hint, and as responder we send it in IKE_SA_INIT, which can't be fragmented:
        of a large bundle it names the first CAs only.
        """
        return b''.join(anchor.authority for anchor in self.anchors[:MOST_AUTHORITIES])

    def prove(
        self,
        identity: Identity,
        certificates: Sequence[bytes],
        crls: Sequence[bytes],
        at: float,
        possession: Callable[[Any], None] | None = None,
    ) -> tuple[Any, float]:
        """Return the public key of the peer's first certificate and when its proof ends.

        The certificate must be for `identity`. `certificates` and `crls` are the DER of the peer's
        CERT payloads (unreadable ones after the first certificate are skipped); `at` and the end
        are in seconds since the epoch. `possession` gets the key once a trust anchor vouches for
        it, and before CRLs are read: it raises AuthenticationFailed if the peer doesn't hold the
        private key. Raises AuthenticationFailed.
        """
        if not certificates:
            raise AuthenticationFailed('the peer sent no certificate', ProofFault.CERTIFICATE)
        passed_over: list[str] = []

        def readable(encoded: Sequence[bytes], read: Callable[[bytes], _Read]) -> Iterator[_Read]:
            for der in encoded:
                try:
                    yield read(der)
                except CertificateError as error:
                    passed_over.append(str(error))

        try:
            leaf = Certificate.read(certificates[0])
            if not leaf.names(identity):
                raise CertificateError(f'it is for {leaf.described()}, not for {identity}')
            path = find_path(
                leaf,
                tuple(readable(certificates[1:MOST_CERTIFICATES], Certificate.read)),
                self.anchors,
                chain(self.lists, readable(crls[:MOST_CERTIFICATES], RevocationList.read)),
                at,
                crl_required=self.crl_required,
                possession=possession and partial(possession, leaf.key),
            )
        except CertificateError as error:
            also = f' (passed over: {passed_over[0]})' if passed_over else ''
            raise AuthenticationFailed(
                f"the peer's certificate: {error}{also}", ProofFault.CERTIFICATE
            ) from None
        return leaf.key, path.until

"""Credentials that rest on X.509: our certificate with its key, and the CAs that we trust.

RFC 7296, 3.6 and 3.7; RFC 4945, 3 and 5. Pre-shared and raw keys are in auth.py and
signatures.py; paths.py judges what a peer sends.
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
"""CERT payloads of a peer that are looked at."""
LARGEST_CHAIN: Final = 40 * 1024
"""Octets of our own certificates: they go into one IKE_AUTH message, which holds less than 64 kB,
and of a peer's we take 48 kB."""
MOST_AUTHORITIES: Final = 10
"""CAs that are named in a CERTREQ."""
_DIGEST: Final = 20  # SHA-1

_Read = TypeVar('_Read')


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """Our private key with its certificate and those between it and the trust anchor."""

    key: PrivateKey
    chain: tuple[Certificate, ...]
    """Ours first, then in whatever order."""

    def __post_init__(self) -> None:
        """Raises CredentialError."""
        if not 1 <= len(self.chain) <= MOST_CERTIFICATES:
            raise CredentialError(f'a chain has 1 to {MOST_CERTIFICATES} certificates')
        if sum(len(certificate.der) for certificate in self.chain) > LARGEST_CHAIN:
            raise CredentialError(f'a chain has at most {LARGEST_CHAIN} octets of DER')
        if self.chain[0].spki != self.key.public_key.spki:
            raise CredentialError('the first certificate is not for the private key')

    @classmethod
    def load(cls, key: PrivateKey, content: bytes) -> Self:
        """`content` is a file's: PEM, our certificate first, or ours alone in DER.

        Raises CredentialError.
        """
        try:
            ours, *others = read_file(content)
        except CertificateError as error:
            raise CredentialError(str(error)) from None
        # A root says nothing that its holder has to be told.
        return cls(key, (ours, *(other for other in others if not other.issued_by(other))))

    @property
    def not_after(self) -> float:
        """Seconds since the epoch: the first of the chain has expired then."""
        return min(certificate.not_after for certificate in self.chain)

    def excuse(self, at: float) -> str:
        """Why a peer may refuse us that says only that it does; empty if we see no reason."""
        late = [one.name for one in self.chain if at > one.not_after]
        return f': in our own chain {late[0]} has expired, install a new one' if late else ''

    def chain_for(self, authorities: bytes) -> tuple[bytes, ...]:
        """What to send, in DER, ours first, to one whose CERTREQ has these `authorities`.

        Without the CAs that the peer has already.
        """
        held = {authorities[i : i + _DIGEST] for i in range(0, len(authorities), _DIGEST)}
        ours, *others = self.chain
        return (ours.der, *(other.der for other in others if other.authority not in held))


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """The CAs whose word we take for a peer's identity, and their CRLs."""

    anchors: tuple[Certificate, ...]
    lists: tuple[RevocationList, ...] = ()
    crl_required: bool = False
    """Every issuer in a path must have a current CRL, not only those with one in `lists`."""

    def __post_init__(self) -> None:
        """Raises CredentialError."""
        if not self.anchors:
            raise CredentialError('there is no trust anchor')
        for anchor in self.anchors:
            if not anchor.may_sign_certificates:
                raise CredentialError(f'{anchor.name} is not a CA that may sign certificates')

    @classmethod
    def load(cls, content: bytes, crls: bytes | None = None, *, crl_required: bool = False) -> Self:
        """From files' contents, PEM or DER. Raises CredentialError."""
        try:
            return cls(read_file(content), read_crl_file(crls) if crls else (), crl_required)
        except CertificateError as error:
            raise CredentialError(str(error)) from None

    @property
    def authorities(self) -> bytes:
        """The Certification Authority field of our CERTREQ (RFC 7296, 3.7).

        It is a hint, and as responder it goes into IKE_SA_INIT, which can't be fragmented: of a
        whole bundle it names the first ones.
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
        """The public key of the peer's first certificate, if that speaks for its identity.

        `certificates` and `crls` are the DER of the peer's CERT payloads (what can't be read
        after the first certificate is passed over), `at` is in seconds since the epoch. Also
        until when that holds. `possession` gets the key once a trust anchor vouches for it, and
        before CRLs are looked at: it raises AuthenticationFailed if the peer doesn't hold it.
        Raises AuthenticationFailed.
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

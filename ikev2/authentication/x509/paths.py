"""Certification paths: from a peer's certificate to a trust anchor (RFC 5280, 6.1).

Names of people's choice, no network, no policies: the initial policy set is any-policy, and what
demands an explicit one was refused when it was read (certificates.py). Time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ikev2.authentication.x509.certificates import Certificate, CertificateError
from ikev2.authentication.x509.crl import RevocationList, check_revocation

LONGEST_PATH: Final = 8
"""Certificates with the peer's own and the trust anchor."""
MOST_SIGNATURES: Final = 32
"""That one search may check: crossed certificates must not keep us busy."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path that holds."""

    certificates: tuple[Certificate, ...]
    """From the peer's own to the trust anchor."""
    until: float
    """Seconds since the epoch: the first of its certificates and CRLs is out of date then."""


def find_path(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    anchors: Sequence[Certificate],
    lists: Sequence[RevocationList],
    at: float,
    *,
    crl_required: bool = False,
) -> Path:
    """The first path that holds at a time. Raises CertificateError with what broke the best one."""
    search = _Search(intermediates, anchors)
    broken: CertificateError | None = None
    for path in search.paths((leaf,)):
        try:
            until = check_path(path, lists, at, crl_required=crl_required)
        except CertificateError as error:
            broken = broken or error
        else:
            return Path(path, until)
    raise broken or CertificateError(
        f'{leaf.described()} was not issued by a configured trust anchor'
    )


@dataclass(slots=True)
class _Search:
    """Depth first, anchors first, with an end."""

    intermediates: Sequence[Certificate]
    anchors: Sequence[Certificate]
    left: int = field(default=MOST_SIGNATURES)

    def paths(self, path: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        """Every chain of names and signatures to an anchor that begins with `path`."""
        last = path[-1]
        for anchor in self._issuers(last, self.anchors):
            yield (*path, anchor)
        if len(path) + 2 > LONGEST_PATH:
            return
        for issuer in self._issuers(last, self.intermediates):
            # No key twice under one name: it would only lead back (RFC 5280, 6.1).
            if not any((c.subject, c.spki) == (issuer.subject, issuer.spki) for c in path):
                yield from self.paths((*path, issuer))

    def _issuers(
        self, certificate: Certificate, candidates: Iterable[Certificate]
    ) -> Iterator[Certificate]:
        for candidate in candidates:
            if certificate.issuer != candidate.subject:
                continue
            if not self.left:
                return
            self.left -= 1
            if certificate.issued_by(candidate):
                yield candidate


def check_path(
    path: Sequence[Certificate],
    lists: Sequence[RevocationList],
    at: float,
    *,
    crl_required: bool = False,
) -> float:
    """Until when a path of verified signatures holds. Raises CertificateError.

    Validity, basic constraints, path length, key usage, name constraints and revocation
    (RFC 5280, 6.1.3 and 6.1.4), of the trust anchor's certificate as well.
    """
    leaf, *issuers = path
    for certificate in path:
        if at < certificate.not_before:
            raise CertificateError(f'{certificate.name} is not valid yet')
        if at > certificate.not_after:
            raise CertificateError(f'{certificate.name} has expired')
    if not leaf.may_authenticate:
        raise CertificateError(f'the key usage of {leaf.name} does not allow IKE')
    following = 0  # CA certificates below, without those that are self-issued
    for index, issuer in enumerate(issuers, 1):
        if not issuer.may_sign_certificates:
            raise CertificateError(f'{issuer.name} is not a CA that may sign certificates')
        if issuer.path_length is not None and following > issuer.path_length:
            raise CertificateError(f'the path below {issuer.name} is longer than it allows')
        _check_names(issuer, path[:index])
        following += not issuer.self_issued
    until = check_revocation(path, lists, at, required=crl_required)
    return min(until, *(certificate.not_after for certificate in path))


def _check_names(issuer: Certificate, below: Sequence[Certificate]) -> None:
    """RFC 5280, 6.1.3 (b) and (c): self-issued certificates are exempt, the peer's own is not."""
    if issuer.constraints is None:
        return
    for position, certificate in enumerate(below):
        if position and certificate.self_issued:
            continue
        if not issuer.constraints.allow(certificate.subject_name, certificate.alternatives):
            raise CertificateError(
                f'{issuer.name} may not issue certificates for {certificate.name}'
            )

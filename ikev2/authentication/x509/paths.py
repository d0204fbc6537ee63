"""Certification paths: from a peer's certificate to a trust anchor (RFC 5280, 6.1).

No network and no policies: the initial policy set is any-policy, and certificates that demand an
explicit policy were refused when they were read (certificates.py). Time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ikev2.authentication.x509.certificates import Certificate, CertificateError, check_validity
from ikev2.authentication.x509.crl import RevocationList, check_revocation

LONGEST_PATH: Final = 8
"""Certificates, including the peer's own and the trust anchor."""
MOST_SIGNATURES: Final = 32
"""Signatures that one search may check: crossed certificates must not keep us busy."""


@dataclass(frozen=True, slots=True)
class Path:
    """A valid path."""

    certificates: tuple[Certificate, ...]
    """From the peer's own to the trust anchor."""
    until: float
    """Seconds since the epoch when the first of its certificates and CRLs is out of date."""


def find_path(
    leaf: Certificate,
    intermediates: Sequence[Certificate],
    anchors: Sequence[Certificate],
    lists: Iterable[RevocationList],
    at: float,
    *,
    crl_required: bool = False,
    possession: Callable[[], None] | None = None,
) -> Path:
    """Return the first path that is valid at a time.

    `possession` is called once, as soon as the signatures of a path are good: it checks that the
    peer has the private key, and raises if not. `lists` are not read before. Raises
    CertificateError with the fault of the best path.
    """
    known: tuple[RevocationList, ...] | None = None
    broken: CertificateError | None = None
    for path in _Search(leaf, intermediates, anchors).paths():
        if known is None:
            if possession is not None:
                possession()
            known = tuple(lists)
        try:
            until = check_path(path, known, at, crl_required=crl_required)
        except CertificateError as error:
            broken = broken or error
        else:
            return Path(path, until)
    raise broken or CertificateError(
        f'{leaf.described()} was not issued by a configured trust anchor'
    )


class _Search:
    """A search by names first, then signatures, from the anchors down.

    A certificate is checked only with a key that an anchor vouches for, and only if a chain of
    names leads through it. After one wrong signature no other certificate is checked: a peer that
    no anchor vouches for costs one check, whatever it sent. An honest peer succeeds, since key
    identifiers (RFC 5280, 4.2.1.1 and 4.2.1.2) choose between keys of one name.
    """

    def __init__(
        self,
        leaf: Certificate,
        intermediates: Sequence[Certificate],
        anchors: Sequence[Certificate],
    ) -> None:
        self.left = MOST_SIGNATURES
        self._leaf = leaf
        self._anchors = anchors
        self._candidates = [*_above(leaf, intermediates), leaf]
        self._wrong: bytes | None = None
        self._checked: dict[tuple[bytes, bytes], bool] = {}

    def paths(self) -> Iterator[tuple[Certificate, ...]]:
        """Yield every chain of names and good signatures, from the leaf to an anchor."""
        for anchor in self._anchors:
            yield from self._below((anchor,))

    def _below(self, path: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        """Extend a path whose first certificate is vouched for."""
        issuer = path[0]
        named = (one for one in self._candidates if one.issuer == issuer.subject)
        for candidate in sorted(named, key=lambda one: self._likely(one, issuer)):
            is_leaf = candidate is self._leaf
            # No key twice under one name: it would only lead back (RFC 5280, 6.1).
            if any((c.subject, c.spki) == (candidate.subject, candidate.spki) for c in path):
                continue
            if len(path) + (1 if is_leaf else 2) > LONGEST_PATH:
                continue
            if not self._is_signed(candidate, issuer):
                continue
            if is_leaf:
                yield (candidate, *path)
            else:
                yield from self._below((candidate, *path))

    def _likely(self, candidate: Certificate, issuer: Certificate) -> tuple[int, int]:
        """Return the rank of a candidate: an old self-signed root, if the peer sent it, comes
        last.
        """
        identifiers = candidate.authority_key_id, issuer.key_id
        rank = 1 if None in identifiers else 2 * (identifiers[0] != identifiers[1])
        kind = 1 if candidate is self._leaf else 2 * candidate.self_issued
        return rank, kind

    def _is_signed(self, candidate: Certificate, issuer: Certificate) -> bool:
        pair = candidate.der, issuer.spki
        if pair in self._checked:
            return self._checked[pair]
        if not self.left or self._wrong not in (None, candidate.der):
            return False
        self.left -= 1
        good = self._checked[pair] = candidate.issued_by(issuer)
        self._wrong = None if good else candidate.der
        return good


def _above(leaf: Certificate, intermediates: Sequence[Certificate]) -> list[Certificate]:
    """Return the intermediates from which chains of names lead down to the leaf."""
    wanted, found, left = {leaf.issuer}, list[Certificate](), list(intermediates)
    for _ in range(LONGEST_PATH - 2):
        level = [one for one in left if one.subject in wanted]
        found += level
        left = [one for one in left if one.subject not in wanted]
        wanted = {one.issuer for one in level}
    return found


def check_path(
    path: Sequence[Certificate],
    lists: Sequence[RevocationList],
    at: float,
    *,
    crl_required: bool = False,
) -> float:
    """Return until when a path of verified signatures is valid. Raises CertificateError.

    Checks validity, basic constraints, path length, key usage, name constraints and revocation (RFC
    5280, 6.1.3 and 6.1.4), of the trust anchor's certificate as well.
    """
    leaf, *issuers = path
    for certificate in path:
        check_validity(certificate, at)
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
    """Check name constraints; self-issued certificates are exempt, but the peer's own is not.

    RFC 5280, 6.1.3 (b) and (c). Raises CertificateError.
    """
    if issuer.constraints is None:
        return
    for position, certificate in enumerate(below):
        if position and certificate.self_issued:
            continue
        if not issuer.constraints.allow(certificate.subject_name, certificate.alternatives):
            raise CertificateError(
                f'{issuer.name} may not issue certificates for {certificate.name}'
            )

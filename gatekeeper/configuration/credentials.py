"""Credentials named by an operator, for the daemon's configuration and for our tools.

Input: words that are each checked already, and a way to read files; output: the credentials of both
sides for IKE. All faults that would otherwise appear later, at the peer, are found here at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar

from gatekeeper.configuration.directive_table import TABLE, Role, of_role
from ikev2.authentication.auth import LocalCredential, PeerCredential, PresharedKey
from ikev2.authentication.credentials import CertifiedKey, TrustAnchors
from ikev2.authentication.identity import Identity
from ikev2.authentication.ppk import Ppk
from ikev2.authentication.signatures.keys import PrivateKey, PublicKey
from ikev2.authentication.x509.certificates import (
    Certificate,
    CertificateError,
    certifiable,
    check_validity,
    read_file,
)
from ikev2.authentication.x509.crl import LARGEST_CRL, RevocationList, read_crl_file
from ikev2.crypto.entropy import check_ppk, check_psk
from ikev2.errors import CredentialError
from keymaterial import KeyFileError, Secret

LARGEST_PUBLIC_KEY: Final = 16 * 1024
"""Octets; a PEM of any public key is far smaller."""
LARGEST_CERTIFICATES: Final = 1024 * 1024
"""Octets of one file: the bundle of a system has a quarter of that."""

_WAYS: Final = ('peer-key', 'peer-fingerprint', 'trust-anchor')
"""Directives that identify a peer's key."""
EXPECTED: Final = (
    'psk-file, or private-key (with its certificate, where there is one) and peer-key, '
    'peer-fingerprint or trust-anchor'
)
_PRIVATE: Final = 'a private file, mode 0600'

_Read = TypeVar('_Read')


# All neighbors of a route server have the same CAs: their files are parsed, and kept, once.
@lru_cache(maxsize=32)
def _read_anchors(octets: bytes) -> tuple[Certificate, ...]:
    """Read trust anchors; judged here, so that the error names the file."""
    return TrustAnchors(read_file(octets)).anchors


@lru_cache(maxsize=8)
def _read_crls(octets: bytes) -> tuple[RevocationList, ...]:
    return read_crl_file(octets)


class DirectiveError(Exception):
    """A directive is unusable, or missing (None): which one, why, and what is expected."""

    def __init__(
        self, directive: str | None, cause: str, expected: str = '', *, beside: str | None = None
    ) -> None:
        super().__init__(cause)
        self.directive = directive
        self.cause = cause
        self.expected = expected
        self.beside = beside
        """The other directive, where two exclude each other."""


class Files(Protocol):
    """Reader of the files that directives name. Both methods raise KeyFileError."""

    def secret(self, directive: str, path: str) -> Secret:
        """Return the content of a private file."""

    def public(self, directive: str, path: str, largest: int) -> bytes:
        """Return a file that others may read, of so many octets at most."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Our credential, the peer's, and the PPK, if any."""

    local: LocalCredential
    peer: PeerCredential
    ppk: Ppk | None = None


def load(
    said: Mapping[str, Any], files: Files, *, local_id: Identity, peer_id: Identity, at: float
) -> Credentials:
    """Read the files of the directives.

    `said` has their values: a path (tuples of paths for `trust-anchor` and `crl`), a Fingerprint, a
    PPK's name, `true` or `false`. `at` is in seconds since the epoch. Raises DirectiveError.
    """
    _check_choice(said)
    return _Loader(said, files, local_id, peer_id, at).load()


def _check_choice(said: Mapping[str, Any]) -> None:
    """Check that there is one way to prove ourselves and one to identify the peer."""
    keys = [name for name in ('private-key', 'certificate', *_WAYS, 'crl') if name in said]
    if 'psk-file' in said:
        if keys:
            raise DirectiveError(keys[0], 'a second credential', EXPECTED, beside='psk-file')
    elif not keys:
        raise DirectiveError(None, 'incomplete, the credential is missing', EXPECTED)
    elif 'private-key' not in said:
        raise DirectiveError(None, 'incomplete, private-key is missing', EXPECTED)
    ways = [name for name in _WAYS if name in said]
    if len(ways) > 1:
        cause = "that says already which key is the peer's"
        raise DirectiveError(ways[1], cause, ' or '.join(_WAYS), beside=ways[0])
    if keys and not ways:
        names = f'{", ".join(_WAYS[:-1])} or {_WAYS[-1]}'
        raise DirectiveError(None, f'incomplete, {names} is missing', EXPECTED)
    for name in of_role(Role.CREDENTIAL):
        needed = TABLE[name].needs
        if name in said and needed is not None and needed not in said:
            raise DirectiveError(name, f'it means nothing without {needed}', f'{needed} too')


@dataclass(frozen=True, slots=True)
class _Loader:
    said: Mapping[str, Any]
    files: Files
    local_id: Identity
    peer_id: Identity
    at: float

    def load(self) -> Credentials:
        ppk = self._ppk() if 'ppk-file' in self.said else None
        if 'psk-file' in self.said:
            shared = self._psk()
            return Credentials(shared, shared, ppk)
        return Credentials(self._own(), self._peers(), ppk)

    def _psk(self) -> PresharedKey:
        def read(content: Secret) -> PresharedKey:
            shared = PresharedKey.load(content)
            check_psk(shared.secret)
            return shared

        return self._private('psk-file', read)

    def _ppk(self) -> Ppk:
        def read(content: Secret) -> Ppk:
            secret = PresharedKey.load(content).secret
            check_ppk(secret)
            required = self.said.get('ppk-required', 'true') == 'true'
            return Ppk(self.said['ppk-id'], secret, required)

        return self._private('ppk-file', read)

    def _own(self) -> PrivateKey | CertifiedKey:
        key = self._private('private-key', PrivateKey.load)
        path = self.said.get('certificate')
        if path is None:
            return key
        own = self._public(
            'certificate', path, LARGEST_CERTIFICATES, lambda octets: CertifiedKey.load(key, octets)
        )
        try:
            self._check_own(own)
        except CertificateError as error:
            raise DirectiveError('certificate', f'{path}: {error}') from None
        return own

    def _check_own(self, own: CertifiedKey) -> None:
        """Check for faults that every peer would refuse. Raises CertificateError."""
        leaf = own.chain[0]
        for certificate in own.chain:
            check_validity(certificate, self.at)
        if not leaf.may_authenticate:
            raise CertificateError(f'the key usage of {leaf.name} does not allow IKE')
        if not leaf.names(self.local_id):
            raise CertificateError(
                f'it is for {leaf.described()}, not for the local-id {self.local_id}: '
                f'take a local-id that it is for'
            )

    def _peers(self) -> PeerCredential:
        if 'peer-fingerprint' in self.said:
            pinned: PeerCredential = self.said['peer-fingerprint']
            return pinned
        if 'peer-key' in self.said:
            path = self.said['peer-key']
            return self._public('peer-key', path, LARGEST_PUBLIC_KEY, PublicKey.load)
        if not certifiable(self.peer_id):
            raise DirectiveError(
                'trust-anchor',
                f'a peer-id like {self.peer_id} is in no certificate',
                'a peer-id of type ip, fqdn, user-fqdn or dn',
            )
        anchors = self._each('trust-anchor', LARGEST_CERTIFICATES, _read_anchors)
        lists = self._each('crl', LARGEST_CRL, _read_crls)
        if all(self.at > anchor.not_after for anchor in anchors):
            try:
                check_validity(anchors[0], self.at)
            except CertificateError as error:
                raise DirectiveError('trust-anchor', str(error)) from None
        return TrustAnchors(anchors, lists, self.said.get('crl-required') == 'true')

    # --- files --------------------------------------------------------------------------------

    def _private(self, directive: str, read: Callable[[Secret], _Read]) -> _Read:
        path = self.said[directive]
        try:
            content = self.files.secret(directive, path)
        except KeyFileError as error:
            raise DirectiveError(directive, str(error), _PRIVATE) from None
        try:
            return read(content)
        except CredentialError as error:
            raise DirectiveError(directive, f'{path}: {error}') from None

    def _public(
        self, directive: str, path: str, largest: int, read: Callable[[bytes], _Read]
    ) -> _Read:
        try:
            return read(self.files.public(directive, path, largest))
        except KeyFileError as error:
            raise DirectiveError(directive, str(error)) from None
        except (CredentialError, CertificateError) as error:
            raise DirectiveError(directive, f'{path}: {error}') from None

    def _each(
        self, directive: str, largest: int, read: Callable[[bytes], Sequence[_Read]]
    ) -> tuple[_Read, ...]:
        paths = self.said.get(directive, ())
        found = [self._public(directive, path, largest, read) for path in paths]
        return tuple(one for several in found for one in several)

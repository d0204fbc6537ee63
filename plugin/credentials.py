"""From the credential directives of a section to the PAD's credentials: the key files are read.

One credential per section: a pre-shared key, or our private key with the peer's public key
(a file, or its fingerprint).
"""

from __future__ import annotations

from pathlib import Path

from ikev2.auth import LocalCredential, PeerCredential, PresharedKey, PrivateKey, PublicKey
from ikev2.errors import CredentialError
from ikev2.signatures import Fingerprint
from keymaterial import KeyFileError, Secret
from plugin.draft import Directive, Draft
from plugin.keyfiles import KeyFiles
from plugin.places import SectionError

_RAW = ('private-key', 'peer-key', 'peer-fingerprint')
_EXPECTED = 'psk-file, or private-key with peer-key or peer-fingerprint'


def credentials(draft: Draft, files: KeyFiles) -> tuple[LocalCredential, PeerCredential]:
    """How we prove ourselves and how the peer must. Raises SectionError."""
    directives = draft.directives
    given = [name for name in _RAW if name in directives]
    psk = directives.get('psk-file')
    if psk is not None:
        if given:
            extra = directives[given[0]]
            raise SectionError(
                extra.place,
                f'ikev2 {given[0]}',
                f'a second credential, psk-file is on line {psk.place.line}',
                _EXPECTED,
            )
        shared = PresharedKey(_secret('psk-file', psk, files))
        return shared, shared
    if not given:
        raise SectionError(draft.place, 'ikev2', 'incomplete, the credential is missing', _EXPECTED)
    if 'private-key' not in directives:
        raise SectionError(draft.place, 'ikev2', 'incomplete, private-key is missing', _EXPECTED)
    return _private(directives['private-key'], files), _peer(draft, files)


def _private(directive: Directive, files: KeyFiles) -> PrivateKey:
    pem = _secret('private-key', directive, files)
    try:
        return PrivateKey.load(pem)
    except CredentialError as error:
        raise SectionError(
            directive.place, 'ikev2 private-key', f'{directive.value}: {error}'
        ) from None


def _peer(draft: Draft, files: KeyFiles) -> PublicKey | Fingerprint:
    file, pinned = (draft.directives.get(name) for name in ('peer-key', 'peer-fingerprint'))
    if file is not None and pinned is not None:
        raise SectionError(
            pinned.place,
            'ikev2 peer-fingerprint',
            f"peer-key on line {file.place.line} says already which key is the peer's",
            'peer-key or peer-fingerprint',
        )
    if pinned is not None:
        assert isinstance(pinned.value, Fingerprint)
        return pinned.value
    if file is None:
        raise SectionError(
            draft.place, 'ikev2', 'incomplete, peer-key or peer-fingerprint is missing', _EXPECTED
        )
    try:
        return PublicKey.load(files.public(_path('peer-key', file)))
    except (KeyFileError, CredentialError) as error:
        raise SectionError(file.place, 'ikev2 peer-key', f'{file.value}: {error}') from None


def _secret(name: str, directive: Directive, files: KeyFiles) -> Secret:
    try:
        return files.secret(_path(name, directive))
    except KeyFileError as error:
        raise SectionError(
            directive.place, f'ikev2 {name}', str(error), 'a private file, mode 0600'
        ) from None


def _path(name: str, directive: Directive) -> Path:
    """Relative paths start where the configuration file is: ExaBGP itself has gone to /."""
    path = Path(str(directive.value))
    if path.is_absolute():
        return path
    if not directive.place.file:
        raise SectionError(
            directive.place,
            f'ikev2 {name}',
            f'{path} is relative, but the configuration is no file',
            'an absolute path',
        )
    return Path(directive.place.file).parent / path

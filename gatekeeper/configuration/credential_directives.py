"""From the credential directives of a section to the PAD's credentials: the files are read.

`gatekeeper.configuration.credentials` decides which directives go together, and what is wrong with
a key or a certificate; this module knows where a file is, and on which line it is named.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from gatekeeper.configuration.credentials import Credentials, DirectiveError, load
from gatekeeper.configuration.directive_table import Role, of_role
from gatekeeper.configuration.key_files import KeyFiles
from gatekeeper.configuration.location import ConfigurationError
from gatekeeper.configuration.statements import SectionStatements, Statement
from ikev2.authentication.identity import Identity
from keymaterial import Secret


def credentials(
    draft: SectionStatements, files: KeyFiles, local_id: Identity, peer_id: Identity
) -> Credentials:
    """Return our credential and the peer's. Raises ConfigurationError."""
    directives = draft.directives
    named = of_role(Role.CREDENTIAL)
    said = {name: entry.value for name, entry in directives.items() if name in named}
    try:
        return load(said, _Files(draft, files), local_id=local_id, peer_id=peer_id, at=time.time())
    except DirectiveError as fault:
        place, label, cause = draft.place, 'ikev2', fault.cause
        if fault.directive is not None:
            place, label = directives[fault.directive].place, f'ikev2 {fault.directive}'
        if fault.beside is not None:
            cause += f', {fault.beside} is on line {directives[fault.beside].place.line}'
        raise ConfigurationError(place, label, cause, fault.expected) from None


@dataclass(frozen=True, slots=True)
class _Files:
    draft: SectionStatements
    files: KeyFiles

    def secret(self, directive: str, path: str) -> Secret:
        return self.files.secret(self._path(directive, path))

    def public(self, directive: str, path: str, largest: int) -> bytes:
        return self.files.public(self._path(directive, path), largest)

    def _path(self, directive: str, path: str) -> Path:
        return absolute(f'ikev2 {directive}', path, self.draft.directives[directive])


def absolute(label: str, path: str, directive: Statement) -> Path:
    """Return the absolute path; relative ones begin at the configuration file's folder.

    The daemon itself has changed its directory to /. Raises ConfigurationError.
    """
    if Path(path).is_absolute():
        return Path(path)
    if not directive.place.file:
        raise ConfigurationError(
            directive.place,
            label,
            f'{path} is relative, but the configuration is no file',
            'an absolute path',
        )
    return Path(directive.place.file).parent / path

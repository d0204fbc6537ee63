"""Key files named in the configuration, read while it is parsed, and kept for later reloads.

The daemon drops its privileges after the first load, so on a reload a private file usually can't be
read any more. Then the earlier content is kept for a file that is the same (device, inode, size,
time of modification) or that can't be examined (its folder is closed to us); a file that has
changed, or is missing, is an error, and the reload changes nothing. A readable file is read: a file
of the user that the daemon becomes can be read at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from keymaterial import KeyFileError, Secret, read_public_file, read_secret_file

_Signature = tuple[int, int, int, int]


@dataclass(slots=True)
class KeyFiles:
    """The contents of all files that were read."""

    daemon_user: Callable[[], int | None] = lambda: None
    """The user (uid) to whom the privileges are dropped; a private file may be that user's."""
    _known: dict[Path, tuple[_Signature, Secret]] = field(default_factory=dict)

    def secret(self, path: Path) -> Secret:
        """Return a private file's content. Raises KeyFileError."""
        signature = _signature(path)
        kept = self._kept(path, signature)
        if kept is not None:
            return kept
        user = self.daemon_user()
        try:
            secret = read_secret_file(path, owners=() if user is None else (user,))
        except KeyFileError as error:
            if signature is None or os.geteuid() != user or _is_readable(path):
                raise
            raise KeyFileError(
                f'{error} for user {user}, to which the privileges were dropped: give the file to '
                f'that user (chown), or restart the daemon'
            ) from None
        if signature is not None:
            self._known[path] = (signature, secret)
        return secret

    def public(self, path: Path, largest: int) -> bytes:
        """Return a file that may be readable by all, of `largest` octets at most.

        Raises KeyFileError.
        """
        signature = _signature(path)
        kept = self._kept(path, signature)
        if kept is not None:
            return kept.reveal()
        octets = read_public_file(path, largest)
        if signature is not None:
            self._known[path] = (signature, Secret(octets))
        return octets

    def _kept(self, path: Path, signature: _Signature | None) -> Secret | None:
        """Return the earlier content, if the file is unreadable now and not known to have
        changed.
        """
        known = self._known.get(path)
        if known is None or _is_readable(path):
            return None
        if signature is None and not _hidden(path):
            return None
        if signature is not None and signature != known[0]:
            raise KeyFileError(
                f'key file {path} has changed and cannot be read by user {os.geteuid()}, to which '
                f'the privileges were dropped: give it to that user (chown), or restart the daemon'
            )
        return known[1]


def _is_readable(path: Path) -> bool:
    return os.access(path, os.R_OK, effective_ids=True)


def _signature(path: Path) -> _Signature | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _hidden(path: Path) -> bool:
    """Return True if a folder on the way forbids us to look."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except OSError:
        return False
    return False

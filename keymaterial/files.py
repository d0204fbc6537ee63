"""Reading files that hold secrets: private (0600) or refused, with the reason.

Not a key parser: what the octets mean is the caller's business.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from keymaterial.secret import Secret

# A PSK or a PEM private key is far smaller; a wrong path (a log, a device) is caught early.
LARGEST_FILE = 64 * 1024


class KeyFileError(Exception):
    """A key file can't be used; the message says which, why, and what to do."""


def read_secret_file(path: str | Path, *, largest: int = LARGEST_FILE) -> Secret:
    """Read a private file whole, without one final newline.

    Raises KeyFileError when it can't be read, isn't a regular file, is readable by others than
    its owner, belongs to somebody else, is empty or is larger than `largest` octets.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not hang the daemon; a regular file ignores it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(f'cannot read key file {path}: {error.strerror}') from None
    with os.fdopen(descriptor, 'rb') as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f'key file {path} is not a regular file')
        if status.st_uid not in (0, os.geteuid()):
            raise KeyFileError(
                f'key file {path} belongs to user {status.st_uid}, neither root nor the user '
                f'that reads it ({os.geteuid()}): chown it'
            )
        if status.st_mode & 0o077:
            raise KeyFileError(
                f'key file {path} has mode {stat.S_IMODE(status.st_mode):04o}: others may read '
                f'it; make it private with chmod 0600'
            )
        octets = bytearray(file.read(largest + 1))
    if len(octets) > largest:
        raise KeyFileError(f'key file {path} is larger than {largest} octets')
    # A secret file's final newline, as editors write it, isn't part of the secret.
    if octets.endswith(b'\r\n'):
        del octets[-2:]
    elif octets.endswith(b'\n'):
        del octets[-1:]
    if not octets:
        raise KeyFileError(f'key file {path} is empty')
    secret = Secret(octets)
    octets[:] = bytes(len(octets))
    return secret

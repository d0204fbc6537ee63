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
    try:
        status = os.fstat(descriptor)
        _refuse_unless_private(path, status)
        # Straight into what can be wiped; one octet more shows that there is more.
        octets = bytearray(min(status.st_size, largest) + 1)
        with open(descriptor, 'rb', buffering=0, closefd=False) as file:
            length = file.readinto(octets)
    except OSError as error:
        raise KeyFileError(f'cannot read key file {path}: {error.strerror}') from None
    finally:
        os.close(descriptor)
    try:
        if length > largest:
            raise KeyFileError(f'key file {path} is larger than {largest} octets')
        return _secret_of(path, octets, length)
    finally:
        octets[:] = bytes(len(octets))


def _refuse_unless_private(path: str | Path, status: os.stat_result) -> None:
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


def _secret_of(path: str | Path, octets: bytearray, length: int) -> Secret:
    # A secret file's final newline, as editors write it, isn't part of the secret.
    if octets.endswith(b'\r\n', 0, length):
        length -= 2
    elif octets.endswith(b'\n', 0, length):
        length -= 1
    if not length:
        raise KeyFileError(f'key file {path} is empty')
    return Secret(memoryview(octets)[:length])

"""Reading and creation of private key files (mode 0600).

Not a key parser: the caller decides what the octets mean.
"""

from __future__ import annotations

import errno
import os
import stat
from codecs import BOM_UTF8
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from keymaterial.pem import public_content
from keymaterial.secret import Secret

# A PSK or a PEM private key is far smaller; a wrong path (a log, a device) is caught early.
LARGEST_FILE = 64 * 1024
_PEM_HEAD = 256


class KeyFileError(Exception):
    """A key file cannot be used; the message names the file, the reason and what to do."""


def read_secret_file(
    path: str | Path, *, largest: int = LARGEST_FILE, owners: Collection[int] | None = ()
) -> Secret:
    """Read a private file whole, without one final newline.

    `owners` are the users (uid) who may own the file besides root and the user who reads; None
    means that any user may own it. Raises KeyFileError

    - if the file cannot be read, is not a regular file, or is larger than `largest` octets;
    - if it belongs to another user, or others than its owner may read it;
    - if it is empty, holds a public key or a certificate, or begins with a byte order mark.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not hang the daemon; a regular file ignores it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(f'cannot read key file {path}: {error.strerror}') from None
    try:
        status = os.fstat(descriptor)
        _refuse_unless_private(path, descriptor, status, owners)
        # Read into a buffer that can be wiped; one octet more shows that the file is larger.
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


def read_public_file(path: str | Path, largest: int) -> bytes:
    """Read a file that others may read, of 1 to `largest` octets.

    Raises KeyFileError if the file cannot be read, is empty or is larger than `largest` octets.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, 'rb') as file:
            octets = file.read(largest + 1)
    except OSError as error:
        raise KeyFileError(f'cannot read {path}: {error.strerror}') from None
    if not octets or len(octets) > largest:
        raise KeyFileError(f'{path} is empty or larger than {largest} octets')
    return octets


def create_private_file(path: str | Path, *, replace: bool = False) -> int:
    """Create a new file with mode 0600, whatever the umask, and return its descriptor for writing.

    The file is always a new one and no link is followed: the owner of an older file, or a process
    that has it open, could read the secret. With `replace`, a regular file at `path` is removed
    first. Raises FileExistsError if something is there and stays, else OSError.
    """
    if replace:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise FileExistsError(
                    errno.EEXIST, 'what is there is not a regular file', str(path)
                )
            os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def _refuse_unless_private(
    path: str | Path, descriptor: int, status: os.stat_result, owners: Collection[int] | None
) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f'key file {path} is not a regular file')
    # Before the mode: advice about the mode would mislead where the file is the wrong one.
    public = public_content(os.pread(descriptor, _PEM_HEAD, 0))
    if public:
        raise KeyFileError(f'{path} holds {public}, not a secret: name another file')
    if owners is not None and status.st_uid not in (0, os.geteuid(), *owners):
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
    if octets.startswith(BOM_UTF8) and all(
        octet < 0x80 for octet in memoryview(octets)[len(BOM_UTF8) : length]
    ):
        # Only in a text: the peer's copy, saved by another editor, would be another key.
        raise KeyFileError(
            f'key file {path} begins with a byte order mark (BOM), which would be part of the '
            f'key: save it without'
        )
    return Secret(memoryview(octets)[:length])

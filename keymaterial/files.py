"""Files that hold secrets: read if they are private (0600), else refused with the reason; made so.

Not a key parser: what the octets mean is the caller's business.
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
    """A key file can't be used; the message says which, why, and what to do."""


def read_secret_file(
    path: str | Path, *, largest: int = LARGEST_FILE, owners: Collection[int] | None = ()
) -> Secret:
    """Read a private file whole, without one final newline.

    `owners` are users (uid) who may own it besides root and who reads it; None: anybody. Raises
    KeyFileError when it can't be read, isn't a regular file, holds what is no secret (a public key,
    a certificate), is readable by others than its owner, belongs to somebody else, is empty, is a
    text with a byte order mark, or is larger than `largest` octets.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not hang the daemon; a regular file ignores it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(f'cannot read key file {path}: {error.strerror}') from None
    try:
        status = os.fstat(descriptor)
        _refuse_unless_private(path, descriptor, status, owners)
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


def read_public_file(path: str | Path, largest: int) -> bytes:
    """Read a file that others may read, of 1 to `largest` octets. Raises KeyFileError."""
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
    """A descriptor for writing to a new file with mode 0600, whatever the umask.

    The file is always made anew and no link is followed. An older one may be anybody's: its owner
    could read what comes, and so could those who have it open. With `replace` it goes first, if it
    is a regular file. Raises OSError; FileExistsError for what is there and stays.
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
    # A mode is no help where the file is the wrong one.
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
        # Of a text: the peer's copy, made by another editor, would be another key.
        raise KeyFileError(
            f'key file {path} begins with a byte order mark (BOM), which would be part of the '
            f'key: save it without'
        )
    return Secret(memoryview(octets)[:length])

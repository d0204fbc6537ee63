"""Key files on a reload, when the privileges that could read them are gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gatekeeper.configuration.key_files import KeyFiles
from keymaterial import KeyFileError

NOBODY = 65534
LARGEST = 1000


@contextmanager
def without_privileges() -> Iterator[None]:
    """Drop privileges, as ExaBGP does after its start. Without root, files are closed to their
    owner instead."""
    if os.geteuid() != 0:
        pytest.fail('needs root')
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in (tmp_path, *tmp_path.parents):
        if part.stat().st_uid == os.geteuid() and part != Path('/tmp'):
            part.chmod(0o755)
    return tmp_path


def a_key(path: Path, content: bytes = b'secret') -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_readable_file_is_read_each_time(folder: Path) -> None:
    files, path = KeyFiles(), a_key(folder / 'psk')
    assert files.secret(path).reveal() == b'secret'
    a_key(path, b'another')
    assert files.secret(path).reveal() == b'another'


def test_unchanged_file_keeps_what_was_read(folder: Path) -> None:
    files, path = KeyFiles(), a_key(folder / 'psk')
    files.secret(path)
    with without_privileges():
        assert files.secret(path).reveal() == b'secret'


def test_changed_file_is_an_error_when_it_cannot_be_read(folder: Path) -> None:
    files, path = KeyFiles(), a_key(folder / 'psk')
    files.secret(path)
    a_key(path, b'quite another secret')
    with without_privileges(), pytest.raises(KeyFileError, match='has changed and cannot be read'):
        files.secret(path)


def test_replaced_file_counts_as_changed_at_equal_size_and_time(folder: Path) -> None:
    files, path = KeyFiles(), a_key(folder / 'psk')
    files.secret(path)
    stamp = path.stat()
    fresh = a_key(folder / 'new', b'sEcrEt')
    os.utime(fresh, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    fresh.rename(path)
    with without_privileges(), pytest.raises(KeyFileError, match='has changed'):
        files.secret(path)


def test_missing_file_is_an_error(folder: Path) -> None:
    files, path = KeyFiles(), a_key(folder / 'psk')
    files.secret(path)
    path.unlink()
    with pytest.raises(KeyFileError, match='No such file'):
        files.secret(path)
    with without_privileges(), pytest.raises(KeyFileError, match='No such file'):
        files.secret(path)


def test_file_keeps_what_was_read_when_its_folder_is_closed(folder: Path) -> None:
    private = folder / 'keys'
    private.mkdir(mode=0o700)
    files, path = KeyFiles(), a_key(private / 'psk')
    files.secret(path)
    with without_privileges():
        assert files.secret(path).reveal() == b'secret'


def test_unreadable_file_is_an_error_when_never_read_before(folder: Path) -> None:
    path = a_key(folder / 'psk')
    with without_privileges(), pytest.raises(KeyFileError, match='cannot read'):
        KeyFiles().secret(path)


def test_new_file_is_read_when_the_daemons_user_owns_it(folder: Path) -> None:
    """So a keychain can get a key by a reload; and a restart, as root, reads it too."""
    files, path = KeyFiles(lambda: NOBODY), a_key(folder / 'psk')
    with without_privileges(), pytest.raises(KeyFileError, match=r'Permission denied.*\(chown\)'):
        files.secret(path)
    os.chown(path, NOBODY, -1)
    with without_privileges():
        assert files.secret(path).reveal() == b'secret'
    assert KeyFiles(lambda: NOBODY).secret(path).reveal() == b'secret'
    with pytest.raises(KeyFileError, match='belongs to user'):
        KeyFiles(lambda: 12345).secret(path)


def test_public_key_may_be_readable_by_all(folder: Path) -> None:
    path = a_key(folder / 'pub', b'key\n')
    path.chmod(0o644)
    assert KeyFiles().public(path, LARGEST) == b'key\n'


@pytest.mark.parametrize('content', [b'', b'x' * (LARGEST + 1)])
def test_public_key_is_an_error_when_empty_or_huge(folder: Path, content: bytes) -> None:
    with pytest.raises(KeyFileError, match='empty or larger'):
        KeyFiles().public(a_key(folder / 'pub', content), LARGEST)


def test_public_key_keeps_what_was_read(folder: Path) -> None:
    files, path = KeyFiles(), a_key(folder / 'pub')
    files.public(path, LARGEST)
    with without_privileges():
        assert files.public(path, LARGEST) == b'secret'

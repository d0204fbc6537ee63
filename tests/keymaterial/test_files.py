"""Secret files: private or refused, and the reason is told."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from keymaterial import KeyFileError, create_private_file, read_secret_file
from keymaterial.files import LARGEST_FILE
from tests.descriptors import descriptors

OCTETS = b'a pre-shared key'


def written(tmp_path: Path, octets: bytes = OCTETS, mode: int = 0o600) -> Path:
    path = tmp_path / 'key'
    path.write_bytes(octets)
    path.chmod(mode)
    return path


@pytest.mark.parametrize('mode', [0o600, 0o400, 0o700])
def test_read_secret_file_returns_secret_when_private(tmp_path: Path, mode: int) -> None:
    assert read_secret_file(written(tmp_path, mode=mode)).reveal() == OCTETS


@pytest.mark.parametrize('as_type', [str, Path])
def test_read_secret_file_accepts_both_path_types(tmp_path: Path, as_type: type) -> None:
    assert read_secret_file(as_type(written(tmp_path))).reveal() == OCTETS


@pytest.mark.parametrize(
    ('octets', 'secret'),
    [
        (b'key\n', b'key'),
        (b'key\r\n', b'key'),
        (b'key\n\n', b'key\n'),
        (b'key\r', b'key\r'),
        (b' key \n', b' key '),
        (b'\x00\xff\n\x00', b'\x00\xff\n\x00'),
    ],
)
def test_read_secret_file_drops_one_final_newline(
    tmp_path: Path, octets: bytes, secret: bytes
) -> None:
    assert read_secret_file(written(tmp_path, octets)).reveal() == secret


@pytest.mark.parametrize('mode', [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666])
def test_read_secret_file_refuses_when_others_may_use_it(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, mode=mode)
    with pytest.raises(KeyFileError, match=f'{path} has mode {mode:04o}.*chmod 0600') as caught:
        read_secret_file(path)
    assert OCTETS.decode() not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason='giving a file away takes root')
def test_read_secret_file_refuses_when_owner_is_another_user(tmp_path: Path) -> None:
    path = written(tmp_path)
    os.chown(path, 12345, -1)
    with pytest.raises(KeyFileError, match=r'belongs to user 12345.*chown'):
        read_secret_file(path)


@pytest.mark.skipif(os.geteuid() != 0, reason='giving a file away takes root')
def test_read_secret_file_accepts_named_owner_when_private(tmp_path: Path) -> None:
    path = written(tmp_path)
    os.chown(path, 12345, -1)
    assert read_secret_file(path, owners=(12345,)).reveal() == OCTETS
    assert read_secret_file(path, owners=None).reveal() == OCTETS
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match='chmod 0600'):
        read_secret_file(path, owners=(12345,))


@pytest.mark.parametrize('octets', [b'', b'\n', b'\r\n'])
def test_read_secret_file_refuses_when_empty(tmp_path: Path, octets: bytes) -> None:
    with pytest.raises(KeyFileError, match='is empty'):
        read_secret_file(written(tmp_path, octets))


def test_read_secret_file_refuses_when_missing(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match='No such file'):
        read_secret_file(tmp_path / 'nothing')


def test_read_secret_file_refuses_when_too_large(tmp_path: Path) -> None:
    assert len(read_secret_file(written(tmp_path, b'k' * LARGEST_FILE))) == LARGEST_FILE
    with pytest.raises(KeyFileError, match='larger than 65536 octets'):
        read_secret_file(written(tmp_path, b'k' * (LARGEST_FILE + 1)))


def test_read_secret_file_accepts_larger_when_caller_allows(tmp_path: Path) -> None:
    path = written(tmp_path, b'k' * (LARGEST_FILE + 1))
    assert len(read_secret_file(path, largest=LARGEST_FILE + 1)) == LARGEST_FILE + 1


def test_read_secret_file_refuses_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(KeyFileError, match='not a regular file'):
        read_secret_file(tmp_path)


def test_read_secret_file_refuses_fifo_without_hanging(tmp_path: Path) -> None:
    path = tmp_path / 'fifo'
    os.mkfifo(path, 0o600)
    with pytest.raises(KeyFileError, match='not a regular file'):
        read_secret_file(path)


def test_read_secret_file_refuses_socket(tmp_path: Path) -> None:
    path = tmp_path / 's'
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        with pytest.raises(KeyFileError, match='cannot read key file'):
            read_secret_file(path)


def test_read_secret_file_judges_target_when_symbolic_link(tmp_path: Path) -> None:
    target = written(tmp_path, mode=0o644)
    link = tmp_path / 'link'
    link.symlink_to(target)
    with pytest.raises(KeyFileError, match='has mode 0644'):
        read_secret_file(link)
    target.chmod(0o600)
    assert read_secret_file(link).reveal() == OCTETS


def test_read_secret_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = descriptors()
    read_secret_file(written(tmp_path))
    with pytest.raises(KeyFileError):
        read_secret_file(written(tmp_path, mode=0o644))
    with pytest.raises(KeyFileError):
        read_secret_file(tmp_path)
    assert descriptors() == before


def test_create_private_file_sets_mode_when_umask_is_any(tmp_path: Path) -> None:
    before = os.umask(0o277)
    try:
        descriptor = create_private_file(tmp_path / 'key')
    finally:
        os.umask(before)
    os.close(descriptor)
    assert (tmp_path / 'key').stat().st_mode & 0o7777 == 0o600


def test_create_private_file_keeps_existing_unless_replacing(tmp_path: Path) -> None:
    path = written(tmp_path, mode=0o644)
    with path.open('rb') as reader:
        with pytest.raises(FileExistsError):
            create_private_file(path)
        assert path.read_bytes() == OCTETS
        descriptor = create_private_file(path, replace=True)
        os.write(descriptor, b'new')
        os.close(descriptor)
        # Who has the older one open doesn't see what comes.
        assert reader.read() == OCTETS
    assert path.read_bytes() == b'new'
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize('replace', [False, True])
@pytest.mark.parametrize('dangling', [False, True])
def test_create_private_file_follows_no_link(replace: bool, dangling: bool, tmp_path: Path) -> None:
    target = tmp_path / 'target'
    if not dangling:
        target.write_bytes(OCTETS)
    (tmp_path / 'link').symlink_to(target)
    with pytest.raises(FileExistsError):
        create_private_file(tmp_path / 'link', replace=replace)
    assert target.exists() == (not dangling)
    assert dangling or target.read_bytes() == OCTETS


@pytest.mark.parametrize('mode', [0o644, 0o600])
@pytest.mark.parametrize(
    ('label', 'what'),
    [
        ('PUBLIC KEY', 'a public key'),
        ('CERTIFICATE', 'a certificate'),
        ('X509 CRL', 'a CRL'),
        ('CERTIFICATE REQUEST', 'a certificate request'),
    ],
)
def test_read_secret_file_names_public_content_before_mode(
    label: str, what: str, mode: int, tmp_path: Path
) -> None:
    """To make a public key private mends nothing."""
    path = written(tmp_path, mode=mode)
    path.write_text(f'-----BEGIN {label}-----\nMCow\n-----END {label}-----\n')
    with pytest.raises(KeyFileError, match=f'holds {what}, not a secret: name another file'):
        read_secret_file(path)


def test_read_secret_file_accepts_private_key_in_pem(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text('-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n')
    assert read_secret_file(path)


def test_read_secret_file_refuses_text_with_byte_order_mark(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r'begins with a byte order mark \(BOM\)'):
        read_secret_file(written(tmp_path, b'\xef\xbb\xbf0123456789abcdef\n'))
    octets = b'\xef\xbb\xbf\xf0 is a random key'
    assert read_secret_file(written(tmp_path, octets)).reveal() == octets

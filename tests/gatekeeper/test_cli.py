"""The `gatekeeper` command."""

from __future__ import annotations

import stat
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from gatekeeper.cli import main
from keymaterial import read_secret_file
from tests.ikev2.pki import root


def test_keygen_makes_a_private_file_that_nobody_else_may_read(tmp_path: Path) -> None:
    path = tmp_path / 'r1.pem'
    assert main(['keygen', 'ed25519', str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read_secret_file(path)


def test_a_fingerprint_is_sha256_over_the_der_public_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'r1.pem'
    main(['keygen', 'ed25519', str(path)])
    capsys.readouterr()
    spki = load_pem_public_key(path.with_suffix('.pub').read_bytes()).public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    for file in (path, path.with_suffix('.pub')):
        assert main(['fingerprint', str(file)]) == 0
        assert capsys.readouterr().out == f'sha256:{sha256(spki).hexdigest()}\n'


def test_the_fingerprint_of_a_certificate_is_that_of_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = root()
    path = tmp_path / 'ca.crt'
    path.write_bytes(b'a comment\n' + holder.pem)
    assert main(['fingerprint', str(path)]) == 0
    assert capsys.readouterr().out == f'sha256:{sha256(holder.certificate.spki).hexdigest()}\n'
    path.write_bytes(holder.pem.replace(b'A', b'B'))
    assert main(['fingerprint', str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_a_psk_has_256_bits_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / 'psk'
    assert main(['keygen', 'psk', str(path)]) == 0
    assert len(bytes.fromhex(read_secret_file(path).reveal().decode())) == 32


@pytest.mark.parametrize('kind', ['psk', 'ed25519'])
def test_a_key_is_never_overwritten(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'key.pem'
    path.write_bytes(b'precious')
    assert main(['keygen', kind, str(path)]) == 2
    assert 'never overwritten' in capsys.readouterr().err
    assert path.read_bytes() == b'precious'


def test_no_secret_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / 'psk'
    main(['keygen', 'psk', str(path)])
    assert path.read_text().strip() not in capsys.readouterr().out


def test_what_is_no_key_has_no_fingerprint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'x'
    path.write_bytes(b'nothing')
    assert main(['fingerprint', str(path)]) == 2
    assert str(path) in capsys.readouterr().err

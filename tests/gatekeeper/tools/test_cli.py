"""The `gatekeeper` command."""

from __future__ import annotations

import os
import secrets
import stat
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from gatekeeper.tools import keygen
from gatekeeper.tools.cli import main
from gatekeeper.tools.keygen import KEY_KINDS
from ikev2.authentication.auth import PresharedKey
from ikev2.authentication.signatures.keys import PrivateKey, PublicKey
from ikev2.authentication.signatures.schemes import SUPPORTED_HASHES
from ikev2.crypto.entropy import check_ppk
from keymaterial import read_secret_file
from tests.ikev2.pki import root


def test_keygen_makes_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / 'r1.pem'
    assert main(['keygen', 'ed25519', str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read_secret_file(path)


def test_fingerprint_is_sha256_over_the_der_public_key(
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


def test_fingerprint_of_a_certificate_is_that_of_its_key(
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


def test_psk_has_256_bits_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / 'psk'
    assert main(['keygen', 'psk', str(path)]) == 0
    assert len(bytes.fromhex(read_secret_file(path).reveal().decode())) == 32


@pytest.mark.parametrize('kind', KEY_KINDS)
def test_each_kind_of_key_pair_serves_ike_and_fits_together(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'r1.pem'
    assert main(['keygen', kind, str(path)]) == 0
    private = PrivateKey.load(read_secret_file(path))
    public = PublicKey.load(path.with_suffix('.pub').read_bytes())
    assert private.public_key == public
    assert str(public.fingerprint) in capsys.readouterr().out
    auth = private.sign(b'octets', SUPPORTED_HASHES)
    public.verify(auth[0], auth[1], b'octets')


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    path = tmp_path / 'r1.pem'
    before = os.umask(0o777)
    try:
        assert main(['keygen', 'ed25519', str(path)]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_suffix('.pub').stat().st_mode) == 0o644


def test_key_pair_is_made_whole_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'r1.pem'
    path.with_suffix('.pub').write_bytes(b'precious')
    assert main(['keygen', 'ed25519', str(path)]) == 2
    assert f'{path.with_suffix(".pub")} exists' in capsys.readouterr().err
    assert not path.exists()
    assert path.with_suffix('.pub').read_bytes() == b'precious'


@pytest.mark.parametrize('name', ['r1.pub', '..', 'none/r1.pem'])
def test_unwritable_place_of_a_key_pair_is_told(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['keygen', 'ed25519', str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.startswith('gatekeeper keygen: ')
    assert not list(tmp_path.iterdir())


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / 'link').symlink_to(tmp_path / 'elsewhere')
    assert main(['keygen', 'psk', str(tmp_path / 'link')]) == 2
    assert not (tmp_path / 'elsewhere').exists()


def test_generated_psk_is_above_the_floor(tmp_path: Path) -> None:
    path = tmp_path / 'psk'
    main(['keygen', 'psk', str(path)])
    check_ppk(PresharedKey.load(read_secret_file(path)).secret)


def test_generated_psk_is_replaced_when_it_looks_regular(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = iter(['0123456789abcdef' * 4, 'a' * 64, bytes(range(100, 132)).hex()])
    good = '8f2c1d7e90ab43655d1f77c20e9b84aa13c6f0d2b5e871934ca60f2d9e57b813'
    monkeypatch.setattr(secrets, 'token_hex', lambda length: next(keys, good))
    assert main(['keygen', 'psk', str(tmp_path / 'psk')]) == 0
    check_ppk(read_secret_file(tmp_path / 'psk'))


def test_public_keys_may_be_in_der(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holder = root()
    for octets in (holder.certificate.spki, holder.certificate.der):
        path = tmp_path / 'der'
        path.write_bytes(octets)
        assert main(['fingerprint', str(path)]) == 0
        fingerprint = f'sha256:{sha256(holder.certificate.spki).hexdigest()}'
        assert capsys.readouterr().out.strip() == fingerprint


def test_fingerprint_is_refused_when_the_input_never_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(['fingerprint', '/dev/zero']) == 2
    assert 'larger than' in capsys.readouterr().err


@pytest.mark.parametrize('kind', ['psk', 'ed25519'])
def test_existing_key_is_never_overwritten(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'key.pem'
    path.write_bytes(b'precious')
    assert main(['keygen', kind, str(path)]) == 2
    assert 'never overwritten' in capsys.readouterr().err
    assert path.read_bytes() == b'precious'


def test_secrets_are_never_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / 'psk'
    main(['keygen', 'psk', str(path)])
    assert path.read_text().strip() not in capsys.readouterr().out


def test_fingerprint_is_refused_when_the_input_is_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'x'
    path.write_bytes(b'nothing')
    assert main(['fingerprint', str(path)]) == 2
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize('kind', ['psk', 'ed25519'])
def test_full_disk_leaves_no_part_of_a_key(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path) -> int:
        path.touch()
        return os.open('/dev/full', os.O_WRONLY)

    monkeypatch.setattr(keygen, 'create_private_file', full)
    assert main(['keygen', kind, str(tmp_path / 'r1.pem')]) == 2
    assert f'cannot write {tmp_path / "r1.pem"}: No space left' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

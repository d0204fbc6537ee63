"""The throw-away keys of a lab."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from lab.keys import make_keys, stage

TWO_ROUTERS = Path(__file__).resolve().parents[2] / 'configs' / 'two-routers'


def test_each_router_has_the_others_public_key(tmp_path: Path) -> None:
    make_keys(tmp_path)
    for router, peer in (('r1', 'r2'), ('r2', 'r1')):
        private = load_pem_private_key((tmp_path / peer / 'private.pem').read_bytes(), None)
        public = load_pem_public_key((tmp_path / router / 'peer.pub').read_bytes())
        assert public == private.public_key()


def test_both_routers_have_one_psk(tmp_path: Path) -> None:
    make_keys(tmp_path)
    psk = (tmp_path / 'r1' / 'psk').read_bytes()
    assert psk == (tmp_path / 'r2' / 'psk').read_bytes()
    assert len(bytes.fromhex(psk.decode())) == 32


@pytest.mark.parametrize('secret', ['private.pem', 'psk', 'ppk', 'core-1', 'router.pem'])
def test_secrets_are_private(tmp_path: Path, secret: str) -> None:
    make_keys(tmp_path)
    assert stat.S_IMODE((tmp_path / 'r1' / secret).stat().st_mode) == 0o600


def test_keys_are_new_every_time(tmp_path: Path) -> None:
    make_keys(tmp_path)
    before = (tmp_path / 'r1' / 'private.pem').read_bytes()
    make_keys(tmp_path)
    assert (tmp_path / 'r1' / 'private.pem').read_bytes() != before


def test_staged_configuration_is_complete(tmp_path: Path) -> None:
    topology = stage(TWO_ROUTERS, tmp_path / 'copy')
    assert topology.read_bytes() == (TWO_ROUTERS / topology.name).read_bytes()
    assert (tmp_path / 'copy' / 'keys' / 'r2' / 'private.pem').exists()

"""Throw-away keys for a lab of two routers: `python -m lab.keys FOLDER`.

Not a key management tool: the keys are for one run on one machine. git doesn't keep the mode 0600
that key files must have, so none are in the tree.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from lab.certificates import make_certificates

PSK_OCTETS = 32
SHARED = ('psk', 'ppk', 'core-1', 'core-2')


def make_keys(folder: Path, routers: tuple[str, str] = ('r1', 'r2')) -> None:
    """Write FOLDER/ROUTER/{private.pem, peer.pub, psk, ppk, core-1, core-2} for a pair of routers.

    private.pem is an Ed25519 key (PKCS#8), peer.pub the other router's public key
    (SubjectPublicKeyInfo, RFC 8410); psk, ppk and the manual keys core-1 and core-2 are the same 32
    random octets each, in hex, for both. Certificates are written too (lab.certificates). Secrets
    get mode 0600. Existing files are replaced.
    """
    pairs = {router: Ed25519PrivateKey.generate() for router in routers}
    shared = {name: secrets.token_hex(PSK_OCTETS).encode() + b'\n' for name in SHARED}
    for router, peer in (routers, routers[::-1]):
        home = folder / router
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        private = pairs[router].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = (
            pairs[peer].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        _write_secret(home / 'private.pem', private)
        for name, secret in shared.items():
            _write_secret(home / name, secret)
        (home / 'peer.pub').write_bytes(public)
    for path, content in make_certificates(folder, routers).items():
        if path.suffix == '.pem':
            _write_secret(path, content)
        else:
            path.write_bytes(content)


def stage(configuration: Path, destination: Path) -> Path:
    """Copy a folder of configs/ and make keys in the copy; return its `*.clab.yml` file.

    For runs that must leave the tree as it is. destination must not exist.
    """
    shutil.copytree(configuration, destination, ignore=shutil.ignore_patterns('keys'))
    make_keys(destination / 'keys')
    (topology,) = destination.glob('*.clab.yml')
    return topology


def _write_secret(path: Path, octets: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, 'wb') as file:
        file.write(octets)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog='python -m lab.keys', description=__doc__)
    parser.add_argument('folder', type=Path)
    folder = parser.parse_args(arguments).folder
    make_keys(folder)
    print(f'throw-away keys for r1 and r2 in {folder}')


if __name__ == '__main__':
    main()

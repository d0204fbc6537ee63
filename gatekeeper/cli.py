"""`gatekeeper`: our own tools. What belongs to a running daemon is in the daemon's own CLI."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gatekeeper import probing, verifying
from gatekeeper.keygen import make_psk, make_raw_key
from gatekeeper.tool import ToolError
from ikev2.certificates import CertificateError
from ikev2.certificates import read_file as read_certificates
from ikev2.errors import CredentialError
from ikev2.signatures import PrivateKey, PublicKey
from keymaterial import KeyFileError, read_secret_file


def _keygen(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    try:
        if arguments.kind == 'psk':
            make_psk(path)
            print(f'{path}: pre-shared key, copy it to the peer by a safe way')
            return 0
        public = path.with_suffix('.pub')
        make_raw_key(path, public)
    except FileExistsError as error:
        raise ToolError(f'{error.filename} exists: keys are never overwritten') from None
    except OSError as error:
        raise ToolError(f'cannot write {error.filename}: {error.strerror}') from None
    print(f'{path}: Ed25519 private key, stays here')
    print(f'{public}: public key, give it to the peer')
    print(PublicKey.load(public.read_bytes()).fingerprint)
    return 0


def _fingerprint(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    try:
        octets = path.read_bytes()
        if b'PRIVATE KEY' in octets:
            key = PrivateKey.load(read_secret_file(path)).public_key
        elif b'BEGIN CERTIFICATE' in octets:
            key = PublicKey(read_certificates(octets)[0].spki)
        else:
            key = PublicKey.load(octets)
    except OSError as error:
        raise ToolError(f'cannot read {path}: {error.strerror}') from None
    except (CertificateError, CredentialError, KeyFileError) as error:
        raise ToolError(f'{path}: {error}') from None
    print(key.fingerprint)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog='gatekeeper', description='tools for IKEv2-negotiated TCP-AO keys'
    )
    verbs = top.add_subparsers(dest='verb', required=True)
    keygen = verbs.add_parser('keygen', help='make a credential for IKE (mode 0600)')
    keygen.add_argument('kind', choices=('ed25519', 'psk'))
    keygen.add_argument('file', type=Path, help='where; ed25519 also writes FILE with .pub')
    keygen.set_defaults(run=_keygen)
    fingerprint = verbs.add_parser(
        'fingerprint', help='SHA-256 over a SubjectPublicKeyInfo, as peer-fingerprint takes it'
    )
    fingerprint.add_argument(
        'file',
        type=Path,
        help='a public or private key or a certificate, PEM (a public key also DER)',
    )
    fingerprint.set_defaults(run=_fingerprint)
    probing.add_verb(verbs)
    verifying.add_verb(verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 if all is well, 1 if something that was looked at isn't, 2 if what was asked
    could not be done."""
    parsed = parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except ToolError as error:
        print(f'gatekeeper {parsed.verb}: {error}', file=sys.stderr)
        return 2

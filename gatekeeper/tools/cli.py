"""The command line of `gatekeeper`: our own tools.

Commands to a running daemon are in its own CLI.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gatekeeper.configuration.credentials import LARGEST_CERTIFICATES
from gatekeeper.tools import keytable
from gatekeeper.tools import verify as verifying
from gatekeeper.tools.doctor import command as doctor
from gatekeeper.tools.errors import ANY_OWNER, ToolError
from gatekeeper.tools.init import command as init
from gatekeeper.tools.keygen import KEY_KINDS, make_key_pair, make_psk
from gatekeeper.tools.probe import command as probing
from gatekeeper.tools.version import version
from ikev2.authentication.signatures.keys import PrivateKey, PublicKey
from ikev2.authentication.x509.certificates import CertificateError
from ikev2.authentication.x509.certificates import read_file as read_certificates
from ikev2.errors import CredentialError
from keymaterial import KeyFileError, read_public_file, read_secret_file

PSK = 'psk'


def _keygen(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    if not path.name:
        raise ToolError(f'{path} is no name of a file')
    public = path.with_suffix('.pub')
    try:
        if arguments.kind == PSK:
            make_psk(path)
            print(f'{path}: pre-shared key, copy it to the peer by a safe way')
            return 0
        if public == path:
            raise ToolError(f'{path} is where the public key would go: take another name')
        make_key_pair(arguments.kind, path, public)
    except FileExistsError as error:
        raise ToolError(f'{error.filename} exists: keys are never overwritten') from None
    except OSError as error:
        raise ToolError(f'cannot write {error.filename}: {error.strerror}') from None
    print(f'{path}: {arguments.kind} private key, stays here')
    print(f'{public}: public key, give it to the peer')
    print(PublicKey.load(public.read_bytes()).fingerprint)
    return 0


def _fingerprint(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    try:
        octets = read_public_file(path, LARGEST_CERTIFICATES)
        if b'PRIVATE KEY' in octets:
            key = PrivateKey.load(read_secret_file(path, owners=ANY_OWNER)).public_key
        else:
            key = _public_key(octets)
    except KeyFileError as error:
        raise ToolError(str(error)) from None
    except (CertificateError, CredentialError) as error:
        raise ToolError(f'{path}: {error}') from None
    print(key.fingerprint)
    return 0


def _public_key(octets: bytes) -> PublicKey:
    """Return a public key, or that of the first certificate.

    Raises CertificateError, CredentialError.
    """
    if b'BEGIN CERTIFICATE' in octets:
        return PublicKey(read_certificates(octets)[0].spki)
    try:
        return PublicKey.load(octets)
    except CredentialError as error:
        try:
            return PublicKey(read_certificates(octets)[0].spki)
        except CertificateError:
            raise error from None


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(
        prog='gatekeeper', description='tools for IKEv2-negotiated TCP-AO keys'
    )
    top.add_argument('--version', action='version', version=f'gatekeeper {version()}')
    verbs = top.add_subparsers(dest='verb', required=True)
    keygen = verbs.add_parser('keygen', help='make a credential for IKE (mode 0600)')
    keygen.add_argument('kind', choices=(*KEY_KINDS, PSK))
    keygen.add_argument(
        'file', type=Path, help='where; the public key goes beside it, with .pub in place of .pem'
    )
    keygen.set_defaults(run=_keygen)
    fingerprint = verbs.add_parser(
        'fingerprint', help='SHA-256 over a SubjectPublicKeyInfo, as peer-fingerprint takes it'
    )
    fingerprint.add_argument(
        'file',
        type=Path,
        help='a public or private key or a certificate; PEM, public ones also DER',
    )
    fingerprint.set_defaults(run=_fingerprint)
    probing.add_verb(verbs)
    verifying.add_verb(verbs)
    keytable.add_verb(verbs)
    doctor.add_verb(verbs)
    init.add_verb(verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0 if all is well, 1 if the examined object has a fault, 2 if the request could not be carried
    out.
    """
    parsed = parser().parse_args(arguments)
    try:
        status = int(parsed.run(parsed))
        sys.stdout.flush()
        return status
    except ToolError as error:
        print(f'gatekeeper {parsed.verb}: {error}', file=sys.stderr)
    except BrokenPipeError:
        # The reader has closed the pipe, such as `head`. Otherwise Python would write the rest of
        # the buffer again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 2

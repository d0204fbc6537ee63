"""Certificates, CRLs and AlgorithmIdentifiers that aren't what they should be.

`make soak-ike` tries some hundred times as many.
"""

from __future__ import annotations

import os
import random as pseudo

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ikev2.authentication.auth import PrivateKey
from ikev2.authentication.identity import Identity
from ikev2.authentication.signatures.keys import verify_signature
from ikev2.authentication.signatures.schemes import SCHEMES
from ikev2.authentication.x509.certificates import Certificate, CertificateError
from ikev2.authentication.x509.crl import RevocationList
from ikev2.authentication.x509.signed import Signed
from ikev2.constants import AuthMethod, SignatureHash
from ikev2.errors import AuthenticationFailed
from tests.ikev2 import pki
from tests.ikev2.der import Element, mutated

SOAK = int(os.environ.get('SOAK', '1'))
ROOT = pki.root(kind='ed25519')
CA = ROOT.ca('ca', kind='ed25519')
LEAF = CA.leaf('r1', x509.DNSName('r1.lab'), kind='ed25519')
TRUST = ROOT.trust()
OCTETS = b'what both have signed'


@pytest.mark.parametrize('what', ['leaf', 'ca', 'rsa'])
def test_certificate_is_read_or_refused_when_der_is_changed(what: str) -> None:
    """Nothing but CertificateError is raised, and no changed octets have a valid signature."""
    random = pseudo.Random(what)
    holder = {'leaf': LEAF, 'ca': CA, 'rsa': ROOT.ca('rsa', kind='rsa')}[what]
    signer = CA.certificate if what == 'leaf' else ROOT.certificate
    true, read = holder.certificate, 0
    for _ in range(400 * SOAK):
        der = mutated(holder.der, random, random.randrange(1, 4))
        try:
            found = Certificate.read(der)
        except CertificateError:
            continue
        read += 1
        if found.issued_by(signer):
            # The signature covers the octets: they are the same, whatever is around them.
            assert found.signed.octets == true.signed.octets
            assert (found.subject, found.spki, found.ca) == (true.subject, true.spki, true.ca)
    assert read, 'no change was small enough to be read'


def test_chain_is_refused_when_der_is_changed() -> None:
    random = pseudo.Random(7)
    identity = Identity.parse('fqdn', 'r1.lab')
    TRUST.prove(identity, [LEAF.der, CA.der], [], pki.AT)
    for _ in range(200 * SOAK):
        chain = [mutated(LEAF.der, random), mutated(CA.der, random)]
        if LEAF.der in chain or CA.der in chain:
            continue
        try:
            key, _ = TRUST.prove(identity, chain, [mutated(ROOT.crl(), random)], pki.AT)
        except AuthenticationFailed:
            continue
        assert key.public_bytes_raw() == LEAF.key.public_key().public_bytes_raw()


def test_crl_is_read_or_refused_when_der_is_changed() -> None:
    random = pseudo.Random(8)
    crl = ROOT.crl(CA, LEAF)
    true = RevocationList.read(crl)
    for _ in range(400 * SOAK):
        try:
            found = RevocationList.read(mutated(crl, random, random.randrange(1, 4)))
        except CertificateError:
            continue
        if found.signed.by(ROOT.certificate.key):
            assert found.revoked == true.revoked


KEYS = ['ed25519', 'ecdsa-p256', 'rsa']


@pytest.mark.parametrize('kind', KEYS)
def test_signature_is_refused_when_its_algorithm_is_changed(kind: str) -> None:
    """AlgorithmIdentifiers are blobs (RFC 7427, 3): what isn't one of ours is none."""
    random = pseudo.Random(kind)
    private = pki.keys(kind)
    _, data = PrivateKey(private).sign(OCTETS, frozenset(SignatureHash))
    length = data[0]
    identifier, signature = data[1 : 1 + length], data[1 + length :]
    verify_signature(private.public_key(), AuthMethod.DIGITAL_SIGNATURE, data, OCTETS)
    known = {one for scheme in SCHEMES for one in scheme.identifiers}
    weird = {mutated(identifier, random, random.randrange(1, 3)) for _ in range(300 * SOAK)}
    (top,) = Element.read(identifier)
    weird |= {
        identifier + b'\x05\x00',
        identifier[:-1],
        b'',
        b'\x30\x80' + identifier[2:] + b'\0\0',  # BER's indefinite length
        Element(top.tag, b'', top.children, long_form=1).encode(),
        Element(0x30, b'', [top]).encode(),
    }
    for one in weird - known:
        if len(one) > 255:
            continue
        with pytest.raises(AuthenticationFailed):
            verify_signature(
                private.public_key(),
                AuthMethod.DIGITAL_SIGNATURE,
                bytes([len(one)]) + one + signature,
                OCTETS,
            )


@pytest.mark.parametrize('kind', KEYS)
def test_signature_is_refused_when_its_algorithm_is_anothers(kind: str) -> None:
    private = pki.keys(kind)
    for scheme in SCHEMES:
        for identifier in scheme.identifiers:
            data = bytes([len(identifier)]) + identifier + bytes(64)
            with pytest.raises(AuthenticationFailed):
                verify_signature(private.public_key(), AuthMethod.DIGITAL_SIGNATURE, data, OCTETS)


@pytest.mark.parametrize('salt', [2**16, 2**31, 2**64])
def test_signature_is_wrong_when_library_cannot_use_its_salt(salt: int) -> None:
    """The issuer's key is ours, the parameters are the sender's: OverflowError went through."""
    key = rsa.generate_private_key(65537, 2048).public_key()
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    assert not Signed(b'signed', bytes(256), hashes.SHA256(), pss).by(key)

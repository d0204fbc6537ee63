"""Certificates, PPKs and IKE policies in an `ikev2` section, through ExaBGP's own parser."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ikev2.authentication.auth import CertifiedKey, PrivateKey, TrustAnchors
from ikev2.authentication.signatures.keys import Fingerprint, PublicKey
from ikev2.proposals.policies import POLICIES
from tests.ikev2.pki import DAY, Holder, issue, root, usage
from tests.plugin.configuration.test_ikev2_section import error_of, load, policy_of, with_ids
from tests.plugin.texts import PSK, neighbor

Write = Callable[[str], Path]

NOW = time.time()
VALID: Any = {'not_before': NOW - DAY, 'not_after': NOW + DAY}
CA = root('CN=ca,O=lab', **VALID)
OLD_CA = root('CN=old ca,O=lab', not_before=NOW - 2 * DAY, not_after=NOW - DAY)
MIDDLE = CA.ca('CN=middle,O=lab', **VALID)
OWN = MIDDLE.leaf('r1', x509.DNSName('r1.lab'), **VALID)
OTHER = MIDDLE.leaf('r9', x509.DNSName('r9.lab'), **VALID)
PUBLIC = PublicKey(OTHER.certificate.spki)
CRL = CA.crl(MIDDLE, this_update=NOW - DAY, next_update=NOW + DAY)
PPK = '9a3c0e5f71d82b46e0c5a1f7380d4b92c6e81f5a2d7093b4f0e6a8d15c3b7294'
X509 = 'private-key own.pem; certificate own.crt; trust-anchor ca.crt;'


def secret(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def private_pem(holder: Holder) -> bytes:
    pem: bytes = holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


@pytest.fixture(autouse=True)
def files(tmp_path: Path, psk: Path) -> Path:
    """Write the files beside an operator's configuration, good ones and bad ones."""
    secret(tmp_path / 'own.pem', private_pem(OWN))
    secret(tmp_path / 'r.ppk', PPK.encode())
    secret(tmp_path / 'weak', b'correct horse battery staple')
    secret(tmp_path / 'half', PPK[:32].encode())
    expired: Any = {'not_before': NOW - 2 * DAY, 'not_after': NOW - DAY}
    future: Any = {'not_before': NOW + DAY, 'not_after': NOW + 2 * DAY}
    name = x509.DNSName('r1.lab')
    names = x509.SubjectAlternativeName([name])
    for file, content in {
        'own.crt': OWN.pem + MIDDLE.pem + CA.pem,
        'other.crt': OTHER.pem,
        'ca.crt': CA.pem,
        'middle.der': MIDDLE.der,
        'old.crt': OLD_CA.pem,
        'bundle.crt': b'# of a distribution\n' + OLD_CA.pem + CA.pem,
        'leaf.crt': OWN.pem,
        'expired.crt': MIDDLE.leaf('r1', name, key=OWN.key, **expired).pem,
        'future.crt': MIDDLE.leaf('r1', name, key=OWN.key, **future).pem,
        'useless.crt': issue(
            MIDDLE, 'r1', usage(key_agreement=True), names, key=OWN.key, **VALID
        ).pem,
        'stranger.crt': MIDDLE.leaf('r1', x509.DNSName('r9.lab'), key=OWN.key, **VALID).pem,
        'stale-chain.crt': OWN.pem + CA.ca('CN=middle,O=lab', key=MIDDLE.key, **expired).pem,
        'ca.crl': CRL,
        'rubbish': b'rubbish',
        'peer.pub': PUBLIC.spki,
    }.items():
        (tmp_path / file).write_bytes(content)
    return tmp_path


def section(words: str) -> str:
    return neighbor(section=with_ids(words))


# --- what a section amounts to ------------------------------------------------------------------


def test_our_certificate_and_the_peers_trust_anchor_are_read(write: Write) -> None:
    entry = policy_of(write(section(X509))).entry
    assert entry.local_credential == OWN.credential(MIDDLE)
    assert entry.peer_credential == CA.trust()
    assert entry.ppk is None
    assert entry.ike_policy == POLICIES['default']


@pytest.mark.parametrize('words', ['[ old.crt ca.crt ]', 'bundle.crt'])
def test_trust_anchors_are_a_list_of_files_or_one_file(words: str, write: Write) -> None:
    text = section(X509.replace('trust-anchor ca.crt', f'trust-anchor {words}'))
    anchors = policy_of(write(text)).entry.peer_credential
    assert isinstance(anchors, TrustAnchors)
    assert [anchor.name for anchor in anchors.anchors] == ['CN=old ca,O=lab', 'CN=ca,O=lab']


def test_intermediate_ca_can_be_the_trust_anchor(write: Write) -> None:
    text = section(X509.replace('trust-anchor ca.crt', 'trust-anchor middle.der'))
    assert policy_of(write(text)).entry.peer_credential == MIDDLE.trust()


@pytest.mark.parametrize(('words', 'required'), [('', False), ('crl-required true;', True)])
def test_crls_are_read(words: str, required: bool, write: Write) -> None:
    text = section(f'{X509} crl [ ca.crl ]; {words}')
    assert policy_of(write(text)).entry.peer_credential == CA.trust(CRL, crl_required=required)


@pytest.mark.parametrize(
    ('words', 'local', 'peer'),
    [
        ('private-key own.pem; trust-anchor ca.crt;', PrivateKey, TrustAnchors),
        ('private-key own.pem; certificate own.crt; peer-key peer.pub;', CertifiedKey, PublicKey),
        (
            'private-key own.pem; certificate own.crt; '
            f'peer-fingerprint {PUBLIC.fingerprint}; # the peer has a raw key',
            CertifiedKey,
            Fingerprint,
        ),
    ],
)
def test_two_ends_may_differ(
    words: str, local: type[object], peer: type[object], write: Write
) -> None:
    entry = policy_of(write(section(f'{words}\n'))).entry
    assert isinstance(entry.local_credential, local)
    assert isinstance(entry.peer_credential, peer)


@pytest.mark.parametrize(('words', 'required'), [('', True), ('ppk-required false;', False)])
@pytest.mark.parametrize('credential', ['psk-file r.psk;', X509])
def test_ppk_goes_beside_any_credential(
    words: str, required: bool, credential: str, write: Write
) -> None:
    ppk = policy_of(
        write(section(f'{credential} ppk-file r.ppk; ppk-id "r1 and r2"; {words}'))
    ).entry.ppk
    assert ppk is not None
    assert (ppk.identity, ppk.required) == ('r1 and r2', required)
    assert ppk.secret.reveal() == PPK.encode()


@pytest.mark.parametrize('name', POLICIES)
def test_ike_policy_is_chosen_by_name(name: str, write: Write) -> None:
    text = section(f'psk-file r.psk; ike-policy {name};')
    assert policy_of(write(text)).entry.ike_policy == POLICIES[name]


@pytest.mark.parametrize(
    ('words', 'lifetimes'),
    [
        ('', (14400, None, None)),
        ('ike-lifetime 600; ike-reauthentication 7200; ike-liveness 60;', (600, 7200, 60)),
    ],
)
def test_lifetimes_of_ike_sa_and_proof_are_read(
    words: str, lifetimes: tuple[int | None, ...], write: Write
) -> None:
    entry = policy_of(write(section(f'psk-file r.psk; {words}'))).entry
    assert (entry.ike_lifetime, entry.reauthentication, entry.liveness) == lifetimes


def test_ml_kem_is_refused_where_asked_for_when_it_is_missing(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('ikev2.proposals.policies.available', lambda method: False)
    path = write(section('psk-file r.psk;\n ike-policy hybrid;'))
    assert error_of(path).startswith(f'{path} line 8: ikev2 ike-policy: policy hybrid needs ML-KEM')


def test_hex_secret_is_the_value_of_its_digits(write: Write, psk: Path) -> None:
    secret(psk, f'0x{PSK}'.encode())
    credential = policy_of(write(neighbor())).entry.local_credential
    assert credential == policy_of(write(neighbor())).entry.peer_credential
    assert getattr(credential, 'secret').reveal() == bytes.fromhex(PSK)  # noqa: B009


# --- what is refused ----------------------------------------------------------------------------

FAULTS: dict[str, str] = {
    # the section from its second line on; what is said of that line's directive
    'certificate none; private-key own.pem; trust-anchor ca.crt;': 'none: No such file',
    'certificate rubbish; private-key own.pem; trust-anchor ca.crt;': 'rubbish: the certificate is',
    'certificate other.crt; private-key own.pem; trust-anchor ca.crt;': (
        'other.crt: the first certificate is not for the private key'
    ),
    'certificate expired.crt; private-key own.pem; trust-anchor ca.crt;': (
        'expired.crt: CN=r1 has expired'
    ),
    'certificate future.crt; private-key own.pem; trust-anchor ca.crt;': (
        'future.crt: CN=r1 is not valid yet'
    ),
    'certificate stale-chain.crt; private-key own.pem; trust-anchor ca.crt;': (
        'stale-chain.crt: CN=middle,O=lab has expired'
    ),
    'certificate useless.crt; private-key own.pem; trust-anchor ca.crt;': (
        'useless.crt: the key usage of CN=r1 does not allow IKE'
    ),
    'certificate stranger.crt; private-key own.pem; trust-anchor ca.crt;': (
        'stranger.crt: it is for CN=r1 (r9.lab), not for the local-id fqdn r1.lab'
    ),
    'certificate ca.crl; private-key own.pem; trust-anchor ca.crt;': 'ca.crl: ',
    'trust-anchor none; private-key own.pem;': 'none: No such file',
    'trust-anchor rubbish; private-key own.pem;': 'rubbish: the certificate is refused',
    'trust-anchor leaf.crt; private-key own.pem;': (
        'leaf.crt: CN=r1 is not a CA that may sign certificates'
    ),
    'trust-anchor old.crt; private-key own.pem;': 'CN=old ca,O=lab has expired',
    'crl ca.crt; trust-anchor ca.crt; private-key own.pem;': 'ca.crt: there is no X509 CRL in this',
    'crl ca.crl; private-key own.pem; peer-key peer.pub;': 'it means nothing without trust-anchor',
    'crl-required true; private-key own.pem; peer-key peer.pub;': (
        'it means nothing without trust-anchor'
    ),
    'certificate own.crt; psk-file r.psk;': 'a second credential, psk-file is on line 8',
    'trust-anchor ca.crt; psk-file r.psk;': 'a second credential, psk-file is on line 8',
    'trust-anchor ca.crt; peer-key peer.pub; private-key own.pem;': (
        "that says already which key is the peer's, peer-key is on line 8"
    ),
    'psk-file weak;': 'weak: the pre-shared key could be guessed',
    'ppk-file half; ppk-id a; psk-file r.psk;': 'the post-quantum pre-shared key could be guessed',
    'ppk-file peer.pub; ppk-id a; psk-file r.psk;': 'mode 0644',
    'ppk-file r.ppk; psk-file r.psk;': 'it means nothing without ppk-id',
    'ppk-id a; psk-file r.psk;': 'it means nothing without ppk-file',
    'ppk-required true; psk-file r.psk;': 'it means nothing without ppk-file',
}


@pytest.mark.parametrize('words', FAULTS)
def test_mistake_is_told_with_file_line_directive_and_cause(
    words: str, write: Write, files: Path
) -> None:
    (files / 'peer.pub').chmod(0o644)
    path = write(section(f'\n{words}'))
    error = error_of(path)
    assert error.startswith(f'{path} line 8: ikev2 {words.split()[0]}: ')
    assert FAULTS[words] in error


def test_certificate_needs_its_private_key(write: Write) -> None:
    path = write(section('certificate own.crt; trust-anchor ca.crt;'))
    assert f'{path} line 7: ikev2: incomplete, private-key is missing' in error_of(path)


def test_trust_anchor_is_refused_when_the_identity_is_in_none(write: Write) -> None:
    path = write(
        neighbor(
            section='    ikev2 { local-id fqdn r1.lab; peer-id key-id r2; private-key own.pem;\n'
            '    trust-anchor ca.crt; }\n'
        )
    )
    assert (
        f'{path} line 8: ikev2 trust-anchor: a peer-id like key-id r2 is in no certificate'
    ) in error_of(path)


# --- templates, printing, reloads ---------------------------------------------------------------

TEMPLATE = f"""\
template {{
  neighbor base {{
    ikev2 {{ local-id fqdn "r1.lab"; peer-id fqdn "r2.lab"; {X509} crl ca.crl; }}
  }}
}}
"""


@pytest.mark.parametrize(
    ('words', 'peer'),
    [
        ('trust-anchor middle.der;', TrustAnchors),
        ('peer-key peer.pub;', PublicKey),
        (f'peer-fingerprint {PUBLIC.fingerprint};', Fingerprint),
    ],
)
def test_neighbors_peer_credential_replaces_the_templates(
    words: str, peer: type[object], write: Write
) -> None:
    own = f'    inherit base;\n    ikev2 {{ {words} }}\n'
    entry = policy_of(write(TEMPLATE + neighbor(section=own))).entry
    assert isinstance(entry.local_credential, CertifiedKey)
    assert isinstance(entry.peer_credential, peer)


def test_neighbors_pre_shared_key_replaces_a_certificate(write: Write) -> None:
    own = '    inherit base;\n    ikev2 { psk-file r.psk; }\n'
    entry = policy_of(write(TEMPLATE + neighbor(section=own))).entry
    assert entry.local_credential == entry.peer_credential


def test_printed_section_can_be_read_again(write: Write) -> None:
    words = (
        'private-key own.pem; certificate own.crt; trust-anchor [ old.crt ca.crt ]; crl [ ca.crl ];'
        ' crl-required true; ppk-file r.ppk; ppk-id "a b"; ike-policy hybrid;'
    )
    text = section(words)
    (one,) = load(write(text)).neighbors.values()
    printed = str(one)
    assert PPK not in printed
    again = printed[printed.index('  ikev2 {') : printed.index('  family {')]
    assert policy_of(write(neighbor(section=again))) == policy_of(write(text))


def test_new_crl_is_read_when_the_daemon_runs_as_nobody(write: Write, files: Path) -> None:
    for part in (files, *files.parents):
        if part != Path('/tmp') and part.stat().st_uid == os.geteuid():
            part.chmod(0o755)
    path = write(section(f'{X509} crl ca.crl;'))
    configuration = load(path)
    fresh = CA.crl(this_update=NOW, next_update=NOW + DAY)
    (files / 'ca.crl').write_bytes(fresh)
    assert os.geteuid() == 0, 'needs root'
    os.seteuid(65534)
    try:
        reloaded = configuration.reload()
    finally:
        os.seteuid(0)
    assert reloaded is True, str(configuration.error)
    (one,) = configuration.neighbors.values()
    entry = one['ikev2'].pad
    assert entry.local_credential == OWN.credential(MIDDLE)
    assert entry.peer_credential == CA.trust(fresh)


def test_renewed_certificate_is_an_error_without_its_key(write: Write, files: Path) -> None:
    for part in (files, *files.parents):
        if part != Path('/tmp') and part.stat().st_uid == os.geteuid():
            part.chmod(0o755)
    path = write(section(f'\n{X509}'))
    configuration = load(path)
    renewed = MIDDLE.leaf('r1', x509.DNSName('r1.lab'), **VALID)
    (files / 'own.crt').write_bytes(renewed.pem)
    secret(files / 'own.pem', private_pem(renewed))
    assert os.geteuid() == 0, 'needs root'
    os.seteuid(65534)
    try:
        reloaded = configuration.reload()
    finally:
        os.seteuid(0)
    assert reloaded is False
    assert 'own.pem has changed and cannot be read' in str(configuration.error)
    assert f'{path} line 8: ikev2 private-key' in str(configuration.error)


def test_unchanged_configuration_is_an_equal_one(write: Write) -> None:
    text = section(f'{X509} crl ca.crl; ppk-file r.ppk; ppk-id a; ike-policy hybrid;')
    assert policy_of(write(text)) == policy_of(write(text))

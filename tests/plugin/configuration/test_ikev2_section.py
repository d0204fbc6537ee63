"""Whole neighbors with an `ikev2` section, through ExaBGP's own parser."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from exabgp.bgp.neighbor import NeighborTemplate
from exabgp.configuration.configuration import Configuration

from gatekeeper.policy.sessions import SessionPolicy
from ikev2.authentication.auth import PresharedKey, PrivateKey, PublicKey
from ikev2.authentication.signatures.keys import Fingerprint
from plugin.configuration.session_policies import policies_of
from tests.plugin.texts import PSK, SECTION, neighbor

Write = Callable[[str], Path]


def load(path: Path) -> Any:
    configuration = Configuration([str(path)])
    assert configuration.reload() is True, str(configuration.error)
    return configuration


def error_of(path: Path) -> str:
    configuration = Configuration([str(path)])
    assert configuration.reload() is False
    assert not configuration.neighbors
    return str(configuration.error)


def policy_of(path: Path) -> SessionPolicy:
    (policy,) = policies(load(path))
    return policy


def policies(configuration: Any) -> list[SessionPolicy]:
    return policies_of(configuration.neighbors, configuration.ikev2_chains)


@pytest.fixture
def key_pair(tmp_path: Path) -> PublicKey:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / 'own.pem').write_bytes(pem)
    (tmp_path / 'own.pem').chmod(0o600)
    peer = Ed25519PrivateKey.generate().public_key()
    public = peer.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / 'peer.pub').write_bytes(public)
    return PublicKey.load(public)


def with_ids(words: str) -> str:
    return f'    ikev2 {{ local-id fqdn r1.lab; peer-id fqdn r2.lab; {words} }}\n'


# --- what a section amounts to ------------------------------------------------------------------


def test_missing_directives_have_their_defaults(write: Write) -> None:
    policy = policy_of(write(neighbor()))
    assert policy.neighbor == '127.0.0.2'
    assert policy.session.name == 'ipv4 unicast'
    assert policy.session.encode() == b'\x01\x00\x01\x01bgp'
    assert (policy.connect_port, policy.listen_port) == (179, None)
    assert policy.algorithms == ('hmac-sha-1-96', 'aes-128-cmac-96')
    assert policy.tcp_options is True
    assert (policy.lifetime, policy.grace, policy.timeout) == (3600, 60, 30)
    assert policy.entry.ike_port == 500
    assert isinstance(policy.entry.local_credential, PresharedKey)
    assert policy.entry.local_credential.secret.reveal() == PSK.encode()


def test_every_directive_reaches_the_policy(write: Write) -> None:
    words = (
        'psk-file "r.psk"; algorithm [ hmac-sha-256-128 hmac-sha-1-96 ]; tcp-options excluded; '
        'lifetime 100; grace 10; timeout 5; ike-port 4500; tcp-ao-backend kernel; '
        'session ipv4 unicast { source-port 40001; peer-port 40002; lifetime 50; timeout 7; }'
    )
    more = '    listen 1790;\n    connect 1791;\n'
    policy = policy_of(write(neighbor(section=with_ids(words), more=more)))
    assert policy.algorithms == ('hmac-sha-256-128', 'hmac-sha-1-96')
    assert policy.tcp_options is False
    assert (policy.lifetime, policy.grace, policy.timeout) == (50, 10, 7)
    assert policy.entry.ike_port == 4500
    assert (policy.source_port, policy.peer_port) == (40001, 40002)
    assert (policy.listen_port, policy.connect_port) == (1790, 1791)


def test_raw_keys_are_read_with_the_peers_file(write: Write, key_pair: PublicKey) -> None:
    text = neighbor(section=with_ids('private-key own.pem; peer-key peer.pub;'))
    pad = policy_of(write(text)).entry
    assert isinstance(pad.local_credential, PrivateKey)
    assert pad.peer_credential == key_pair


def test_raw_keys_are_read_with_the_peers_fingerprint(write: Write, key_pair: PublicKey) -> None:
    fingerprint = str(key_pair.fingerprint)
    text = neighbor(section=with_ids(f'private-key own.pem; peer-fingerprint {fingerprint};'))
    assert policy_of(write(text)).entry.peer_credential == Fingerprint.parse(fingerprint)


def test_neighbor_is_one_session_when_multi_session_is_off(write: Write) -> None:
    policy = policy_of(write(neighbor(families='ipv4 unicast; ipv6 unicast;')))
    assert policy.session.name == 'ipv4 unicast, ipv6 unicast'
    assert policy.session.families == ((1, 1), (2, 1))


def test_passive_neighbor_does_not_connect(write: Write) -> None:
    policy = policy_of(write(neighbor(more='    passive;\n    listen 1790;\n')))
    assert (policy.connect_port, policy.listen_port) == (None, 1790)


def test_relative_paths_start_at_the_configuration_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir('/')
    policy_of(write(neighbor()))


# --- inheritance --------------------------------------------------------------------------------

TEMPLATE = """\
template {
  neighbor base {
    ikev2 {
      local-id fqdn "r1.lab"; peer-id fqdn "other.lab"; psk-file "r.psk"; lifetime 100; grace 20;
      session ipv4 unicast { source-port 40001; lifetime 50; }
    }
  }
}
"""


def test_neighbor_can_have_its_whole_section_from_a_template(write: Write) -> None:
    policy = policy_of(write(TEMPLATE + neighbor(section='    inherit base;\n')))
    assert str(policy.entry.peer_id) == 'fqdn other.lab'
    assert policy.lifetime == 50


def test_neighbors_word_wins_over_the_templates(write: Write) -> None:
    own = (
        '    inherit base;\n'
        '    ikev2 { peer-id fqdn "r2.lab"; grace 30; session ipv4 unicast { lifetime 60; } }\n'
    )
    policy = policy_of(write(TEMPLATE + neighbor(section=own)))
    assert str(policy.entry.local_id) == 'fqdn r1.lab'
    assert str(policy.entry.peer_id) == 'fqdn r2.lab'
    assert (policy.grace, policy.lifetime, policy.source_port) == (30, 60, 40001)


def test_neighbors_credential_replaces_the_templates(write: Write, key_pair: PublicKey) -> None:
    own = '    inherit base;\n    ikev2 { private-key own.pem; peer-key peer.pub; }\n'
    pad = policy_of(write(TEMPLATE + neighbor(section=own))).entry
    assert pad.peer_credential == key_pair


def inherited(write: Write, own: str, section: str) -> Any:
    """A neighbor of the template with SCALARS."""
    text = f'template {{ neighbor base {{ {SCALARS} }} }}\n'
    text += neighbor(section='    inherit base;\n' + own + section)
    configuration = Configuration([str(write(text))])
    assert configuration.reload() is True, str(configuration.error)
    (found,) = configuration.neighbors.values()
    return found


SCALARS = 'hold-time 30; rate-limit 7; capability { asn4 disable; }'
OWN = '    hold-time 90;\n    capability { asn4 enable; }\n'


def test_own_scalars_win_over_the_templates_when_protected(write: Write) -> None:
    found = inherited(write, OWN, SECTION)
    assert found['hold-time'] == 90
    assert found['capability']['asn4']
    assert found['rate-limit'] == 7


def test_templates_scalars_stay_where_neighbor_has_none(write: Write) -> None:
    found = inherited(write, '', SECTION)
    assert found['hold-time'] == 30
    assert not found['capability']['asn4']


def test_scalars_of_a_plain_neighbor_are_upstreams(write: Write) -> None:
    assert inherited(write, OWN, '')['hold-time'] == 30


def test_template_is_not_shared_when_two_neighbors_inherit_it(write: Write) -> None:
    one = neighbor(section='    inherit base;\n    ikev2 { lifetime 70; grace 21; }\n')
    two = neighbor(
        section='    inherit base;\n    ikev2 { peer-id fqdn "r3.lab"; }\n', peer='127.0.0.3'
    )
    first, second = policies(load(write(TEMPLATE + one + two)))
    assert (first.grace, second.grace) == (21, 20)
    assert str(first.entry.peer_id) == 'fqdn other.lab'
    assert str(second.entry.peer_id) == 'fqdn r3.lab'


def test_later_template_of_a_list_wins_and_neither_is_changed(write: Write) -> None:
    templates = (
        'template { neighbor a { ikev2 { local-id fqdn r1.lab; psk-file r.psk; grace 11; } }\n'
        'neighbor b { ikev2 { grace 12; peer-id fqdn r2.lab; } } }\n'
    )
    one = neighbor(section='    inherit [ a b ];\n')
    two = neighbor(section='    inherit a;\n    ikev2 { peer-id fqdn r3.lab; }\n', peer='127.0.0.3')
    first, second = policies(load(write(templates + one + two)))
    assert (first.grace, second.grace) == (12, 11)


# --- what is refused ----------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, str, str]] = {
    # name: (text, a word on the line that must be named, what must be said)
    'no local-id': (
        neighbor(section='    ikev2 { peer-id fqdn a; psk-file r.psk; }\n'),
        'ikev2',
        'incomplete, local-id is missing',
    ),
    'no credential': (neighbor(section=with_ids('')), 'ikev2', 'the credential is missing'),
    'link-local without an interface': (
        neighbor(peer='fe80::2', local='fe80::1', families='ipv6 unicast;'),
        'ikev2',
        'a link-local address says nothing without its interface',
    ),
    'half a raw key': (
        neighbor(section=with_ids('private-key own.pem;')),
        'ikev2',
        'peer-key, peer-fingerprint or trust-anchor is missing',
    ),
    'the other half': (
        neighbor(section=with_ids('peer-key peer.pub;')),
        'ikev2',
        'private-key is missing',
    ),
    'two credentials': (
        neighbor(section=with_ids('psk-file r.psk;\n    private-key own.pem;')),
        'private-key',
        'a second credential, psk-file is on line',
    ),
    'two ways to know a key': (
        neighbor(
            section=with_ids(
                f'private-key own.pem; peer-key peer.pub;\n peer-fingerprint sha256:{"00" * 32};'
            )
        ),
        'peer-fingerprint',
        'says already which key',
    ),
    'no private key': (
        neighbor(section=with_ids('\n private-key peer.pub; peer-key peer.pub;')),
        'private-key',
        'holds a public key, not a secret: name another file',
    ),
    'no public key': (
        neighbor(section=with_ids('private-key own.pem;\n peer-key r.psk;')),
        'peer-key',
        'no public key',
    ),
    'the peer is ourselves': (
        neighbor(section='    ikev2 { local-id fqdn a;\n peer-id fqdn a; psk-file r.psk; }\n'),
        'peer-id',
        'is the local-id too',
    ),
    'no family block': (neighbor(families=''), 'ikev2', 'no family block that names'),
    'all families': (neighbor(families='all;'), 'ikev2', 'no family block that names'),
    'md5 too': (
        neighbor(more='    md5-password "x";\n'),
        'ikev2',
        'md5-password too',
    ),
    'md5 of a template': (
        'template {\n    neighbor secured {\n        md5-password "x";\n    }\n}\n'
        + neighbor(more='    inherit secured;\n'),
        'ikev2',
        'md5-password too, on line 3;',
    ),
    'another address to bind to': (
        neighbor(more='    md5-ip 127.0.0.9;\n'),
        'ikev2',
        'md5-ip is not the local-address',
    ),
    "BGP's port as source": (
        neighbor(
            section=with_ids('psk-file r.psk;\n session ipv4 unicast { source-port 1790; }'),
            more='    connect 1790;\n',
        ),
        'source-port',
        'source-port: 1790 is the port of BGP',
    ),
    "BGP's port as the peer's": (
        neighbor(
            section=with_ids('psk-file r.psk;\n session ipv4 unicast { peer-port 1790; }'),
            more='    listen 1790;\n',
        ),
        'peer-port',
        'peer-port: 1790 is the port of BGP',
    ),
    'a session without a block': (
        neighbor(section=with_ids('psk-file r.psk;\n session ipv4 unicast;')),
        'session',
        'or a block: session AFI SAFI { ... }',
    ),
    'no local address': (
        neighbor().replace('local-address 127.0.0.1', 'local-address auto'),
        'ikev2',
        'no local-address of its own',
    ),
    'a range of peers': (
        neighbor(peer='127.0.0.0/24', more='    passive;\n'),
        'ikev2',
        'range of addresses',
    ),
    "a session for another's family": (
        neighbor(section=with_ids('psk-file r.psk;\n session ipv6 unicast { lifetime 20; }')),
        'session',
        'the neighbor does not have this family',
    ),
    'a session block without multi-session': (
        neighbor(
            section=with_ids('psk-file r.psk;\n session ipv6 unicast { lifetime 20; }'),
            families='ipv4 unicast; ipv6 unicast;',
        ),
        'session',
        'one session for all its families',
    ),
    'a source-port twice': (
        neighbor(
            section=with_ids(
                'psk-file r.psk; session ipv6 unicast { source-port 40001; }\n'
                'session ipv4 unicast { source-port 40001; }'
            ),
            families='ipv4 unicast; ipv6 unicast;',
            multi_session=True,
        ),
        'session ipv4',
        'source-port: 40001 is taken on line',
    ),
    'a section twice': (
        neighbor(more='\n  ikev2 { grace 10; } # second\n'),
        'second',
        'ikev2: repeated, it stands on line 7',
    ),
    'a name for the section': (
        neighbor(section=SECTION.replace('ikev2 {', 'ikev2 main {')),
        'ikev2',
        'words too many: main',
    ),
    'a strange block': (
        neighbor(section=with_ids('psk-file r.psk;\n proposal x { }')),
        'proposal',
        "a block 'proposal' is unknown here",
    ),
    'an unclosed section': (
        neighbor(section=SECTION.replace('    }\n', '')).removesuffix('}\n'),
        'ikev2',
        'the block does not end',
    ),
    'an empty statement': (
        neighbor(section=with_ids('psk-file r.psk;\n ; # nothing')),
        'nothing',
        "'' is unknown",
    ),
    'a keychain too': (
        neighbor(more='    keychain k;\n'),
        'keychain',
        'the neighbor is protected on line',
    ),
    'one address open and gated': (
        neighbor() + neighbor(section='', local='127.0.0.9'),
        'ikev2',
        'without protection',
    ),
    'one address in an open range': (
        neighbor() + neighbor(section='', peer='127.0.0.0/24', more='    passive;\n'),
        'ikev2',
        'another neighbor block covers 127.0.0.2 without protection',
    ),
    'one address open in IPv6 form': (
        neighbor() + neighbor(section='', peer='::ffff:127.0.0.2', local='::ffff:127.0.0.1'),
        'ikev2',
        'without protection',
    ),
    'a later open block in its place': (
        neighbor() + neighbor(section='', more='    listen 1799;\n'),
        'ikev2',
        'already; expected each session once',
    ),
    'an earlier open block in its place': (
        neighbor(section='', more='    listen 1799;\n') + neighbor(),
        'ikev2',
        'already; expected each session once',
    ),
    'one pair of identities, two credentials': (
        neighbor()
        + neighbor(section=with_ids('psk-file s.psk; # second'), peer='127.0.0.3').replace(
            ' }\n}', '\n }\n}'
        ),
        'second',
        'different credentials',
    ),
}


@pytest.mark.parametrize('name', FAULTS)
def test_mistake_is_told_with_file_line_directive_and_cause(
    name: str, write: Write, tmp_path: Path, key_pair: PublicKey
) -> None:
    (tmp_path / 's.psk').write_bytes(PSK[::-1].encode())
    (tmp_path / 's.psk').chmod(0o600)
    (tmp_path / 'peer.pub').chmod(0o644)
    text, word, said = FAULTS[name]
    path = write(text)
    line = next(n for n, line in enumerate(text.split('\n'), 1) if word in line)
    error = error_of(path)
    assert error.startswith(f'{path} line {line}: ')
    assert said in error


def test_platform_is_refused_at_once_without_tcp_ao(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, 'platform', 'freebsd14')
    path = write(neighbor())
    assert error_of(path).startswith(f'{path} line 7: ikev2: TCP-AO needs Linux')


def test_refused_load_keeps_neighbors_and_processes(write: Write) -> None:
    process = 'process p { run /bin/cat; encoder json; }\n'
    path = write(process + neighbor())
    configuration = load(path)
    before = dict(configuration.neighbors), dict(configuration.processes)
    write(process + neighbor() + neighbor(section=with_ids('lifetime 2;'), peer='127.0.0.3'))
    assert configuration.reload() is False
    assert (configuration.neighbors, configuration.processes) == before


def test_good_load_is_taken_after_a_refused_one(write: Write) -> None:
    path = write(neighbor(peer='127.0.0.3', section=''))
    configuration = load(path)
    write(neighbor(peer='127.0.0.3', section='') + neighbor(section=with_ids('lifetime 2;')))
    assert configuration.reload() is False
    write(neighbor(peer='127.0.0.3', section='') + neighbor())
    assert configuration.reload() is True, str(configuration.error)
    assert len(configuration.neighbors) == 2


# --- what is printed ----------------------------------------------------------------------------


def test_printed_configurations_name_files_and_hold_no_secret(write: Write) -> None:
    configuration = load(write(neighbor()))
    (one,) = configuration.neighbors.values()
    for text in (NeighborTemplate.configuration(one), str(one), repr(one)):
        assert PSK not in text
        assert PSK.encode().hex() not in text
    assert 'psk-file "r.psk";' in str(one)


def test_printed_section_can_be_read_again(write: Write, key_pair: PublicKey) -> None:
    words = (
        f'private-key own.pem; peer-fingerprint {key_pair.fingerprint}; lifetime 99; '
        f'algorithm [ aes-128-cmac-96 ]; session ipv4 unicast {{ source-port 40001; }}'
    )
    text = neighbor(section=with_ids(words))
    (one,) = load(write(text)).neighbors.values()
    printed = str(one)
    section = printed[printed.index('  ikev2 {') : printed.index('  family {')]
    again = policy_of(write(neighbor(section=section)))
    assert again == policy_of(write(text))

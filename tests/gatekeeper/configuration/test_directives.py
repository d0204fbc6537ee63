"""The section's directives, word by word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.configuration.directive_table import TABLE, Where, words_of
from gatekeeper.configuration.directives import StatementsBuilder
from gatekeeper.configuration.location import ConfigurationError, Location
from ikev2.authentication.identity import Identity
from ikev2.authentication.signatures.keys import Fingerprint

HERE = Location('/etc/exabgp/r1.conf', 7)
FAMILIES = (('ipv4', 'unicast'), ('ipv6', 'unicast'))
HEX = '0a' * 32


def section() -> StatementsBuilder:
    return StatementsBuilder(HERE)


@pytest.mark.parametrize(
    ('statement', 'value'),
    [
        ('local-id fqdn r1.lab', Identity.parse('fqdn', 'r1.lab')),
        ('peer-id ip 10.0.0.2', Identity.parse('ip', '10.0.0.2')),
        ('peer-id user-fqdn bgp@r2.lab', Identity.parse('user-fqdn', 'bgp@r2.lab')),
        ('peer-id key-id 0x0102', Identity.parse('key-id', '0x0102')),
        ('psk-file r2.psk', 'r2.psk'),
        ('private-key /etc/k.pem', '/etc/k.pem'),
        ('peer-key r2.pub', 'r2.pub'),
        (f'peer-fingerprint sha256:{HEX}', Fingerprint(bytes.fromhex(HEX))),
        ('algorithm hmac-sha-1-96', ('hmac-sha-1-96',)),
        (
            'algorithm [ aes-128-cmac-96 hmac-sha-256-128 ]',
            ('aes-128-cmac-96', 'hmac-sha-256-128'),
        ),
        ('tcp-options excluded', 'excluded'),
        ('lifetime 15', 15),
        ('lifetime 31622400', 31622400),
        ('lifetime-segments 100', 100),
        ('lifetime-octets 10000', 10000),
        ('grace 5', 5),
        ('timeout 600', 600),
        ('ike-port 65535', 65535),
        ('tcp-ao-backend auto', 'auto'),
        ('certificate r1.crt', 'r1.crt'),
        ('trust-anchor ca.crt', ('ca.crt',)),
        ('trust-anchor [ old.crt new.crt ]', ('old.crt', 'new.crt')),
        ('crl ca.crl', ('ca.crl',)),
        ('crl [ a.crl , b.crl ]', ('a.crl', 'b.crl')),
        ('crl-required true', 'true'),
        ('ppk-file r2.ppk', 'r2.ppk'),
        ('ppk-id r1-r2', 'r1-r2'),
        ('ppk-required false', 'false'),
        ('ike-policy hybrid', 'hybrid'),
        ('ike-lifetime 60', 60),
        ('ike-reauthentication 86400', 86400),
        ('ike-liveness 5', 5),
        ('ike-policy cnsa-2', 'cnsa-2'),
        ('tcp-ao-backend kernel', 'kernel'),
        ('tcp-ao-backend userspace', 'userspace'),
    ],
)
def test_directive_has_its_value(statement: str, value: object) -> None:
    builder = section()
    builder.add(statement.split(), HERE)
    assert builder.build().directives[statement.split()[0]].value == value


@pytest.mark.parametrize(
    ('statement', 'cause'),
    [
        ('', "'' is unknown"),
        ('required', "'required' is unknown"),
        ('source-port 40001', "'source-port' is unknown"),
        ('local-id', 'type or value is missing'),
        ('local-id fqdn', 'type or value is missing'),
        ('local-id fqdn r1.lab r2.lab', 'words too many: r2.lab'),
        ('local-id dns r1.lab', "'dns'"),
        ('local-id ip r1.lab', "'r1.lab' is not an IP address"),
        ('peer-id user-fqdn r1.lab', 'user@domain'),
        ('peer-id key-id 0x', 'key-id identity is empty'),
        ('peer-id key-id \ud800', 'is not an identity of type key-id'),
        ('psk-file', 'nothing follows'),
        ('psk-file a b', 'words too many: b'),
        ('psk-file a\0b', 'cannot be a path'),
        ('psk-file \ud800', 'cannot be a path'),
        ('peer-fingerprint sha1:00', 'begins with sha256:'),
        ('peer-fingerprint sha256:00', '64 hex digits'),
        ('certificate', 'nothing follows'),
        ('certificate a b', 'words too many: b'),
        ('trust-anchor', 'nothing follows'),
        ('trust-anchor [ ]', 'the list is empty'),
        ('trust-anchor [ a b', 'the list does not end'),
        ('trust-anchor [ a a ]', 'a is repeated'),
        ('crl [ a ] b', 'words too many: b'),
        ('crl-required', 'nothing follows'),
        ('crl-required yes', "'yes' is unknown"),
        ('ppk-id', 'nothing follows'),
        ('ppk-id über', 'is no name of a PPK'),
        (f'ppk-id {"x" * 201}', 'is no name of a PPK'),
        ('ppk-required maybe', "'maybe' is unknown"),
        ('ike-policy weak', "'weak' is unknown"),
        ('ike-lifetime 59', '59 is too small'),
        ('ike-reauthentication 59', '59 is too small'),
        ('ike-liveness 4', '4 is too small'),
        ('keychain', 'nothing follows'),
        ('keychain a/b', "'a/b' is no name of a keychain"),
        ('keychain a b', 'words too many: b'),
        ('algorithm', 'nothing follows'),
        ('algorithm md5', "'md5' is unknown"),
        ('algorithm hmac-sha-1-96 aes-128-cmac-96', 'words too many'),
        ('algorithm [ ]', 'the list is empty'),
        ('algorithm [ hmac-sha-1-96', 'the list does not end'),
        ('algorithm [ hmac-sha-1-96 ] x', 'words too many: x'),
        ('algorithm [ hmac-sha-1-96 hmac-sha-1-96 ]', 'hmac-sha-1-96 is repeated'),
        ('tcp-options on', "'on' is unknown"),
        ('lifetime', 'nothing follows'),
        ('lifetime-segments 99', '99 is too small'),
        ('lifetime-segments 2147483649', '2147483649 is too large'),
        ('lifetime-octets 9999', '9999 is too small'),
        ('lifetime 14', '14 is too small'),
        ('lifetime 31622401', '31622401 is too large'),
        ('lifetime 99999999999999999999', '99999999999999999999 is too large'),
        ('lifetime 999999999999999999999', 'is not a number'),
        ('lifetime -20', "'-20' is not a number"),
        ('lifetime ٢٠', 'is not a number'),
        ('lifetime 20 seconds', 'words too many: seconds'),
        ('grace 4', '4 is too small'),
        ('grace 3601', '3601 is too large'),
        ('timeout 0', '0 is too small'),
        ('timeout 601', '601 is too large'),
        ('ike-port 0', '0 is too small'),
        ('ike-port 65536', '65536 is too large'),
        ('tcp-ao-backend vpp', "'vpp' is unknown"),
    ],
)
def test_bad_value_is_refused_with_cause_and_expectation(statement: str, cause: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        section().add(statement.split(' ') if statement else [], HERE)
    text = str(caught.value)
    assert text.startswith('/etc/exabgp/r1.conf line 7: ikev2')
    assert cause in text
    assert '; expected ' in text


@pytest.mark.parametrize(
    ('word', 'meant'),
    [('lifetme', 'lifetime'), ('pskfile', 'psk-file'), ('PEER-ID', 'peer-id'), ('crls', 'crl')],
)
def test_error_names_the_word_that_was_meant_and_no_other(word: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        section().add([word, 'x'], HERE)
    text = str(caught.value)
    assert f'did you mean {meant}?; expected {meant}' in text
    assert 'one of' not in text


def test_error_names_the_block_when_the_word_is_of_another() -> None:
    with pytest.raises(ConfigurationError, match=r'expected it in a block: session AFI SAFI'):
        section().add(['source-port', '40001'], HERE)
    session = section().begin_session(['ipv4', 'unicast'], HERE, FAMILIES)
    with pytest.raises(ConfigurationError, match='expected it directly inside ikev2'):
        session.add(['psk-file', 'x'], HERE)


@pytest.mark.parametrize('name', sorted(words_of(Where.SECTION)))
def test_directive_is_refused_when_it_stands_twice(name: str) -> None:
    values = {
        'local-id': 'fqdn r1.lab',
        'peer-id': 'fqdn r2.lab',
        'peer-fingerprint': f'sha256:{HEX}',
        'algorithm': 'hmac-sha-1-96',
        'tcp-options': 'included',
        'tcp-ao-backend': 'auto',
        'lifetime-octets': '10000',
        'crl-required': 'true',
        'ppk-required': 'true',
        'ike-policy': 'hybrid',
    }
    statement = [name, *values.get(name, '100').split()]
    builder = section()
    builder.add(statement, HERE)
    with pytest.raises(
        ConfigurationError, match=f'line 9: ikev2 {name}: repeated, .* line 7 already'
    ):
        builder.add(statement, Location(HERE.file, 9))


def test_session_block_has_ports_and_what_it_overrides() -> None:
    builder = section()
    session = builder.begin_session(['ipv4', 'unicast'], HERE, FAMILIES)
    for statement in ('source-port 40001', 'peer-port 40002', 'lifetime 600', 'grace 30'):
        session.add(statement.split(), HERE)
    draft = builder.build().sessions['ipv4', 'unicast']
    assert {name: entry.value for name, entry in draft.directives.items()} == {
        'source-port': 40001,
        'peer-port': 40002,
        'lifetime': 600,
        'grace': 30,
    }


@pytest.mark.parametrize(
    ('statement', 'cause'),
    [
        ('source-port 1023', '1023 is too small'),
        ('source-port 65536', '65536 is too large'),
        ('peer-port 0', '0 is too small'),
        ('psk-file x', "'psk-file' is unknown"),
        ('ike-port 500', "'ike-port' is unknown"),
        ('keychain k;', "'k;' is no name of a keychain"),
    ],
)
def test_session_block_refuses_words_of_the_section(statement: str, cause: str) -> None:
    session = section().begin_session(['ipv4', 'unicast'], HERE, FAMILIES)
    with pytest.raises(ConfigurationError, match='ikev2 session ipv4 unicast') as caught:
        session.add(statement.split(), HERE)
    assert cause in str(caught.value)


@pytest.mark.parametrize(
    ('words', 'cause'),
    [
        ([], 'AFI or SAFI is missing'),
        (['ipv4'], 'AFI or SAFI is missing'),
        (['ipv4', 'unicast', 'x'], 'words too many'),
        (['ipv5', 'unicast'], "'ipv5 unicast' is no family"),
    ],
)
def test_session_block_is_for_one_family(words: list[str], cause: str) -> None:
    with pytest.raises(ConfigurationError, match=cause):
        section().begin_session(words, HERE, FAMILIES)


def test_family_is_refused_a_second_session_block() -> None:
    builder = section()
    builder.begin_session(['ipv4', 'unicast'], HERE, FAMILIES)
    with pytest.raises(ConfigurationError, match=r'session ipv4 unicast: repeated, .* line 7'):
        builder.begin_session(['IPv4', 'Unicast'], Location(HERE.file, 8), FAMILIES)


WORDS = st.lists(
    st.one_of(
        st.sampled_from([*TABLE, '[', ']', ',', 'fqdn', 'ip', 'dn', 'key-id', '']),
        # Surrogates too: ExaBGP's escapes can make them.
        st.text(st.characters(exclude_categories=()), max_size=40),
        st.integers(-(10**12), 10**12).map(str),
    ),
    max_size=6,
)


@given(st.lists(WORDS, max_size=8), st.booleans())
def test_any_words_raise_only_the_configuration_error(
    statements: list[list[str]], in_session: bool
) -> None:
    builder = section()
    if in_session:
        builder = builder.begin_session(['ipv4', 'unicast'], HERE, FAMILIES)
    for words in statements:
        try:
            builder.add(words, HERE)
        except ConfigurationError as error:
            assert str(HERE) in str(error)
    builder.build()


@given(WORDS)
def test_any_session_words_raise_only_the_configuration_error(words: list[str]) -> None:
    try:
        section().begin_session(words, HERE, FAMILIES)
    except ConfigurationError as error:
        assert str(HERE) in str(error)

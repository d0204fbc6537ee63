"""`keychain NAME { key N { ... } }`, and neighbors and sessions that use one."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from exabgp.bgp.neighbor import NeighborTemplate
from exabgp.configuration.configuration import Configuration

from gatekeeper.configuration.keychain_directives import lifetime
from gatekeeper.configuration.values import WordError
from gatekeeper.policy.key_table import Row
from gatekeeper.policy.keychain import ALWAYS, ChainKey, Keychain, Lifetime
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.tools.keychain_of_table import keychain_of, write_keychain
from keymaterial import Secret
from plugin.configuration.session_policies import policies_of
from tcpao.mkt import ALGORITHMS
from tests.plugin.texts import SECTION, neighbor

Write = Callable[[str], Path]

KEY = """\
    key 1 {
        send-id 61;
        recv-id 84;
        algorithm hmac-sha-1-96;
        key-file "k1";
    }
"""
CHAIN = f'keychain core {{\n{KEY}}}\n'
USED = neighbor(section='    keychain core;\n')


def chain(*lines: str) -> str:
    """One key with these lines beside what it must have."""
    return CHAIN.replace('        key-file', '        ' + '\n        '.join(lines) + '\n key-file')


@pytest.fixture(autouse=True)
def key_files(tmp_path: Path) -> Path:
    for name, content in (('k1', b'first secret\n'), ('k2', b'second secret'), ('hex', b'0x00ff')):
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(0o600)
    return tmp_path


def load(path: Path) -> Any:
    configuration = Configuration([str(path)])
    assert configuration.reload() is True, str(configuration.error)
    return configuration


def error_of(path: Path) -> str:
    configuration = Configuration([str(path)])
    assert configuration.reload() is False
    assert not configuration.neighbors
    return str(configuration.error)


def policies(path: Path) -> list[SessionPolicy]:
    configuration = load(path)
    return policies_of(configuration.neighbors, configuration.ikev2_chains)


def chain_of(path: Path) -> Keychain:
    (policy,) = policies(path)
    assert policy.pad is None
    assert policy.keychain is not None
    return policy.keychain


def key_of(path: Path) -> ChainKey:
    (key,) = chain_of(path).keys
    return key


# --- a chain --------------------------------------------------------------------------------


def test_key_loads_with_only_the_required_words(write: Write) -> None:
    key = key_of(write(CHAIN + USED))
    assert (key.number, key.send_id, key.recv_id) == (1, 61, 84)
    assert key.algorithm is ALGORITHMS['hmac-sha-1-96']
    assert key.master_key.reveal() == b'first secret', "without the file's final newline"
    assert key.tcp_options
    assert key.send == key.accept == ALWAYS


def test_key_loads_with_every_word(write: Write) -> None:
    key = key_of(
        write(
            chain(
                'tcp-options excluded;',
                'send-lifetime 2026-11-23T12:00:00Z 2026-12-23T12:00:00Z;',
                'accept-lifetime 2026-11-23T11:00:00Z infinite;',
            )
            + USED
        )
    )
    assert not key.tcp_options
    assert key.send == Lifetime(1795435200.0, 1798027200.0)
    assert key.accept == Lifetime(1795431600.0, inf)
    assert str(key.send) == '2026-11-23T12:00:00Z 2026-12-23T12:00:00Z'


LIFETIMES: dict[tuple[str, ...], tuple[Lifetime, Lifetime]] = {
    ('send-lifetime 2026-11-23T12:00:00Z duration 60;',): (
        Lifetime(1795435200.0, 1795435260.0),
        ALWAYS,
    ),
    ('accept-lifetime always;', 'send-lifetime always;'): (ALWAYS, ALWAYS),
    ('send-accept-lifetime 2026-11-23T12:00:00Z infinite;',): (
        Lifetime(1795435200.0, inf),
        Lifetime(1795435200.0, inf),
    ),
    ('send-accept-lifetime always;',): (ALWAYS, ALWAYS),
    # Accepted, and not sent: RFC 8177 3.
    ('send-lifetime 2026-11-23T12:00:00Z 2026-11-23T12:00:00Z;',): (
        Lifetime(1795435200.0, 1795435200.0),
        ALWAYS,
    ),
}


@pytest.mark.parametrize('lines', LIFETIMES)
def test_every_form_of_lifetime_of_rfc_8177_is_read(write: Write, lines: tuple[str, ...]) -> None:
    key = key_of(write(chain(*lines) + USED))
    assert (key.send, key.accept) == LIFETIMES[lines]


def test_tolerance_widens_what_is_accepted_and_not_what_is_sent(write: Write) -> None:
    one = chain('send-accept-lifetime 2026-11-23T12:00:00Z 2026-12-23T12:00:00Z;')
    key = key_of(write(one.replace('core {', 'core {\n    accept-tolerance 60;') + USED))
    assert key.send == Lifetime(1795435200.0, 1798027200.0)
    assert key.accept == Lifetime(1795435140.0, 1798027260.0)


def test_key_number_may_be_as_long_as_in_rfc_8177(write: Write) -> None:
    assert key_of(write(CHAIN.replace('key 1', f'key {2**64 - 1}') + USED)).number == 2**64 - 1


def test_several_keys_keep_their_numbers(write: Write) -> None:
    second = (
        KEY.replace('key 1', 'key 7').replace('61', '0').replace('84', '255').replace('k1', 'k2')
    )
    found = chain_of(write(f'keychain core {{\n{second}{KEY}}}\n' + USED))
    assert [(key.number, key.send_id, key.recv_id) for key in found.keys] == [
        (7, 0, 255),
        (1, 61, 84),
    ]


@pytest.mark.parametrize('name', [n for n, a in ALGORITHMS.items() if a.linux_name])
def test_every_algorithm_may_be_asked_for(write: Write, name: str) -> None:
    assert key_of(write(CHAIN.replace('hmac-sha-1-96', name) + USED)).algorithm is ALGORITHMS[name]


@pytest.mark.parametrize('written', ['0x00ff', '0x00FF\n', '0x00:ff'])
def test_key_may_be_in_hex(write: Write, key_files: Path, written: str) -> None:
    """With colons: YANG's hex-string (RFC 6991)."""
    (key_files / 'hex').write_text(written)
    assert key_of(write(CHAIN.replace('k1', 'hex') + USED)).master_key.reveal() == b'\x00\xff'


def test_key_files_may_belong_to_the_daemons_user(write: Write, key_files: Path) -> None:
    nobody = pwd.getpwnam('nobody').pw_uid
    os.chown(key_files / 'k1', nobody, -1)
    assert key_of(write(CHAIN + USED)).master_key.reveal() == b'first secret'
    os.chown(key_files / 'k1', nobody + 1, -1)
    assert 'belongs to user' in error_of(write(CHAIN + USED))


def test_chain_may_stand_below_the_neighbor(write: Write) -> None:
    assert chain_of(write(USED + CHAIN)).name == 'core'


def test_many_neighbors_may_use_one_chain(write: Write) -> None:
    other = neighbor(section='    keychain core;\n', peer='127.0.0.3')
    first, second = policies(write(CHAIN + USED + other))
    assert first.keychain is second.keychain


def test_keychain_of_a_key_table_loads(write: Write, tmp_path: Path) -> None:
    """The text of `gatekeeper keytable import` is what the configuration reads."""
    rows = [
        Row(f'core/key {number}', number, number, (), algorithm, False, send, Lifetime(0.0, 9e9))
        for number, (algorithm, send) in enumerate(
            zip(ALGORITHMS.values(), [Lifetime(5.0, 9e9), Lifetime(7.0, 8e9)], strict=False), 1
        )
    ]
    keyed = [replace(row, key=Secret(os.urandom(20))) for row in rows]
    made = keychain_of('core', keyed, from_peer=False)
    text = '\n'.join(write_keychain(made, tmp_path))
    assert chain_of(write(f'{text}\n{USED}')) == made


def test_unused_chain_is_no_error(write: Write) -> None:
    load(write(CHAIN + neighbor()))


def test_chain_is_read_anew_with_each_load(write: Write, key_files: Path) -> None:
    path = write(CHAIN + USED)
    configuration = load(path)
    write(CHAIN.replace('k1', 'k2') + USED)
    assert configuration.reload() is True
    (policy,) = policies_of(configuration.neighbors, configuration.ikev2_chains)
    assert policy.keychain is not None
    assert policy.keychain.keys[0].master_key.reveal() == b'second secret'
    write(USED)
    assert configuration.reload() is False


# --- who uses it ----------------------------------------------------------------------------


def test_session_block_replaces_ike_by_a_chain(write: Write) -> None:
    """One AFI/SAFI session has a keychain, the other one negotiates."""
    section = SECTION.replace(
        '    }\n',
        '        session ipv4 unicast { keychain core; source-port 40001; }\n    }\n',
    )
    text = neighbor(section=section, families='ipv4 unicast; ipv6 unicast;', multi_session=True)
    v4, v6 = policies(write(CHAIN + text))
    assert v4.keychain is not None
    assert v4.pad is None
    assert v4.source_port == 40001
    assert v6.keychain is None
    assert v6.entry.peer_id is not None


def test_identities_are_optional_when_every_session_has_a_chain(write: Write) -> None:
    section = """\
    ikev2 {
        session ipv4 unicast { keychain core; source-port 40001; }
        session ipv6 unicast { keychain core; source-port 40002; grace 10; }
    }
"""
    text = neighbor(section=section, families='ipv4 unicast; ipv6 unicast;', multi_session=True)
    v4, v6 = policies(write(CHAIN + text))
    assert (v4.source_port, v6.source_port) == (40001, 40002)
    assert v4.pad is v6.pad is None
    assert (v4.grace, v6.grace) == (60, 10)


def test_section_may_have_a_chain_for_all_its_sessions(write: Write) -> None:
    section = """\
    ikev2 {
        keychain core;
        tcp-ao-backend userspace;
        session ipv4 unicast { source-port 40001; }
    }
"""
    (policy,) = policies(write(CHAIN + neighbor(section=section)))
    assert policy.keychain is not None
    assert (policy.source_port, policy.backend) == (40001, 'userspace')


def test_template_may_have_a_chain(write: Write) -> None:
    template = 'template {\n  neighbor base {\n    keychain core;\n  }\n}\n'
    (policy,) = policies(write(CHAIN + template + neighbor(section='    inherit base;\n')))
    assert policy.keychain is not None


def test_neighbor_wins_over_its_template(write: Write) -> None:
    template = 'template {\n  neighbor base {\n    keychain core;\n  }\n}\n'
    other = CHAIN.replace('core', 'edge').replace('61', '62').replace('84', '85')
    text = CHAIN + other + template
    own = neighbor(section='    inherit base;\n    keychain edge;\n')
    assert chain_of(write(text + own)).name == 'edge'
    own = neighbor(section='    inherit base;\n' + SECTION)
    (policy,) = policies(write(text + own))
    assert policy.keychain is None
    ike = f'template {{\n  neighbor base {{\n{SECTION}  }}\n}}\n'
    own = neighbor(section='    inherit base;\n    keychain edge;\n')
    assert chain_of(write(CHAIN + other + ike + own)).name == 'edge'


def test_printed_neighbor_can_be_read_again(write: Write) -> None:
    configuration = load(write(CHAIN + USED))
    (one,) = configuration.neighbors.values()
    text = NeighborTemplate.configuration(one)
    assert 'keychain core;' in text
    assert 'first secret' not in text
    assert chain_of(write(CHAIN + text)).name == 'core'


def test_reload_with_another_chain_is_not_another_neighbor(write: Write) -> None:
    """The gatekeeper decides what becomes of the session."""
    other = CHAIN.replace('core', 'edge')
    (before,) = load(write(CHAIN + USED)).neighbors.values()
    (after,) = load(write(other + USED.replace('core', 'edge'))).neighbors.values()
    assert before == after


# --- what is refused ------------------------------------------------------------------------


def place(text: str, word: str) -> int:
    """The line on which this stands last."""
    return max(n for n, line in enumerate(text.splitlines(), 1) if word in line)


REFUSED: dict[str, tuple[str, str, str]] = {
    'no name': ('keychain {\n}\n', 'keychain {', 'nothing follows'),
    'two names': ('keychain a b {\n}\n', 'keychain a', 'words too many: b'),
    'a strange name': ('keychain a/b {\n}\n', 'keychain a', 'is no name of a keychain'),
    'no key': ('keychain core {\n}\n', 'keychain core', 'there is no key in it'),
    'twice': (CHAIN + CHAIN, 'keychain core', 'repeated, it stands on line 1 already'),
    'a statement in it': ('keychain core {\n  send-id 1;\n}\n', 'send-id', "'send-id' is unknown"),
    'another word in it': (
        CHAIN.replace('core {', 'core {\n  grace 1;'),
        'grace',
        "'grace' is unknown; expected one of accept-tolerance, or a block: key N { ... }",
    ),
    'a tolerance twice': (
        CHAIN.replace('core {', 'core {\n  accept-tolerance 1;\n  accept-tolerance 1;'),
        'accept-tolerance',
        'repeated',
    ),
    'a tolerance that is none': (
        CHAIN.replace('core {', 'core {\n  accept-tolerance -1;'),
        'accept-tolerance',
        "'-1' is not a number",
    ),
    'both kinds of lifetime': (
        chain('send-accept-lifetime always;', 'accept-lifetime always;'),
        'send-accept-lifetime',
        'accept-lifetime is there too',
    ),
    'no seconds of duration': (
        chain('send-lifetime 2026-02-20T00:00:00Z duration 0;'),
        'send-lifetime',
        '0 is too small',
    ),
    'never accepted': (
        chain('send-accept-lifetime 2026-02-20T00:00:00Z 2026-02-20T00:00:00Z;'),
        'key 1',
        'a key of TCP-AO that is not accepted is no use',
    ),
    'a number beyond': (CHAIN.replace('key 1', f'key {2**64}'), 'key ', 'is too large'),
    'a strange block': ('keychain core {\n  lock 1 {\n}\n}\n', 'lock', "a block 'lock' is unknown"),
    'a block in a key': (CHAIN.replace('send-id 61;', 'x {\n}'), ' x {', "a block 'x' is unknown"),
    'no end': (f'keychain core {{\n{KEY}', 'keychain core', 'the block does not end'),
    'a key without end': (
        f'keychain core {{\n{KEY}'.replace('    }\n', ''),
        'key 1',
        'the block does not end',
    ),
    'a key without number': (CHAIN.replace('key 1 {', 'key {'), 'key {', 'nothing follows'),
    'a key with a name': (CHAIN.replace('key 1', 'key one'), 'key one', "'one' is not a number"),
    'a key twice': (f'keychain core {{\n{KEY}{KEY}}}\n', 'key 1', 'repeated'),
    'no send-id': (CHAIN.replace('send-id 61;', ''), 'key 1', 'incomplete, send-id is missing'),
    'no recv-id': (CHAIN.replace('recv-id 84;', ''), 'key 1', 'incomplete, recv-id is missing'),
    'no algorithm': (
        CHAIN.replace('algorithm hmac-sha-1-96;', ''),
        'key 1',
        'incomplete, algorithm is missing',
    ),
    'no key-file': (
        CHAIN.replace('key-file "k1";', ''),
        'key 1',
        'incomplete, key-file is missing',
    ),
    'a large id': (CHAIN.replace('61', '256'), 'send-id', '256 is too large'),
    'an id twice': (chain('send-id 2;'), 'send-id', 'repeated, it stands on line'),
    'an unknown word': (chain('lifetime always;'), 'lifetime', "'lifetime' is unknown"),
    'words too many': (chain('tcp-options included x;'), 'tcp-options', 'words too many: x'),
    'an unknown algorithm': (CHAIN.replace('hmac-sha-1-96', 'md5'), 'md5', "'md5' is unknown"),
    'a time that is none': (
        chain('send-lifetime 2026-02-30T00:00:00Z infinite;'),
        'send-lifetime',
        'is no time: day is out of range',
    ),
    'local time': (
        chain('send-lifetime 2026-02-20T00:00:00+01:00 infinite;'),
        'send-lifetime',
        'is no time of UTC',
    ),
    'a lifetime backwards': (
        chain('send-lifetime 2026-02-20T00:00:00Z 2026-02-19T00:00:00Z;'),
        'send-lifetime',
        'it ends before it begins',
    ),
    'sent but not accepted': (
        chain('accept-lifetime 2026-02-20T00:00:00Z infinite;'),
        'key 1',
        'send-lifetime always is not within accept-lifetime',
    ),
    'two keys with one id': (
        f'keychain core {{\n{KEY}{KEY.replace("key 1", "key 2")}}}\n',
        'key 2',
        'send-id 61 is that of key 1 too',
    ),
    'a missing file': (CHAIN.replace('k1', 'k9'), 'k9', 'No such file'),
    'hex that is none': (CHAIN.replace('k1', 'nohex'), 'nohex', 'begins with 0x and holds no hex'),
    'a secret too long': (CHAIN.replace('k1', 'long'), 'key 1', 'Linux takes at most 80'),
    'a secret too short': (
        CHAIN.replace('hmac-sha-1-96', 'kmac256-128'),
        'key 1',
        'kmac256-128 needs at least 32',
    ),
    'no such chain': (
        CHAIN + neighbor(section='    keychain edge;\n'),
        'keychain edge',
        'there is no such keychain; expected one of: core',
    ),
    'no chain at all': (
        neighbor(section='    keychain edge;\n'),
        'keychain edge',
        'none is defined',
    ),
    'two chains': (
        CHAIN + neighbor(section='    keychain core;\n    keychain core;\n'),
        '    keychain core;',
        'repeated, it stands on line',
    ),
    'a chain and a section': (
        CHAIN + neighbor(section='    keychain core;\n' + SECTION),
        'ikev2 {',
        'the neighbor is protected on line',
    ),
    'a chain in the section, and identities': (
        CHAIN + neighbor(section=SECTION.replace('    }\n', '        keychain core;\n    }\n')),
        'local-id',
        'every session has a keychain, so there is no IKE',
    ),
    'a chain and an algorithm': (
        CHAIN
        + neighbor(
            section='    ikev2 {\n        keychain core;\n        algorithm hmac-sha-1-96;\n    }\n'
        ),
        '        algorithm hmac-sha-1-96;',
        'each key of the keychain says that itself',
    ),
    'a chain and a volume': (
        CHAIN
        + neighbor(
            section='    ikev2 {\n        keychain core;\n        lifetime-octets 10000;\n    }\n'
        ),
        '        lifetime-octets 10000;',
        'the keys of a keychain have no successor',
    ),
    'a chain inside a family block': (
        CHAIN + neighbor(families='ipv4 unicast; keychain core;'),
        'family {',
        'keychain: it does not belong here',
    ),
    'md5 too': (
        CHAIN + neighbor(section='    keychain core;\n    md5-password "x";\n'),
        'keychain core;',
        'md5-password',
    ),
    'an open neighbor at the same address': (
        CHAIN + USED + neighbor(section='', local='127.0.0.9'),
        'keychain core;',
        'without protection',
    ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_mistake_is_refused_with_the_true_line(write: Write, key_files: Path, case: str) -> None:
    for name, content in (('nohex', b'0xzz'), ('long', bytes(range(1, 82)))):
        (key_files / name).write_bytes(content)
        (key_files / name).chmod(0o600)
    text, word, cause = REFUSED[case]
    path = write('# a comment first\n' + text)
    error = error_of(path)
    assert cause in error.replace('line 2 already', 'line 1 already')
    lines = [n for n, line in enumerate(path.read_text().splitlines(), 1) if word in line]
    assert any(f'{path} line {n}: ' in error for n in lines), error
    assert 'first secret' not in error


@pytest.mark.parametrize('mode', [0o640, 0o604, 0o644])
def test_key_file_is_refused_when_others_may_read_it(
    write: Write, key_files: Path, mode: int
) -> None:
    (key_files / 'k1').chmod(mode)
    assert 'make it private with chmod 0600' in error_of(write(CHAIN + USED))


def test_refused_load_leaves_the_chains_of_the_next_alone(write: Write) -> None:
    configuration = load(write(CHAIN + USED))
    write(CHAIN + CHAIN + USED)
    assert configuration.reload() is False
    write(CHAIN + USED)
    assert configuration.reload() is True


@pytest.mark.parametrize(
    'words',
    [
        (),
        ('always', 'x'),
        ('infinite',),
        ('2026-11-23T12:00:00Z',),
        ('infinite', '2026-11-23T12:00:00Z'),
        ('2026-11-23', 'infinite'),
        ('2026-11-23T12:00:00', 'infinite'),
        ('2026-11-23t12:00:00z', 'infinite'),
        ('2026-11-23T24:00:00Z', 'infinite'),
        ('2026-11-23T12:00:00.5Z', 'infinite'),
        ('٢٠٢٦-11-23T12:00:00Z', 'infinite'),
        ('2026-11-23T12:00:01Z', '2026-11-23T12:00:00Z'),
        ('2026-11-23T12:00:00Z', 'duration'),
        ('2026-11-23T12:00:00Z', 'duration', '1', 's'),
        ('2026-11-23T12:00:00Z', 'duration', '2147483647'),
        ('always', 'duration', '1'),
    ],
)
def test_words_are_refused_when_they_are_no_lifetime(words: tuple[str, ...]) -> None:
    with pytest.raises(WordError):
        lifetime(words)

"""Whatever a configuration file has wrong, an operator reads a sentence, never an exception."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from exabgp.configuration.configuration import Configuration
from exabgp.configuration.neighbor import ParseNeighbor

from plugin.configuration.ikev2_section import FAMILIES
from tests.plugin.texts import SECTION, neighbor

Write = Callable[[str], Path]

CHAIN = (
    'keychain core {\n'
    '    key 1 { send-id 1; recv-id 1; algorithm hmac-sha-1-96; key-file "r.psk"; }\n'
    '}\n'
)
TEXTS = (
    neighbor(),
    neighbor(
        multi_session=True,
        families='ipv4 unicast; ipv6 unicast; ipv4 mpls-vpn;',
        section=SECTION.replace('psk-file', 'session ipv4 unicast { source-port 9; } psk-file'),
        more='    static { route 10.1.0.0/24 next-hop 10.0.0.1; }\n    listen 1790;\n',
    ),
    CHAIN + neighbor(section='    keychain core;\n'),
    f'template {{ neighbor t {{ hold-time 30;\n{SECTION}}} }}\n'
    + neighbor(section='    inherit t;\n', families='ipv4 mcast-vpn; ipv4 flow;'),
)
WORDS = (
    '0',
    '-1',
    '65536',
    '"',
    'all',
    'auto',
    'x',
    '::1',
    'fe80::1%lo',
    'mpls-vpn',
    '{',
    '}',
    ';',
)
TOKEN = re.compile(r'"[^"]*"|[^\s{};]+|[{};]')
UNWORDED = re.compile(r'\w+Error\b|Exception|Traceback|NoneType|please report|object at')


def mutated(text: str, seed: int) -> str:
    """Up to three words taken out, put in, replaced or exchanged."""
    chance = random.Random(seed)
    words = TOKEN.findall(text)
    for _ in range(chance.randint(1, 3)):
        here, there = (chance.randrange(len(words)) for _ in range(2))
        match chance.randrange(4):
            case 0:
                del words[here]
            case 1:
                words.insert(here, words[there])
            case 2:
                words[here] = chance.choice(WORDS)
            case _:
                words[here], words[there] = words[there], words[here]
    return ' '.join(words)


def error_of(path: Path) -> str:
    """Why it is refused; empty if it isn't."""
    configuration = Configuration([str(path)])
    return '' if configuration.reload() is True else str(configuration.error)


@pytest.mark.parametrize('text', range(len(TEXTS)))
def test_error_is_a_sentence_when_words_are_wrong(text: int, write: Write) -> None:
    for seed in range(60):
        content = mutated(TEXTS[text], seed)
        said = error_of(write(content))
        assert not UNWORDED.search(said), (said, content)


@pytest.mark.parametrize('multi_session', [False, True])
def test_families_load_when_in_any_order(multi_session: bool, write: Write) -> None:
    """ExaBGP keeps them in an order of its own."""
    known = [*FAMILIES]
    for pair in (known, known[::-1], *pairwise(known), *pairwise(known[::-1])):
        families = ' '.join(f'{" ".join(family)};' for family in pair)
        assert error_of(write(neighbor(families=families, multi_session=multi_session))) == ''


def test_fault_of_a_parser_is_a_sentence_with_its_place(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise KeyError(frozenset())

    monkeypatch.setattr(ParseNeighbor, 'post', fail)
    path = write(neighbor())
    assert re.match(
        rf'{path} line \d+: the configuration cannot be understood from here on; please report '
        rf'this, with the lines above \(KeyError\(.*\) in fail, test_wording.py line \d+\)',
        error_of(path),
    )

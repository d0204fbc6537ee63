"""docs/configuration.md: every directive is in it with its true default, and its examples load, as
that of the README does."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
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

from gatekeeper.configuration.directive_table import TABLE
from gatekeeper.configuration.keychain_directives import CHAIN, KEY
from gatekeeper.tools.keygen import make_psk
from ikev2.proposals.policies import POLICIES
from lab.certificates import Authority
from plugin.configuration.environment import SECTION as ENVIRONMENT
from tcpao.mkt import ALGORITHMS
from tests.plugin.configuration.test_ikev2_section import load, with_ids
from tests.plugin.texts import neighbor

Write = Callable[[str], Path]
HOME = Path(__file__).resolve().parents[2]
PAGE = (HOME / 'docs' / 'configuration.md').read_text()
ROWS = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in PAGE.splitlines()
    if line.startswith('| `')
]


def rows_of(name: str) -> list[list[str]]:
    return [row for row in ROWS if re.search(rf'`{re.escape(name)}`', row[0])]


@pytest.mark.parametrize(
    'name', sorted({*TABLE, *CHAIN, *KEY, *POLICIES, *ALGORITHMS, 'exabgp.ikev2.port'})
)
def test_every_word_is_explained(name: str) -> None:
    assert rows_of(name)


@pytest.mark.parametrize('name', ENVIRONMENT)
def test_every_setting_of_the_environment_is_explained(name: str) -> None:
    assert rows_of(f'exabgp.ikev2.{name}')


@pytest.mark.parametrize('name', [n for n, row in TABLE.items() if row.default is not None])
def test_defaults_are_the_true_ones(name: str) -> None:
    value: Any = TABLE[name].default
    text = f'[ {" ".join(value)} ]' if isinstance(value, tuple) else str(value)
    assert rows_of(name)[0][-1] == f'`{text}`'


def examples(page: str = PAGE) -> Iterator[str]:
    """The indented blocks."""
    for block in re.findall(r'(?:^    .*\n|^\n)+', page, re.MULTILINE):
        if block.strip():
            yield block


@pytest.fixture
def files(tmp_path: Path) -> None:
    """Whatever the examples name."""
    for name in ('r1-r2.psk', 'r1-r2.ppk', 'core-1.key'):
        make_psk(tmp_path / name)
    peer = Ed25519PrivateKey.generate().public_key()
    public = peer.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / 'r2.pub').write_bytes(public)
    authority = Authority.new()
    own = authority.certify('r1', 'r1.lab')
    pem = own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / 'r1.pem').write_bytes(pem)
    (tmp_path / 'r1.pem').chmod(0o600)
    (tmp_path / 'r1.crt').write_bytes(own.chain)
    (tmp_path / 'ca.crl').write_bytes(authority.crls())
    for name in ('ca-2025.crt', 'ca-2026.crt'):
        (tmp_path / name).write_bytes(authority.trust_anchor)


def configurations() -> Iterator[str]:
    """Each example of a configuration in what it is an example of."""
    for block in examples():
        for text in re.split(r'\n\s*\n', block):
            match text.split()[:1]:
                case [] | ['openssl']:
                    pass
                case ['neighbor']:
                    yield text
                case ['keychain']:
                    yield text + neighbor(section='    keychain core;\n')
                case ['session']:
                    section = with_ids(f'psk-file r1-r2.psk;\n{text}\n')
                    families = 'ipv4 unicast; ipv6 unicast;'
                    yield neighbor(section=section, families=families, multi_session=True)
                case ['ppk-file']:
                    yield neighbor(section=with_ids(f'psk-file r1-r2.psk;\n{text}\n'))
                case _:
                    yield neighbor(section=with_ids(f'\n{text}\n'))


@pytest.mark.parametrize('text', list(configurations()))
def test_every_example_loads(text: str, write: Write, files: None) -> None:
    assert load(write(text)).neighbors


def test_examples_of_the_readme_load(write: Write, files: None) -> None:
    page = (HOME / 'README.md').read_text()
    texts = [block for block in examples(page) if block.split()[0] == 'neighbor']
    assert len(texts) == 2
    for text in texts:
        assert load(write(text)).neighbors


def test_documented_commands_make_a_ca_that_is_accepted(write: Write, tmp_path: Path) -> None:
    (commands,) = (block for block in examples() if block.split()[0] == 'openssl')
    subprocess.run(['sh', '-ec', commands], cwd=tmp_path, check=True, capture_output=True)
    words = 'private-key r1.pem; certificate r1.crt; trust-anchor ca.crt;'
    assert load(write(neighbor(section=with_ids(words)))).neighbors


def test_examples_are_found() -> None:
    assert len(list(configurations())) == 8


# --- the table of failures ----------------------------------------------------------------------


def failures() -> list[str]:
    """Return the failures of docs/operating.md: parts between dots, as they stand in the code."""
    text = (HOME / 'docs' / 'operating.md').read_text()
    table = text.partition('## Reading failures')[2].partition('\n## ')[0]
    rows = [line.split(' | ') for line in table.splitlines() if line.startswith('| ')]
    cells = [row[1].partition(' (')[0] for row in rows[1:]]
    return [part.strip(' ,') for cell in cells for part in re.split(r'\.\.\.|; ', cell)]


@pytest.fixture(scope='module')
def said() -> str:
    """The code's words, with string literals that go on in the next line put together."""
    folders = ('gatekeeper', 'ikev2', 'plugin', 'tcpao')
    files = [path for name in folders for path in (HOME / name).rglob('*.py')]
    code = '\n'.join(path.read_text() for path in files)
    return re.sub(r"""['"]\s*\n\s*f?['"]""", '', code)


@pytest.mark.parametrize('words', [words for words in failures() if words])
def test_table_of_failures_has_the_words_of_the_log(words: str, said: str) -> None:
    assert words in said or words in {os.strerror(errno.ECONNREFUSED)}

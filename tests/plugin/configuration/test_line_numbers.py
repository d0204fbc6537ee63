"""Errors name the line on which the faulty statement stands, as an editor counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from exabgp.configuration.configuration import Configuration
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.configuration.location import ConfigurationError
from plugin.configuration.line_numbers import Statement
from tests.plugin.texts import SECTION, neighbor

Write = Callable[[str], Path]


def error_of(path: Path) -> str:
    configuration = Configuration([str(path)])
    assert configuration.reload() is False
    return str(configuration.error)


def line_of(text: str, needle: str) -> int:
    (line,) = [n for n, line in enumerate(text.split('\n'), 1) if needle in line]
    return line


LAYOUTS = {
    'one statement a line': 'ikev2 {\n  local-id fqdn a;\n  lifetime 2;\n}\n',
    'several on a line': 'ikev2 { local-id fqdn a; lifetime 2; peer-id fqdn b;\n}\n',
    'comments and blank lines': '# x\n\nikev2 { # y\n\n\n  # lifetime; {\n  lifetime 2; # z\n}\n',
    'after a continuation': 'ikev2 {\n  algorithm [ hmac-sha-1-96 \\\n   aes-128-cmac-96 ];\n'
    '  lifetime 2;\n}\n',
    'inside a continuation': 'ikev2 {\n  local-id fqdn a; \\\n  grace 7; lifetime \\\n  2;\n}\n',
    'after a quoted hash': 'ikev2 {\n  local-id key-id "a#b;{";\n\n  lifetime 2;\n}\n',
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_error_has_the_line_of_a_faulty_directive(write: Write, layout: str) -> None:
    text = '\n# head\n' + neighbor(section=LAYOUTS[layout])
    path = write(text)
    needle = 'lifetime 2' if 'inside' not in layout else 'grace 7; lifetime'
    expected = f'{path} line {line_of(text, needle)}: ikev2 lifetime: 2 is too small'
    assert error_of(path).startswith(expected)


def test_error_has_the_line_of_a_faulty_template_directive(write: Write) -> None:
    text = (
        'template {\n  neighbor base {\n    hold-time 30;\n\n    ikev2 {\n'
        '      lifetime 2;\n    }\n  }\n}\n' + neighbor(section='    inherit base;\n')
    )
    path = write(text)
    assert error_of(path).startswith(f'{path} line 6: ikev2 lifetime')


def test_error_has_the_line_of_its_section_when_a_word_misses(write: Write) -> None:
    text = '#\n' * 3 + neighbor(section='    ikev2 { local-id fqdn a;\n }\n')
    path = write(text)
    error = error_of(path)
    assert error.startswith(f'{path} line {line_of(text, "ikev2")}: ikev2: incomplete, peer-id')


def test_error_has_the_line_of_the_directive_of_a_key_file(write: Write) -> None:
    text = neighbor(
        section='    ikev2 {\n local-id fqdn a; peer-id fqdn b;\n\n psk-file "none";\n }\n'
    )
    path = write(text)
    error = error_of(path)
    assert error.startswith(f'{path} line {line_of(text, "psk-file")}: ikev2 psk-file: cannot read')


def test_exabgps_own_errors_have_the_true_line(write: Write) -> None:
    text = '# one\n\n# three\n' + neighbor(section='', more='\n\n    bogus 1;\n')
    assert f'line {line_of(text, "bogus")}: bogus 1 ;' in error_of(write(text))


UNFINISHED: dict[str, tuple[str, str, str]] = {
    # name: (the section's words, a word on the line that must be named, what must be said)
    'a semicolon forgotten': (
        'local-id fqdn a;\n peer-id fqdn b\n lifetime 20;',
        'peer-id',
        'peer-id: the statement does not end; expected ; or {',
    ),
    'a semicolon forgotten before the closing brace': (
        'local-id fqdn a; grace 7\n',
        'grace',
        'grace: the statement does not end',
    ),
    'a quote forgotten': ('local-id fqdn "a;', 'local-id', 'local-id: a quote is not closed'),
    'a statement on two lines': (
        'local-id fqdn a;\n peer-id fqdn\n  b;',
        'peer-id',
        'peer-id: the statement does not end',
    ),
    'after a continuation': (
        'local-id fqdn a; \\\n grace \\\n 7; lifetime 9\n',
        'lifetime',
        'lifetime: the statement does not end',
    ),
    'a bad escape': ('local-id fqdn "\\u12";', 'local-id', 'invalid \\u escape sequence'),
}


@pytest.mark.parametrize('name', UNFINISHED)
def test_error_has_file_line_and_directive_at_no_statement(name: str, write: Write) -> None:
    words, word, said = UNFINISHED[name]
    text = '# head\n\n' + neighbor(section=f'  ikev2 {{\n {words}\n  }}\n')
    path = write(text)
    error = error_of(path)
    assert error.startswith(f'{path} line {line_of(text, word)}: ')
    assert said in error


def test_unfinished_statement_keeps_its_secrets(write: Write) -> None:
    path = write(neighbor(section='', more='    md5-password "hunter2"\n'))
    assert error_of(path).startswith(f'{path} line 7: md5-password: the statement does not end')
    assert 'hunter2' not in error_of(path)


def test_octets_that_are_no_text_are_told_with_their_line(write: Write) -> None:
    text = '# one\n' * 3000 + neighbor()
    path = write(text)
    path.write_bytes(text.encode().replace(b'r1.lab', b'r\xe9.lab'))
    line = line_of(text, 'r1.lab')
    assert error_of(path).startswith(f'{path} line {line}: character: the octet 0xe9 is no text')


MISPLACED: dict[str, tuple[str, str]] = {
    'at the top': ('ikev2 {\n}\n' + neighbor(section=''), 'in no block'),
    'a statement, no block': (neighbor(section='    ikev2;\n'), 'in neighbor'),
    'in another block': (neighbor(section='', families='ipv4 unicast;\n ikev2 { }\n'), 'family'),
    'in capitals': (neighbor(section=SECTION.replace('ikev2', 'IKEv2')), 'in neighbor'),
}


@pytest.mark.parametrize('name', MISPLACED)
def test_misplaced_section_is_told_where_it_belongs(name: str, write: Write) -> None:
    text, where = MISPLACED[name]
    path = write(text)
    line = next(n for n, line in enumerate(text.split('\n'), 1) if 'ikev2' in line.lower())
    word = 'IKEv2' if name == 'in capitals' else 'ikev2'
    error = error_of(path)
    assert error.startswith(f'{path} line {line}: {word}: it does not belong here, in')
    assert where in error
    assert error.endswith(
        'expected ikev2 { ... } directly inside a neighbor, or a neighbor of a template'
    )


@pytest.mark.parametrize(
    'words', ['local-id fqdn a;', 'source-port 40001;', 'session ipv4 unicast { }']
)
def test_misplaced_directive_is_told_where_it_belongs(words: str, write: Write) -> None:
    text = neighbor(more=f'    {words} # here\n')
    path = write(text)
    error = error_of(path)
    assert error.startswith(f'{path} line {line_of(text, "# here")}: {words.split()[0]}: ')
    assert 'inside ikev2 { ... }' in error


def test_exabgps_own_errors_name_the_file(write: Write) -> None:
    path = write(neighbor(section='').replace('65002', 'x'))
    assert f'{path} line 5: peer-as x ;' in error_of(path)
    assert error_of(write('# nothing\n')).startswith(f'{path}: ')


@given(st.lists(st.sampled_from(['a b;', '', '# c', 'x "#;" y;', 'p; q r;', 'u \\', 's {', '}'])))
def test_every_statement_has_the_line_on_which_it_begins(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    # A continued line needs something to continue with that ends the statement.
    numbered = [
        f'{line} v;' if lines[i - 1 : i] == ['u \\'] else line for i, line in enumerate(lines)
    ]
    if numbered and numbered[-1].endswith('\\'):
        numbered.append(' v;')
    path = tmp_path_factory.mktemp('lines') / 'file'
    path.write_text('\n'.join(numbered) + '\n')
    configuration = Configuration([str(path)])
    tokeniser = configuration.tokeniser
    seen = []
    try:
        if not tokeniser.set_file(str(path)):
            return
        while tokeniser():
            seen.append(tokeniser.line)
    except ConfigurationError:
        return  # no configuration: words without an end
    assert all(isinstance(statement, Statement) for statement in seen)
    found = [statement.line for statement in seen]
    assert found == sorted(found)
    for statement in seen:
        first = next(word for word in statement if word)
        assert first.split()[0][0] in numbered[statement.line - 1]

"""A row is all that a new word takes."""

from __future__ import annotations

import argparse

import pytest

from gatekeeper.configuration import values
from gatekeeper.configuration.credentials import DirectiveError, load
from gatekeeper.configuration.directive_table import TABLE, Directive, Role, Where
from gatekeeper.configuration.directives import StatementsBuilder
from gatekeeper.configuration.location import Location
from gatekeeper.configuration.session_settings import value_of
from gatekeeper.configuration.statements import SectionStatements
from gatekeeper.tools.probe.options import add_options
from ikev2.authentication.identity import Identity
from keymaterial import Secret

HERE = Location('r1.conf', 7)
NAME = 'token'


class NoFiles:
    """Nothing is read."""

    def secret(self, directive: str, path: str) -> Secret:
        raise AssertionError(path)

    def public(self, directive: str, path: str, largest: int) -> bytes:
        raise AssertionError(path)


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Directive:
    """A word that there is not."""
    made = Directive(
        NAME,
        values.number(1, 9, 'a digit'),
        Role.CREDENTIAL,
        Where.BOTH,
        default=5,
        excludes=frozenset({'psk-file'}),
        needs='ppk-file',
        offer='something new',
        placeholder='DIGIT',
    )
    monkeypatch.setitem(TABLE, NAME, made)
    return made


def section(*statements: str) -> SectionStatements:
    builder = StatementsBuilder(HERE)
    for statement in statements:
        builder.add(statement.split(), HERE)
    return builder.build()


def test_word_is_parsed_in_the_section_and_in_a_session(row: Directive) -> None:
    builder = StatementsBuilder(HERE)
    session = builder.begin_session(('ipv4', 'unicast'), HERE, (('ipv4', 'unicast'),))
    session.add((NAME, '7'), HERE)
    builder.add((NAME, '3'), HERE)
    built = builder.build()
    inside = built.sessions['ipv4', 'unicast']
    assert (built.directives[NAME].value, inside.directives[NAME].value) == (3, 7)


def test_default_counts_when_the_word_is_missing(row: Directive) -> None:
    assert value_of(section(), NAME) == row.default
    assert value_of(section(f'{NAME} 3'), NAME) == 3


def test_inherited_words_go_when_it_excludes_them(row: Directive) -> None:
    merged = section(f'{NAME} 3').over(section('psk-file x', 'lifetime 60'))
    assert set(merged.directives) == {NAME, 'lifetime'}


def test_word_goes_when_a_keychain_is_inherited_over(row: Directive) -> None:
    merged = section('keychain core').over(section(f'{NAME} 3', 'grace 9'))
    assert set(merged.directives) == {'keychain', 'grace'}


def test_word_is_refused_without_what_it_needs(row: Directive) -> None:
    said = {NAME: 3, 'psk-file': 'x'}
    us = Identity.parse('fqdn', 'r1.lab')
    with pytest.raises(DirectiveError, match='nothing without ppk-file'):
        load(said, NoFiles(), local_id=us, peer_id=us, at=0.0)


def test_probe_offers_the_word(row: Directive) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    said = ['10.0.0.2', '--local-id', 'fqdn', 'a', '--peer-id', 'fqdn', 'b', '--token', '3']
    assert parser.parse_args(said).token == 3
    assert f'--{NAME} {row.placeholder}' in parser.format_help()

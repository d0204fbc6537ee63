"""The words of docstrings, comments, documents and names, as far as a script can judge them.

tests/words.py says which rules these are, and what is left to a reviewer.
"""

from __future__ import annotations

import re

import pytest

from tests.words import (
    MAX_SENTENCE,
    MAX_TEST_NAME,
    PACKAGES,
    Docstring,
    Text,
    bad_words,
    coined_names,
    compared_texts,
    docstrings,
    documents,
    faults,
    has_no_subject,
    names_of_tests,
    prose,
    silent_folders,
)

NO_SUBJECT = re.compile(r'test_(an?|the|it|they|what|whose?|how|that|this|of|as|when|if)_')


@pytest.mark.parametrize('package', PACKAGES)
def test_docstring_is_a_sentence_in_plain_words(package: str) -> None:
    found = {text.place: faults(text) for text in docstrings(package)}
    assert not {place: why for place, why in found.items() if why}


def test_docstring_of_tests_names_its_subject() -> None:
    assert not [text.place for text in docstrings('tests') if has_no_subject(text)]


@pytest.mark.parametrize('package', [*PACKAGES, 'tests'])
def test_prose_of_code_has_no_unclear_word(package: str) -> None:
    found = {text.place: bad_words(text) for text in prose(package)}
    assert not {place: words for place, words in found.items() if words}


def test_document_has_no_unclear_word() -> None:
    found = {text.place: bad_words(text) for text in documents()}
    assert not {place: words for place, words in found.items() if words}


@pytest.mark.parametrize('package', PACKAGES)
def test_code_has_no_coined_name(package: str) -> None:
    assert not list(coined_names(package))


@pytest.mark.parametrize('package', PACKAGES)
def test_folder_says_what_is_in_it(package: str) -> None:
    assert not list(silent_folders(package))


@pytest.mark.parametrize('package', PACKAGES)
def test_code_compares_no_errors_text(package: str) -> None:
    assert not list(compared_texts(package))


def test_names_of_tests_are_at_most_60_characters() -> None:
    assert not [name for name in names_of_tests() if len(name.rpartition(':')[2]) > MAX_TEST_NAME]


def test_names_of_tests_begin_with_their_subject() -> None:
    assert not [name for name in names_of_tests() if NO_SUBJECT.match(name.rpartition(':')[2])]


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('The keys.', 'begins with "The"'),
        ('Returns the keys.', 'begins with "Returns"'),
        ('Waiting for keys.', 'begins with "Waiting"'),
        ('Closed by the peer.', 'begins with "Closed"'),
        ('return the keys.', 'begins with "r"'),
        ('Return the keys', 'has no end'),
        (f'Return {"many " * MAX_SENTENCE}keys.', f'has more than {MAX_SENTENCE} words'),
    ],
)
def test_fault_is_found_in_a_functions_docstring(text: str, why: str) -> None:
    assert [one.startswith(why) for one in faults(Docstring('', text, True))] == [True]


@pytest.mark.parametrize('text', ['Bring the keys.', 'Pass keys (as they are).', 'Process:\n\n- a'])
def test_no_fault_is_found_in_a_plain_docstring(text: str) -> None:
    assert not faults(Docstring('', text, True))


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('Nobody hears a Stranger.', ['Nobody', 'hears', 'Stranger']),
        ('the user `nobody`, and nobody_else', []),
        ('a keyid of tcp-ao, an Mkt', ['keyid', 'tcp-ao', 'Mkt']),
        ("`tcp-ao`, tcp-ao.md, isn't, bgp(), udp.py, -tcp, the KeyID.", []),
    ],
)
def test_unclear_word_is_found_outside_code(text: str, words: list[str]) -> None:
    assert bad_words(Text('', text)) == words

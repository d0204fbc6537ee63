"""The questions of `gatekeeper init`, and the answers that it refuses."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gatekeeper.tools.errors import ToolError
from gatekeeper.tools.init.questions import LARGEST_AS, QUESTIONS, Question, answers_of

GIVEN: dict[str, str | None] = {
    'local-name': 'r1.lab',
    'peer-name': 'r2.lab',
    'local-address': '10.0.0.1',
    'peer-address': '10.0.0.2',
    'local-as': '65001',
    'peer-as': '65002',
    'credential': 'psk',
}
FAMILIES = ['ipv4 unicast']


def test_answers_need_no_question_when_options_say_all() -> None:
    answers = answers_of(GIVEN, FAMILIES, None)
    assert (answers.local.name, answers.peer.number) == ('r1.lab', 65002)
    assert answers.local.router_id == ip_address('10.0.0.1')


def test_question_is_asked_only_when_no_option_answers_it() -> None:
    asked: list[str] = []

    def ask(question: Question, fault: str) -> str:
        asked.append(question.option)
        return '65001'

    answers_of(GIVEN | {'local-as': None}, FAMILIES, ask)
    assert asked == ['local-as']


def test_empty_answer_is_the_default() -> None:
    answers = answers_of(GIVEN | {'credential': None}, FAMILIES, lambda question, fault: '')
    assert answers.credential == 'psk'


def test_question_is_asked_again_when_its_answer_is_none() -> None:
    typed = iter(['10.0.0.300', '', '10.0.0.7'])
    faults: list[str] = []

    def ask(question: Question, fault: str) -> str:
        faults.append(fault)
        return next(typed)

    answers = answers_of(GIVEN | {'local-address': None}, FAMILIES, ask)
    assert str(answers.local.address) == '10.0.0.7'
    assert [bool(fault) for fault in faults] == [False, True, True]
    assert '10.0.0.300' in faults[1]


def test_missing_options_are_all_named_without_a_terminal() -> None:
    with pytest.raises(ToolError) as error:
        answers_of({}, FAMILIES, None)
    assert all(f'--{question.option}' in str(error.value) for question in QUESTIONS)


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('local-name', 'r1"; }'),
        ('local-name', '-r1'),
        ('local-address', '10.0.0.256'),
        ('local-address', '0.0.0.0'),
        ('local-address', '224.0.0.5'),
        ('local-as', '0'),
        ('local-as', str(LARGEST_AS + 1)),
        ('local-as', '\uff11'),
        ('credential', 'md5'),
    ],
)
def test_bad_value_is_refused_with_its_option(option: str, value: str) -> None:
    with pytest.raises(ToolError, match=f'--{option}'):
        answers_of(GIVEN | {option: value}, FAMILIES, None)


@pytest.mark.parametrize(
    ('option', 'value'),
    [('peer-address', '10.0.0.1'), ('peer-name', 'r1.lab'), ('peer-address', 'fd00::2')],
)
def test_ends_are_refused_when_they_do_not_match(option: str, value: str) -> None:
    with pytest.raises(ToolError):
        answers_of(GIVEN | {option: value}, FAMILIES, None)


def test_routers_of_ipv6_have_identifiers_of_their_own() -> None:
    given = GIVEN | {'local-address': 'fd00::1', 'peer-address': 'fd00::2'}
    answers = answers_of(given, FAMILIES, None)
    assert answers.local.router_id != answers.peer.router_id

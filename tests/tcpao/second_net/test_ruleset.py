"""The text of the second net."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tcpao.second_net.ruleset import Service, number_of, removal, script, table_name

V4: Service = (ip_address('10.0.0.2'), 179)
V6: Service = (ip_address('fd00::2'), 179)


def test_service_is_an_element_of_its_familys_set() -> None:
    text = script(3, [V6, V4, (V4[0], 1179)])
    assert 'elements = { 10.0.0.2 . 179, 10.0.0.2 . 1179 }' in text
    assert 'elements = { fd00::2 . 179 }' in text


def test_family_has_no_rules_when_it_has_no_services() -> None:
    assert 'ip6' not in script(3, [V4])


def test_table_is_deleted_when_there_is_no_service() -> None:
    assert script(3, ()).splitlines() == removal([3])


def test_leftover_tables_go_in_the_same_transaction() -> None:
    text = script(3, [V4], without=[7])
    assert f'delete table inet {table_name(7)}' in text
    assert text.index(table_name(7)) < text.index('elements')


@pytest.mark.parametrize('number', [0, 255])
def test_number_is_read_from_a_table_name(number: int) -> None:
    assert number_of(table_name(number)) == number


@pytest.mark.parametrize(
    'name', ['exabgp-gatekeeper-queue-1', 'exabgp-gatekeeper-net-', 'exabgp-gatekeeper-net-1x', '']
)
def test_other_tables_have_no_number(name: str) -> None:
    assert number_of(name) is None

"""The comparison of plain ExaBGP with ours: what it reads, answers and counts as the same."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lab.upstream.encoding import Neighbors, compare
from lab.upstream.protecting import prepare, protected
from lab.upstream.recorder import Conversation, answer_to
from lab.upstream.ways import Way

TEXT = """
template { neighbor shared { peer-as 65001; } }
neighbor 127.0.0.1 { inherit shared; local-address 127.0.0.1; local-as 65000; peer-as 65001; }
"""
OPEN = struct.pack('!BHHI', 4, 65000, 180, 0x0A000001)


def four_octet_as(number: int) -> bytes:
    capability = bytes([65, 4]) + number.to_bytes(4)
    return bytes([2, len(capability)]) + capability


def with_length(parameters: bytes) -> bytes:
    return bytes([len(parameters)]) + parameters


@pytest.mark.parametrize(('number', 'short'), [(65001, 65001), (70000, 23456)])
def test_open_has_the_peers_as_when_it_is_external(number: int, short: int) -> None:
    answer = answer_to(OPEN + with_length(four_octet_as(65000)), number)
    assert struct.unpack_from('!H', answer, 1) == (short,)
    assert answer.endswith(four_octet_as(number))
    assert answer[5:9] != OPEN[5:9]


def test_open_changes_only_its_router_id_when_as_is_unknown() -> None:
    body = OPEN + with_length(four_octet_as(65000))
    assert answer_to(body, None)[:5] + answer_to(body, None)[9:] == body[:5] + body[9:]


def test_addresses_are_of_neighbors_when_there_are_templates() -> None:
    found = Neighbors.of(TEXT.replace('65001; } }', '65002; } }'))
    assert found.addresses == {'127.0.0.1'}
    assert found.md5 is None


def test_twin_has_the_keychain_when_an_example_is_protected(tmp_path: Path) -> None:
    folder = tmp_path / 'etc'
    (folder / 'run').mkdir(parents=True)
    (folder / 'one.conf').write_text(TEXT)
    (moved,) = prepare([folder / 'one.conf'], tmp_path / 'moved')
    twin = protected(moved).read_text()
    assert twin.count('keychain suites;') == 1
    assert 'neighbor 127.0.0.2 {' in twin
    assert 'family {' in moved.read_text()


def sent(*runs: list[tuple[int, bytes]], cut: bool = False) -> list[list[Conversation]]:
    return [[Conversation(messages, is_cut=cut)] for messages in runs]


A, B = (2, b'a'), (2, b'b')


@pytest.mark.parametrize(
    ('plain', 'hooks', 'rows'),
    [
        (sent([A, B]), sent([A, B]), 0),
        (sent([A, B]), sent([B, A]), 1),
        (sent([A, B], [B, A]), sent([B, A], [B, A]), 0),
        (sent([A, B]), sent([A]), 1),
        (sent([A, B], cut=True), sent([A], cut=True), 0),
        (sent([]), [[]], 1),
    ],
)
def test_row_differs_when_one_way_never_sent_the_same(
    plain: list[list[Conversation]], hooks: list[list[Conversation]], rows: int
) -> None:
    result = compare({'one.conf': {Way.PLAIN: plain, Way.HOOKS: hooks}})
    assert len(result.differences) == rows

"""Captures that begin when the connection is up already: verifiable if its ISNs are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tcpao.verification.connection import GivenIsns
from tcpao.verification.known_keys import parse_known_keys
from tcpao.verification.report import Report, verify_capture
from tcpao.verification.segment import Flag
from tests.tcpao.verification.test_verify import counts
from tests.tcpao.wire import ENDS, SPACE, Key, Talk, write_pcap


def isns(talk: Talk, **changes: int) -> GivenIsns:
    client, server = ENDS[talk.version]
    return GivenIsns(
        client=(client, talk.client_port),
        server=(server, talk.server_port),
        client_isn=changes.get('client_isn', talk.client_isn % SPACE),
        server_isn=changes.get('server_isn', talk.server_isn % SPACE),
    )


def verified(tmp_path: Path, packets: list[bytes], *given: GivenIsns) -> Report:
    known = parse_known_keys(json.dumps([Key(1, 2).known(send_id=1, recv_id=2)]).encode())
    return verify_capture(write_pcap(tmp_path / 'capture', packets), known, given)


@pytest.mark.parametrize('version', [4, 6])
@pytest.mark.parametrize('server_first', [True, False])
def test_segment_verifies_when_the_isns_are_given(
    tmp_path: Path, version: int, server_first: bool
) -> None:
    talk = Talk(version).open()
    held = len(talk.packets)
    talk.say(not server_first).say(server_first)
    report = verified(tmp_path, talk.packets[held:], isns(talk))
    assert counts(report) == (2, 0, 0, 0)
    (connection,) = report.to_json()['connections']
    assert connection['client'].endswith(':40001'), 'who opened it is as given'


def test_segment_is_unverifiable_when_isns_are_missing(tmp_path: Path) -> None:
    talk = Talk().open().say(True)
    assert counts(verified(tmp_path, talk.packets[2:])) == (0, 0, 0, 2)


def test_segment_is_not_good_when_the_isns_are_wrong(tmp_path: Path) -> None:
    talk = Talk().open().say(True)
    report = verified(tmp_path, talk.packets[2:], isns(talk, client_isn=7))
    assert counts(report) == (0, 2, 0, 0)


def test_isns_of_another_connection_are_not_used(tmp_path: Path) -> None:
    talk = Talk().open().say(True)
    other = isns(Talk(client_port=40002))
    assert counts(verified(tmp_path, talk.packets[2:], other)) == (0, 0, 0, 2)


def test_wraps_before_the_capture_are_found(tmp_path: Path) -> None:
    """The ISNs don't tell how many times 4 GiB have passed."""
    talk = Talk().open()
    talk.sent = {True: 1001 + 3 * SPACE, False: 2001 + (1 << 31) + 5}
    talk.say(True).say(False).say(True)
    report = verified(tmp_path, talk.packets[3:], isns(talk))
    assert counts(report) == (3, 0, 0, 0)
    assert report.to_json()['connections'][0]['sne_wraps'] == {'client': 3, 'server': 0}


def test_forged_segment_does_not_end_the_search(tmp_path: Path) -> None:
    talk = Talk().open()
    talk.sent[True] = 1001 + 2 * SPACE
    talk.segment(True, Flag.ACK, b'x', key=Key(1, 2, b'guess'))
    talk.say(True)
    report = verified(tmp_path, talk.packets[3:], isns(talk))
    assert counts(report) == (1, 1, 0, 0)


def test_sne_is_kept_when_it_was_found(tmp_path: Path) -> None:
    talk = Talk().open()
    talk.sent[True] = 1001 + 2 * SPACE
    talk.say(True)
    talk.segment(True, Flag.ACK, b'x', sequence=talk.sent[True] + SPACE)
    report = verified(tmp_path, talk.packets[3:], isns(talk))
    assert counts(report) == (1, 1, 0, 0)


def test_syn_ack_tells_the_isn_of_the_syn(tmp_path: Path) -> None:
    talk = Talk().open().say(True).say(False)
    report = verified(tmp_path, talk.packets[1:])
    assert counts(report) == (4, 0, 0, 0)
    (connection,) = report.to_json()['connections']
    assert connection['client'] == '10.0.0.1:40001'


def test_syn_verifies_when_the_isn_of_its_answer_is_given(tmp_path: Path) -> None:
    talk = Talk().open().say(True)
    lacking = [talk.packets[0], *talk.packets[2:]]
    assert counts(verified(tmp_path, lacking)) == (1, 0, 0, 2)
    assert counts(verified(tmp_path, lacking, isns(talk))) == (3, 0, 0, 0)


def test_later_connection_of_the_pair_has_its_own_isns(tmp_path: Path) -> None:
    first, second = Talk().open().say(True), Talk(client_isn=77, server_isn=88).open()
    report = verified(tmp_path, first.packets[2:] + second.packets, isns(first))
    assert counts(report) == (5, 0, 0, 0)
    assert [c['good'] for c in report.to_json()['connections']] == [2, 3]

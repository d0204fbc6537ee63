"""Why a MAC fails: each mistake that implementations make is named, and nothing is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tcpao.verification.segment import Flag
from tests.tcpao.verification.test_verify import counts, verified
from tests.tcpao.wire import SPACE, Key, Mistake, Talk

KEY = Key(1, 17)
# A segment of a connection under way carries timestamps, so the options flag shows.
GIVEN = KEY.known(send_id=1, recv_id=17, tcp_options=True)


def remedies(tmp_path: Path, talk: Talk, *keys: dict[str, Any]) -> list[str | None]:
    report = verified(tmp_path, talk.packets, *keys)
    (connection,) = report.to_json()['connections']
    found = [problem['remedy'] for problem in connection['problems']]
    text = report.to_text()
    assert all(remedy in text for remedy in found if remedy is not None)
    return found


def one_wrong(**how: Any) -> Talk:
    """Three good segments of the handshake, then one from the client made with a mistake."""
    talk = Talk(key=KEY).open()
    talk.segment(True, Flag.ACK, b'route', **how)
    return talk


@pytest.mark.parametrize(
    ('how', 'words'),
    [
        (
            {'key': Key(1, 17, tcp_options=False)},
            'would be good with TCP options excluded from the MAC',
        ),
        (
            {'mistake': Mistake(other_direction=True)},
            'would be good with the traffic key of the other direction',
        ),
        ({'mistake': Mistake(sne=1)}, 'would be good with SNE 1 instead of 0'),
        (
            {'mistake': Mistake(syn_key=True)},
            "would be good with the SYN's traffic key (the other ISN taken as 0)",
        ),
        (
            {'mistake': Mistake(mac_length=8)},
            'would be good with a MAC of 8 octets, truncated',
        ),
        (
            {'mistake': Mistake(mac_length=20)},
            'would be good with a MAC of 20 octets, not truncated',
        ),
        (
            {'key': Key(1, 17, algorithm='aes-128-cmac-96')},
            'would be good as aes-128-cmac-96',
        ),
        (
            {
                'key': Key(1, 17, tcp_options=False),
                'mistake': Mistake(other_direction=True),
            },
            'would be good with TCP options excluded from the MAC and with the traffic key of the '
            'other direction',
        ),
    ],
)
def test_diagnosis_names_the_mistake(tmp_path: Path, how: dict[str, Any], words: str) -> None:
    talk = one_wrong(**how)
    assert counts(verified(tmp_path, talk.packets, GIVEN)) == (3, 1, 0, 0)
    assert remedies(tmp_path, talk, GIVEN) == [words]


def test_diagnosis_names_the_inverted_options_flag(tmp_path: Path) -> None:
    talk = Talk(key=KEY).open()
    given = KEY.known(send_id=1, recv_id=17, tcp_options=False)
    assert (
        remedies(tmp_path, talk, given)
        == ['would be good with TCP options included in the MAC'] * 3
    )


@pytest.mark.parametrize(
    ('given', 'used', 'words'),
    [
        (
            'hmac-sha-256-128',
            'hmac-sha256-128-hkdf',
            'would be good with the other KDF of this MAC: as hmac-sha256-128-hkdf',
        ),
        (
            'hmac-sha256-128-hkdf',
            'hmac-sha-256-128',
            'would be good with the other KDF of this MAC: as hmac-sha-256-128',
        ),
        (
            'hmac-sha-256-128',
            'hmac-sha-256-96',
            'would be good with a MAC of 12 octets: as hmac-sha-256-96',
        ),
    ],
)
def test_diagnosis_tells_the_two_suites_of_one_name_apart(
    tmp_path: Path, given: str, used: str, words: str
) -> None:
    """Two incompatible suites answer to HMAC-SHA256-128."""
    talk = Talk(key=Key(1, 17, algorithm=used)).open()
    key = Key(1, 17, algorithm=given).known(send_id=1, recv_id=17, tcp_options=True)
    assert remedies(tmp_path, talk, key) == [words] * 3


def test_diagnosis_names_another_id(tmp_path: Path) -> None:
    other = Key(5, 6, b'other')
    talk = one_wrong(key=Key(1, 17, b'other'))
    given = other.known(send_id=5, recv_id=6, tcp_options=True)
    assert remedies(tmp_path, talk, GIVEN, given) == [
        'would be good under the key with SendID 5 and RecvID 6'
    ]


def test_diagnosis_names_ids_in_the_wrong_direction(tmp_path: Path) -> None:
    """The list of keys as the side that accepted the connection sees it."""
    talk = Talk(key=KEY).open()
    report = verified(tmp_path, talk.packets, KEY.known(send_id=17, recv_id=1, tcp_options=True))
    assert counts(report) == (0, 0, 0, 3)
    assert {p['remedy'] for c in report.to_json()['connections'] for p in c['problems']} == {
        'would be good under the key with SendID 17 and RecvID 1, taken the other way round'
    }


def test_diagnosis_names_a_key_for_other_ends(tmp_path: Path) -> None:
    talk = Talk(key=KEY).open()
    given = KEY.known(local='10.0.0.2:179', remote='10.0.0.1:40001')
    assert set(remedies(tmp_path, talk, given)) == {
        'would be good under a key that is given for other ends'
    }


def test_diagnosis_names_an_sne_that_was_never_counted_up(tmp_path: Path) -> None:
    talk = Talk(client_isn=SPACE - 3, key=KEY).open().say(True, b'over the wrap')
    talk.segment(True, Flag.ACK, b'more', mistake=Mistake(sne=0))
    assert remedies(tmp_path, talk, GIVEN) == ['would be good with SNE 0 instead of 1']


def test_search_is_right_when_a_segment_precedes_octet_one(tmp_path: Path) -> None:
    """The SNE of that segment is 2**32 - 1, and there is no next one."""
    talk = Talk(key=KEY).open()
    talk.segment(True, Flag.ACK, b'x', sequence=1001 + (1 << 31), mistake=Mistake(sne=7))
    assert remedies(tmp_path, talk, GIVEN) == [None]


def test_forged_segment_has_no_remedy(tmp_path: Path) -> None:
    assert remedies(tmp_path, one_wrong(key=Key(1, 17, b'guess')), GIVEN) == [None]


def test_few_octets_of_mac_are_no_evidence(tmp_path: Path) -> None:
    assert remedies(tmp_path, one_wrong(mistake=Mistake(mac_length=4)), GIVEN) == [None]
    assert remedies(tmp_path, one_wrong(mistake=Mistake(mac_length=0)), GIVEN) == [None]


def test_remedy_changes_no_verdict(tmp_path: Path) -> None:
    talk = one_wrong(mistake=Mistake(other_direction=True))
    report = verified(tmp_path, talk.packets, GIVEN)
    report.to_json()
    assert counts(report) == (3, 1, 0, 0)
    assert not report.passed()


def test_search_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture full of garbage and a long list of keys can't keep the tool busy for ever."""
    tried = 0

    def count(*arguments: object) -> bool:
        nonlocal tried
        tried += 1
        return False

    monkeypatch.setattr('tcpao.verification.diagnosis._fits', count)
    monkeypatch.setattr('tcpao.verification.diagnosis.MOST_TRIALS', 50)
    talk = Talk(key=KEY).open()
    for _ in range(30):
        talk.segment(True, Flag.ACK, b'x', key=Key(1, 17, b'guess'))
    keys = [Key(n, n, bytes([n])).known() for n in range(1, 40)]
    report = verified(tmp_path, talk.packets, GIVEN, *keys)
    report.to_json()
    assert tried == 50

"""One socket pair, signed and unsigned: a forged handshake is no cover for what is forged next.

An unsigned segment inside a connection that has TCP-AO is bad, a SYN too; another connection is one
that a MAC vouches for, or one that begins when the signed one has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tcpao.verification.segment import Flag
from tests.tcpao.verification.test_mid_connection import isns
from tests.tcpao.verification.test_mid_connection import verified as verified_with_isns
from tests.tcpao.verification.test_verify import counts, problems, verified
from tests.tcpao.wire import Key, Talk


def finish(talk: Talk) -> Talk:
    talk.segment(True, Flag.FIN | Flag.ACK)
    talk.segment(False, Flag.FIN | Flag.ACK)
    talk.segment(True, Flag.ACK)
    return talk


def reset(talk: Talk) -> Talk:
    talk.segment(False, Flag.RST | Flag.ACK)
    return talk


ENDINGS = pytest.mark.parametrize('end', [finish, reset])


@ENDINGS
def test_unprotected_connection_is_its_own_after_a_protected_one(
    tmp_path: Path, end: Callable[[Talk], Talk]
) -> None:
    first = end(Talk().open())
    second = Talk(key=None, client_isn=77, server_isn=88).open().say(True).say(False)
    finish(second)
    report = verified(tmp_path, first.packets + second.packets, Key(1, 2).known())
    assert counts(report) == (len(first.packets), 0, len(second.packets), 0)
    assert report.passed()


@ENDINGS
def test_refused_unprotected_connection_is_its_own(
    tmp_path: Path, end: Callable[[Talk], Talk]
) -> None:
    first, second = end(Talk().open()), Talk(key=None, client_isn=77, server_isn=88)
    second.segment(True, Flag.SYN)
    second.segment(False, Flag.RST | Flag.ACK)
    report = verified(tmp_path, first.packets + second.packets, Key(1, 2).known())
    assert counts(report) == (len(first.packets), 0, 2, 0)


def inject(talk: Talk) -> int:
    """Unsigned segments of both ends that fit the connection; how many."""
    for from_client in (True, False):
        due = talk.sent[from_client]
        talk.segment(from_client, Flag.ACK | Flag.PSH, b'forged', sequence=due, unsigned=True)
        talk.segment(from_client, Flag.RST, sequence=due, unsigned=True)
    return 4


def handshake(**talk: Any) -> list[bytes]:
    """A forged one, of the same socket pair."""
    return Talk(key=None, **talk).open().packets


@pytest.mark.parametrize('held', [2, 3], ids=['SYN and SYN-ACK', 'whole'])
@pytest.mark.parametrize(
    ('client_isn', 'server_isn'),
    [(77, 88), (1001, 2001), (0xDEADBEEF, 0x8BADF00D)],
    ids=['near', 'next', 'far'],
)
def test_unsigned_segments_are_bad_when_a_handshake_is_forged(
    tmp_path: Path, held: int, client_isn: int, server_isn: int
) -> None:
    talk = Talk().open().say(True).say(False)
    talk.packets += handshake(client_isn=client_isn, server_isn=server_isn)[:held]
    injected = inject(talk)
    talk.say(True).say(False)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (7, held + injected, 0, 0)
    assert not report.passed()
    assert set(problems(report)) == {'without TCP-AO'}
    (connection,) = report.connections
    assert connection.client[1] == 40001


def test_forged_handshake_the_other_way_round_hides_nothing(tmp_path: Path) -> None:
    talk = Talk().open()
    forger = Talk(key=None, client_isn=77, server_isn=88)
    forger.segment(False, Flag.SYN)
    forger.segment(True, Flag.SYN | Flag.ACK)
    talk.packets += forger.packets
    injected = inject(talk)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (3, 2 + injected, 0, 0)


def test_earlier_forged_handshake_hides_nothing(tmp_path: Path) -> None:
    forged = handshake(client_isn=77, server_isn=88)
    talk = Talk(packets=list(forged)).open()
    # And its SYN once more, as if it had been lost.
    talk.packets.append(forged[0])
    injected = inject(talk)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (3, 1 + injected, 3, 0)


@pytest.mark.parametrize('moment', [1, 2])
def test_forged_handshake_during_the_real_one_hides_nothing(tmp_path: Path, moment: int) -> None:
    talk = Talk().open().say(True)
    talk.packets[moment:moment] = handshake(client_isn=77, server_isn=88)
    injected = inject(talk)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (4, 3 + injected, 0, 0)


@pytest.mark.parametrize('flags', [Flag.FIN | Flag.ACK, Flag.RST, Flag.RST | Flag.ACK])
def test_forged_end_does_not_let_another_connection_begin(tmp_path: Path, flags: Flag) -> None:
    talk = Talk().open()
    for from_client in (True, False):
        talk.segment(from_client, flags, sequence=talk.sent[from_client], unsigned=True)
    talk.packets += handshake(client_isn=77, server_isn=88)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (3, 5, 0, 0)


def test_connection_goes_on_when_one_end_has_finished(tmp_path: Path) -> None:
    talk = Talk().open()
    talk.segment(True, Flag.FIN | Flag.ACK)
    talk.packets.append(talk.packets[-1])
    talk.packets += handshake(client_isn=77, server_isn=88)
    talk.say(False)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (6, 3, 0, 0)


def test_signed_connection_takes_the_pair_when_the_end_is_lost(
    tmp_path: Path,
) -> None:
    first = Talk().open().say(True)
    second = Talk(client_isn=77, server_isn=88).open().say(False)
    more = inject(second)
    reset(second)
    plain = Talk(key=None, client_isn=5, server_isn=6).open()
    packets = first.packets + second.packets + plain.packets
    report = verified(tmp_path, packets, Key(1, 2).known())
    assert counts(report) == (9, more, 3, 0)
    assert [c['good'] for c in report.to_json()['connections']] == [4, 5, 0]


def test_forged_signed_syn_makes_no_plain_connection_bad(
    tmp_path: Path,
) -> None:
    plain = Talk(key=None).open().say(True)
    forger = Talk(client_isn=77, key=Key(1, 2, b'guess'))
    plain.packets.append(forger.segment(True, Flag.SYN))
    plain.say(False)
    assert counts(verified(tmp_path, plain.packets, Key(1, 2).known())) == (0, 1, 5, 0)


@pytest.mark.parametrize('answered', [False, True])
def test_flood_of_syns_with_forged_macs_hides_no_connection(tmp_path: Path, answered: bool) -> None:
    talk = Talk().open()
    forged = 0
    for isn in range(20):
        forger = Talk(client_isn=isn * 1000 + 7, key=Key(1, 2, b'guess'))
        talk.packets.append(forger.segment(True, Flag.SYN))
        if answered:
            talk.packets.append(forger.segment(False, Flag.SYN | Flag.ACK))
        forged += 1 + answered
    injected = inject(talk)
    report = verified(tmp_path, talk.packets, Key(1, 2).known())
    assert counts(report) == (3, forged + injected, 0, 0)


def test_flood_of_forged_syns_hides_no_connection(tmp_path: Path) -> None:
    talk = Talk().open()
    forged = []
    for isn in range(20):
        forger = Talk(client_isn=isn * 1000 + 7, key=None)
        forged.append(forger.segment(True, Flag.SYN))
    more = len(talk.packets)
    talk.say(True).say(False)
    talk.segment(False, Flag.RST, unsigned=True)
    report = verified(
        tmp_path, talk.packets[:more] + forged + talk.packets[more:], Key(1, 2).known()
    )
    assert counts(report) == (5, 21, 0, 0), 'they and the unsigned RST count against it'


@pytest.mark.parametrize('given', [True, False])
def test_forged_handshake_hides_nothing_from_mid_connection(tmp_path: Path, given: bool) -> None:
    talk = Talk().open()
    held = len(talk.packets)
    talk.say(True).say(False)
    talk.packets += Talk(key=None, client_isn=77, server_isn=88).open().packets
    talk.segment(False, Flag.RST, sequence=talk.sent[False], unsigned=True)
    talk.say(True).say(False)
    report = verified_with_isns(tmp_path, talk.packets[held:], *([isns(talk)] if given else []))
    assert counts(report) == ((4, 4, 0, 0) if given else (0, 4, 0, 4))

"""A turn of the driver: commands out, results back, everything ended when nothing can be proven."""

from __future__ import annotations

import pytest

from gatekeeper.clock import LATE, boottime
from tcpao.installer import Abort, Close, Read, Remove, Where
from tests.gatekeeper.adapter.doubles import PAIR, Driven, an_mkt


@pytest.fixture
def driven() -> Driven:
    return Driven()


def test_driver_submits_commands_when_woken(driven: Driven) -> None:
    read = Read(PAIR)
    driven.source.commands = [read]
    driven.driver.turn(woken=True)
    assert driven.installer.submitted == [read]


def test_driver_leaves_commands_when_not_woken(driven: Driven) -> None:
    driven.source.commands = [Read(PAIR)]
    driven.driver.turn(woken=False)
    assert driven.installer.submitted == []


def test_driver_hands_a_close_to_the_daemon_only(driven: Driven) -> None:
    driven.source.commands = [Close(PAIR, 'why')]
    driven.driver.turn(woken=True)
    assert (driven.daemon.ended, driven.installer.submitted) == ([('close', PAIR, 'why')], [])


def test_driver_hands_an_abort_to_both(driven: Driven) -> None:
    command = Abort(PAIR, 'why')
    driven.source.commands = [command]
    driven.driver.turn(woken=True)
    assert driven.daemon.ended == [('abort', PAIR, 'why')]
    assert driven.installer.submitted == [command]


def test_driver_aborts_when_an_ended_key_goes_too_late(driven: Driven) -> None:
    late = Remove(an_mkt(not_after=boottime() - 2 * LATE), Where.CONNECTION)
    driven.source.commands = [late]
    driven.driver.turn(woken=True)
    assert driven.daemon.ended == [('abort', PAIR, 'an ended key was taken off too late')]
    assert driven.installer.submitted == [late]


def test_driver_goes_on_when_an_ended_key_goes_in_time(driven: Driven) -> None:
    driven.source.commands = [Remove(an_mkt(not_after=boottime()), Where.CONNECTION)]
    driven.driver.turn(woken=True)
    assert not driven.daemon.ended


@pytest.mark.parametrize(('alive', 'settled'), [(False, True), (True, False)])
def test_driver_uses_no_socket_when_a_deadline_waits(
    driven: Driven, alive: bool, settled: bool
) -> None:
    assert driven.driver.may_use()
    driven.source.alive, driven.source.settled = alive, settled
    assert not driven.driver.may_use()


def test_driver_aborts_all_once_when_the_gatekeeper_died(driven: Driven) -> None:
    driven.source.alive = False
    driven.driver.turn(woken=False)
    driven.driver.turn(woken=False)
    assert driven.daemon.ended == [('abort', PAIR, 'the gatekeeper is dead')]


def test_driver_aborts_all_when_the_adapter_fails(driven: Driven) -> None:
    driven.daemon.fault = RuntimeError('a bug')
    driven.driver.turn(woken=False)
    assert [kind for kind, _, _ in driven.daemon.ended] == ['abort']
    assert 'a bug' in driven.daemon.failures[0]


def test_driver_tells_the_gatekeeper_of_each_closed_socket(driven: Driven) -> None:
    driven.driver.stop()
    assert driven.source.closed == [PAIR]


def test_driver_is_due_at_the_first_deadline(driven: Driven) -> None:
    assert driven.driver.due(10.0) is None
    driven.socket.deadline = 12.5
    assert driven.driver.due(10.0) == pytest.approx(2.5)

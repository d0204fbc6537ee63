"""A reload that is asked for while routes are being sent is done when they are: never forgotten."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from exabgp.bgp.fsm import FSM
from exabgp.logger import log
from exabgp.reactor.interrupt import Signal

from plugin.reactor import deferred_reload as postponing
from plugin.reactor.deferred_reload import LONGEST, WAITS
from tests.plugin.doubles import Daemon
from tests.plugin.texts import SECTION, neighbor

Start = Callable[..., Daemon]

RELOAD = (Signal.RELOAD, signal.SIGUSR1)
FULL_RELOAD = (Signal.FULL_RELOAD, signal.SIGUSR2)


def sending(daemon: Start, section: str = SECTION) -> Daemon:
    """A daemon whose session is up and has a route to send."""
    more = '    static { route 10.1.0.0/24 next-hop self; }\n'
    one = daemon(neighbor(section=section, more=more))
    assert one.begin()
    one.turn()
    one.reactor.signal.mark_ready()
    one.peer().fsm.change(FSM.ESTABLISHED)
    return one


def sent(one: Daemon) -> None:
    for _ in one.peer().neighbor.rib.outgoing.updates(grouped=False):
        pass
    assert not one.peer().neighbor.rib.outgoing.pending()


def handles(one: Daemon) -> tuple[int, int] | None:
    """The reload that the loop does now, as Reactor.run comes to it; None if it does none."""
    received = one.reactor.signal.received, one.reactor.signal.number
    if not received[0]:
        return None
    one.reactor.signal.rearm()
    return None if one.reactor._pending_adjribout() else received


@pytest.mark.parametrize('section', [SECTION, ''], ids=['protected', 'plain'])
def test_reload_is_done_once_the_routes_are_sent(daemon: Start, section: str) -> None:
    one = sending(daemon, section)
    one.reactor.signal.sigusr1(signal.SIGUSR1, None)
    assert handles(one) is None
    one.wait()
    assert handles(one) is None
    sent(one)
    one.wait()
    assert handles(one) == RELOAD
    one.wait()
    assert handles(one) is None
    one.peer().fsm.change(FSM.IDLE)


def test_waiting_reload_is_told_once(daemon: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    one = sending(daemon)
    monkeypatch.setattr(log, 'warning', lambda text, _: said.append(text()))
    for _ in range(2):
        one.reactor.signal.sigusr1(signal.SIGUSR1, None)
        assert handles(one) is None
        one.wait()
    assert said == [WAITS]
    one.peer().fsm.change(FSM.IDLE)


@pytest.mark.parametrize('numbers', [(10, 12), (12, 10)])
def test_more_thorough_of_two_reloads_is_done(daemon: Start, numbers: tuple[int, int]) -> None:
    one = sending(daemon)
    handlers = {
        signal.SIGUSR1: one.reactor.signal.sigusr1,
        signal.SIGUSR2: one.reactor.signal.sigusr2,
    }
    for number in numbers:
        handlers[signal.Signals(number)](number, None)
        assert handles(one) is None
    sent(one)
    one.wait()
    assert handles(one) == FULL_RELOAD
    one.peer().fsm.change(FSM.IDLE)


def test_reload_waits_a_minute_for_routes_that_are_never_sent(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    one = sending(daemon)
    monkeypatch.setattr(postponing, 'time', SimpleNamespace(monotonic=lambda: now))
    for _ in range(2):
        one.reactor.signal.sigusr1(signal.SIGUSR1, None)
        assert handles(one) is None
        now += LONGEST - 1
        one.wait()
        assert handles(one) is None
        now += 1
        one.wait()
        assert handles(one) == RELOAD
        one.wait()
        assert handles(one) is None
    one.peer().fsm.change(FSM.IDLE)


def test_reload_is_not_replaced_by_another_at_its_end(daemon: Start) -> None:
    one = sending(daemon)
    one.reactor.signal.sigusr2(signal.SIGUSR2, None)
    assert handles(one) is None
    sent(one)
    one.reactor.signal.sigusr1(signal.SIGUSR1, None)
    assert handles(one) == RELOAD
    one.wait()
    assert handles(one) == FULL_RELOAD
    one.peer().fsm.change(FSM.IDLE)


def test_stop_does_not_wait(daemon: Start) -> None:
    one = sending(daemon)
    one.reactor.signal.sigusr1(signal.SIGUSR1, None)
    assert handles(one) is None
    one.reactor.signal.sigterm(signal.SIGTERM, None)
    sent(one)
    one.wait()
    assert one.reactor.signal.received == Signal.SHUTDOWN
    one.peer().fsm.change(FSM.IDLE)


def test_reload_does_not_wait_for_a_peer_that_is_down(daemon: Start) -> None:
    """B-3: upstream loses SIGUSR1 while any peer that isn't up has routes to send."""
    one = sending(daemon)
    one.peer().fsm.change(FSM.IDLE)
    assert one.peer().neighbor.rib.outgoing.pending()
    one.reactor.signal.sigusr1(signal.SIGUSR1, None)
    assert handles(one) == RELOAD

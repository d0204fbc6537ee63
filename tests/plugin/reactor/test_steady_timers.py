"""ExaBGP's timers of protected neighbors while the clock is set."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from exabgp.bgp import timer as timer_module
from exabgp.bgp.message import Notify
from exabgp.bgp.message.open.holdtime import HoldTime
from exabgp.reactor import delay as delay_module
from exabgp.reactor import keepalive
from exabgp.reactor import peer as peer_module

from plugin.reactor import steady_timers
from plugin.reactor.steady_timers import MAX_RETRY_WAIT
from tests.plugin.doubles import Daemon
from tests.plugin.texts import SECTION, neighbor

Start = Callable[..., Daemon]
HOURS = 7200.0
HOLD = 9


class Clocks:
    """The clock of UTC, and the one that doesn't step."""

    def __init__(self) -> None:
        self.wall, self.now = 1_800_000_000.0, 1000.0

    def time(self) -> float:
        return self.wall

    def both(self) -> tuple[float, float]:
        return self.wall, self.now

    def run(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    shown = SimpleNamespace(**vars(time) | {'time': made.time})
    for module in (timer_module, delay_module, steady_timers):
        monkeypatch.setattr(module, 'time', shown)
    monkeypatch.setattr(steady_timers, 'both_clocks', made.both)
    return made


class Connection:
    """Names itself in the log, and knows its peer."""

    def __init__(self, peer: Any) -> None:
        self.ikev2_peer = peer

    def session(self) -> str:
        return 'session'


def peer_of(daemon: Start, section: str) -> Any:
    return daemon_of(daemon, section).peer()


def daemon_of(daemon: Start, section: str) -> Daemon:
    one = daemon(neighbor(section=section))
    assert one.begin()
    return one


def hold_timer(peer: Any) -> Any:
    return peer_module.ReceiveTimer(Connection(peer).session, HOLD, 4, 0)


@pytest.mark.parametrize('step', [HOURS, -HOURS, 3.0])
def test_hold_timer_counts_real_seconds_when_clock_is_set(
    step: float, daemon: Start, clocks: Clocks
) -> None:
    timer = hold_timer(peer_of(daemon, SECTION))
    clocks.run(HOLD - 1)
    clocks.wall += step
    timer.check_ka_timer()
    clocks.run(3)
    with pytest.raises(Notify):
        timer.check_ka_timer()


def test_hold_timer_of_a_plain_neighbor_is_upstreams(daemon: Start) -> None:
    assert type(hold_timer(peer_of(daemon, ''))) is timer_module.ReceiveTimer


@pytest.mark.parametrize('step', [HOURS, -HOURS])
def test_keepalive_is_sent_in_time_when_clock_is_set(
    step: float, daemon: Start, clocks: Clocks
) -> None:
    peer = peer_of(daemon, SECTION)
    timer = keepalive.SendTimer(Connection(peer).session, HoldTime(HOLD))
    clocks.wall += step
    assert not timer.need_ka()
    clocks.run(HOLD / 3 + 1)
    assert timer.need_ka()


@pytest.mark.parametrize('step', [HOURS, -HOURS])
def test_backoff_takes_its_seconds_when_clock_is_set(
    step: float, daemon: Start, clocks: Clocks
) -> None:
    delay = peer_of(daemon, SECTION)._delay
    for _ in range(4):
        delay.increase()
    wait = delay.remaining()
    assert wait > 0
    clocks.wall += step
    assert delay.backoff()
    clocks.run(wait + 1)
    assert not delay.backoff()


def test_backoff_is_bounded_when_neighbor_is_protected(daemon: Start, clocks: Clocks) -> None:
    delay = peer_of(daemon, SECTION)._delay
    for _ in range(20):
        delay.increase()
    assert delay.remaining() == MAX_RETRY_WAIT


def test_backoff_of_a_plain_neighbor_is_upstreams(daemon: Start, clocks: Clocks) -> None:
    delay, plain = peer_of(daemon, '')._delay, delay_module.Delay()
    for _ in range(20):
        delay.increase()
        plain.increase()
        assert delay._time == plain._time
    clocks.wall -= HOURS
    assert delay.backoff()
    clocks.run(120)
    assert delay.backoff() == plain.backoff()

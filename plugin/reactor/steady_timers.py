"""ExaBGP's timers of protected neighbors, corrected when the clock is set.

Upstream's hold timer, keepalive timer and backoff store times of the clock of UTC. Two hours
forward would end every session by its hold timer; two hours back would send no KEEPALIVE, and try
no connection, for two hours. Here each timer adds the step to its stored time. Neighbors without
protection have upstream's timers, unchanged.
"""

from __future__ import annotations

import time
from typing import Any, Final

from exabgp.bgp.timer import ReceiveTimer, SendTimer
from exabgp.reactor import keepalive as keepalive_module
from exabgp.reactor import peer as peer_module
from exabgp.reactor.delay import Delay
from exabgp.reactor.peer import Peer

from gatekeeper.clock import both_clocks
from plugin.connections.peers import protection_in_force
from plugin.patching import replace, wrap

MAX_RETRY_WAIT: Final = 8
"""Seconds between two attempts of a protected neighbor, at most. Upstream's backoff reaches 60 s,
and a peer that is protected, or reachable, again would wait for that long."""


class StepWatch:
    """The steps of the clock of UTC since the last call, against a clock that doesn't step."""

    def __init__(self) -> None:
        self._offset = _offset()

    def step(self) -> int:
        """Return the step in whole seconds; the rest is kept for the next call."""
        step = round(_offset() - self._offset)
        self._offset += step
        return step


def _offset() -> float:
    wall, now = both_clocks()
    return wall - now


class SteadyReceiveTimer(ReceiveTimer):
    """A hold timer, or the time limit for an OPEN."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._clock = StepWatch()
        super().__init__(*arguments, **named)

    def check_ka_timer(self, *arguments: Any, **named: Any) -> Any:
        """Raise Notify if the time is over, as upstream does."""
        self.last_read += self._clock.step()
        return super().check_ka_timer(*arguments, **named)


class SteadySendTimer(SendTimer):
    """A timer for the next KEEPALIVE."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._clock = StepWatch()
        super().__init__(*arguments, **named)

    def need_ka(self) -> Any:
        """Return True if a KEEPALIVE is due, as upstream does."""
        self.last_sent += self._clock.step()
        return super().need_ka()


class SteadyDelay(Delay):
    """The backoff of a peer, protected or not: a reload may change that."""

    def __init__(self, peer: Any) -> None:
        self._peer = peer
        self._clock = StepWatch()
        super().__init__()

    def increase(self) -> None:
        """Increase the wait after each failed attempt."""
        self._clock.step()
        super().increase()
        if protection_in_force(self._peer) is not None:
            self._next: int = min(self._next, MAX_RETRY_WAIT)

    def reset(self) -> None:
        """Allow an attempt at once."""
        self._clock.step()
        super().reset()

    def backoff(self) -> Any:
        """Return True while the next attempt must wait."""
        self._follow()
        return super().backoff()

    def remaining(self) -> float:
        """Return the seconds until the next attempt; negative if it is overdue."""
        self._follow()
        return float(self._time - time.time())

    def _follow(self) -> None:
        step = self._clock.step()
        if step and protection_in_force(self._peer) is not None:
            self._time += step


def _receive_timer(session: Any, *arguments: Any, **named: Any) -> ReceiveTimer:
    kind = SteadyReceiveTimer if _is_protected(session) else ReceiveTimer
    return kind(session, *arguments, **named)


def _send_timer(session: Any, *arguments: Any, **named: Any) -> SendTimer:
    kind = SteadySendTimer if _is_protected(session) else SendTimer
    return kind(session, *arguments, **named)


def _is_protected(session: Any) -> bool:
    """Return True if the timer's connection belongs to a protected neighbor.

    `session` is the bound method of a connection that upstream uses for its log.
    """
    peer = getattr(getattr(session, '__self__', None), 'ikev2_peer', None)
    return peer is not None and protection_in_force(peer) is not None


def _peer_init(original: Any, self: Any, *arguments: Any, **named: Any) -> None:
    original(self, *arguments, **named)
    self._delay = SteadyDelay(self)


def install() -> None:
    """Patch ExaBGP's peers and keepalives."""
    wrap(Peer, '__init__', _peer_init)
    replace(peer_module, 'ReceiveTimer', _receive_timer)
    replace(keepalive_module, 'SendTimer', _send_timer)

"""A reload that is asked for (SIGUSR1, SIGUSR2) while a session has routes to send comes when they
are sent; one that the gatekeeper can't serve yet, when it can.

Upstream logs that it schedules such a reload, and forgets it: a key that an operator thought
revoked would go on protecting the session. Nor may a neighbor that reads nothing, or a helper that
never stops announcing, put it off for good.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any, Final

from exabgp.logger import log
from exabgp.reactor.interrupt import Signal
from exabgp.reactor.loop import Reactor

from plugin.log import LOG
from plugin.patching import wrap

LONGEST: Final = 60.0
"""Seconds that a reload waits."""
WAITS: Final = (
    f'the reload waits until all routes are sent to sessions that are up, at most {LONGEST:g} s'
)
"""In the log."""
BUSY: Final = (
    'the reload waits for the packet process, or for rules that it has to change; it is done when '
    'they are, and the sessions go on as they were'
)
"""In the log."""


def _rearm(original: Any, self: Any) -> None:
    """The reactor handles a signal, and forgets here which."""
    self.ikev2_handled = self.received, self.number
    original(self)


def _pending_adjribout(original: Any, self: Any) -> bool:
    """Asked before a reload, which is not done if this is true."""
    signal = self.signal
    waiting = getattr(signal, 'ikev2_postponed', None)
    if not _must_wait(self):
        if waiting == signal.ikev2_handled:
            signal.ikev2_postponed = signal.ikev2_until = None
        return False
    if waiting is None:
        log.warning(lambda: WAITS, LOG)
        signal.ikev2_until = time.monotonic() + LONGEST
    # The reload of SIGUSR2, which has the smaller number, is the more thorough one.
    signal.ikev2_postponed = min(signal.ikev2_handled, waiting or signal.ikev2_handled)
    return True


def wait_for(reactor: Any, free: Future[Any], kind: int) -> None:
    """Ask for the load that was to be done again when `free` is done; `kind` is what it is where
    no signal asked for it."""
    signal = reactor.signal
    log.warning(lambda: BUSY, LOG)
    handled = signal.ikev2_handled
    is_same = handled[0] in (kind, Signal.FULL_RELOAD) and kind != Signal.RESTART
    signal.ikev2_postponed = handled if is_same else (kind, handled[1])
    signal.ikev2_free = free


def resume(reactor: Any) -> None:
    """Once in each turn of the loop: a reload that waits, and needn't any more, is asked for
    again."""
    signal = reactor.signal
    waiting = getattr(signal, 'ikev2_postponed', None)
    if waiting is not None and not signal.received and not _must_wait(reactor):
        signal.received, signal.number = waiting
        if signal.received == Signal.RESTART:
            # Of a restart nobody asks whether it must wait.
            signal.ikev2_postponed = None


def _must_wait(reactor: Any) -> bool:
    free = getattr(reactor.signal, 'ikev2_free', None)
    if free is not None and not free.done():
        return True
    until = getattr(reactor.signal, 'ikev2_until', None)
    over = until is not None and time.monotonic() >= until
    return not over and _have_routes_to_send(reactor)


def _have_routes_to_send(reactor: Any) -> bool:
    """Only established peers: routes of one that isn't up wait for ever, and so would a reload."""
    peers = reactor._peers
    return any(peers[key].neighbor.rib.outgoing.pending() for key in reactor.established_peers())


def install() -> None:
    """Patch ExaBGP's reactor."""
    wrap(Signal, 'rearm', _rearm)
    wrap(Reactor, '_pending_adjribout', _pending_adjribout)

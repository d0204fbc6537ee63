"""Deferred reloads: while a session has routes to send, or the gatekeeper is busy.

A reload that is requested (SIGUSR1, SIGUSR2) while a session has routes to send is done when they
are sent. Upstream logs that it schedules such a reload, and forgets it: a key that an operator
believes revoked would go on protecting the session. A neighbor that reads nothing, or a helper that
never stops announcing, must not delay it for ever either.
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
"""Seconds that a reload waits at most."""
WAITS: Final = (
    f'the reload waits until all routes are sent to sessions that are up, at most {LONGEST:g} s'
)
"""A message for the log."""
BUSY: Final = (
    'the reload waits for the packet process, or for rules that it has to change; it is done when '
    'they are, and the sessions go on as they were'
)
"""A message for the log."""


def _rearm(original: Any, self: Any) -> None:
    """Keep the signal that the reactor handles, before upstream forgets it."""
    self.ikev2_handled = self.received, self.number
    original(self)


def _pending_adjribout(original: Any, self: Any) -> bool:
    """Return True if a reload has to wait; asked before it."""
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
    """Repeat the load when `free` is done; `kind` is its kind if no signal requested it."""
    signal = reactor.signal
    log.warning(lambda: BUSY, LOG)
    handled = signal.ikev2_handled
    is_same = handled[0] in (kind, Signal.FULL_RELOAD) and kind != Signal.RESTART
    signal.ikev2_postponed = handled if is_same else (kind, handled[1])
    signal.ikev2_free = free


def resume(reactor: Any) -> None:
    """Request a deferred reload again once it need not wait; called in each turn of the loop."""
    signal = reactor.signal
    waiting = getattr(signal, 'ikev2_postponed', None)
    if waiting is not None and not signal.received and not _must_wait(reactor):
        signal.received, signal.number = waiting
        if signal.received == Signal.RESTART:
            # Upstream does not ask whether a restart must wait.
            signal.ikev2_postponed = None


def _must_wait(reactor: Any) -> bool:
    free = getattr(reactor.signal, 'ikev2_free', None)
    if free is not None and not free.done():
        return True
    until = getattr(reactor.signal, 'ikev2_until', None)
    over = until is not None and time.monotonic() >= until
    return not over and _have_routes_to_send(reactor)


def _have_routes_to_send(reactor: Any) -> bool:
    """Return True if an established peer has routes to send; routes of others would wait for
    ever.
    """
    peers = reactor._peers
    return any(peers[key].neighbor.rib.outgoing.pending() for key in reactor.established_peers())


def install() -> None:
    """Patch ExaBGP's reactor."""
    wrap(Signal, 'rearm', _rearm)
    wrap(Reactor, '_pending_adjribout', _pending_adjribout)

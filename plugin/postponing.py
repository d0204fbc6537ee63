"""A reload that is asked for (SIGUSR1, SIGUSR2) while a session has routes to send comes when they
are sent.

Upstream logs that it schedules such a reload, and forgets it: a key that an operator thought
revoked would go on protecting the session.
"""

from __future__ import annotations

from typing import Any

from exabgp.logger import log
from exabgp.reactor.interrupt import Signal
from exabgp.reactor.loop import Reactor

from plugin.patching import wrap
from plugin.recording import LOG

WAITS = 'the reload waits until all routes are sent to sessions that are up'
"""In the log."""


def _rearm(original: Any, self: Any) -> None:
    """The reactor handles a signal, and forgets here which."""
    self.ikev2_handled = self.received, self.number
    original(self)


def _pending_adjribout(original: Any, self: Any) -> bool:
    """Asked before a reload, which is not done if this is true."""
    if not _have_routes_to_send(self):
        return False
    signal = self.signal
    waiting = getattr(signal, 'ikev2_postponed', None)
    if waiting is None:
        log.warning(lambda: WAITS, LOG)
    # The reload of SIGUSR2, which has the smaller number, is the more thorough one.
    signal.ikev2_postponed = min(signal.ikev2_handled, waiting or signal.ikev2_handled)
    return True


def resume(reactor: Any) -> None:
    """Once in each turn of the loop: a reload that waits, and needn't any more, is asked for
    again."""
    signal = reactor.signal
    if getattr(signal, 'ikev2_postponed', None) is None:
        return
    if not signal.received and not _have_routes_to_send(reactor):
        signal.received, signal.number = signal.ikev2_postponed
        signal.ikev2_postponed = None


def _have_routes_to_send(reactor: Any) -> bool:
    """Only established peers: routes of one that isn't up wait for ever, and so would a reload."""
    peers = reactor._peers
    return any(peers[key].neighbor.rib.outgoing.pending() for key in reactor.established_peers())


def install() -> None:
    """Patch ExaBGP's reactor."""
    wrap(Signal, 'rearm', _rearm)
    wrap(Reactor, '_pending_adjribout', _pending_adjribout)

"""The start of the gatekeeper in the load that protects a daemon's first neighbor.

At a daemon's start, the load waits. A running daemon has other neighbors to serve: a separate
thread starts the gatekeeper, whose packet process takes a second, or many if another program holds
the lock of iptables; the load waits for it in the same way as for rules.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_any
from functools import partial
from typing import Any

from gatekeeper.errors import BusyError
from gatekeeper.policy.sessions import SessionPolicy
from plugin.connections import waits
from plugin.connections.runtime import Runtime
from plugin.reactor import listeners
from tcpao.backend import Preference

Starter = Callable[[Any, Preference], Runtime]
"""Starts a gatekeeper for a reactor with a backend, and waits for it."""


def begin(
    reactor: Any, starter: Starter, wanted: Preference, policies: Sequence[SessionPolicy]
) -> Runtime:
    """Start the gatekeeper, guard the listeners, and put policies in force.

    Raises PolicyError, GatekeeperError or OSError; then it is stopped. Raises BusyError; then the
    next call continues.
    """
    serves = listeners.may_listen(reactor)
    start = partial(starter, reactor, wanted)
    running = _started(reactor, start, wanted) if serves else start()
    try:
        if serves:
            running.waits.begin()
            for listener in reactor.listener._sockets:
                # A reload protects the first neighbor: connections accepted earlier fail their
                # proof.
                guarded = running.gatekeeper.guard_listener(listener)
                if not running.waits.is_over(guarded):
                    raise BusyError(guarded)
                guarded.result()
        running.configure(policies)
    except BusyError:
        raise
    except BaseException:
        reactor.ikev2_starting = None
        running.stop()
        raise
    for listener in reactor.listener._sockets if serves else ():
        running.listens(listener)
    reactor.ikev2_starting = None
    reactor.ikev2 = running
    atexit.register(running.stop)
    return running


def abandon(reactor: Any) -> None:
    """End a start that is under way: the new load needs no gatekeeper."""
    starting: Future[Runtime] | None = getattr(reactor, 'ikev2_starting', None)
    reactor.ikev2_starting = None
    if starting is not None:
        starting.add_done_callback(_stop)


def _started(reactor: Any, start: Callable[[], Runtime], wanted: Preference) -> Runtime:
    if getattr(reactor, 'ikev2_wanted', wanted) is not wanted:
        # The file has changed since.
        abandon(reactor)
    reactor.ikev2_wanted = wanted
    starting: Future[Runtime] | None = getattr(reactor, 'ikev2_starting', None)
    if starting is None:
        starting = reactor.ikev2_starting = Future()
        threading.Thread(target=partial(_start, start, starting), daemon=True).start()
    if not wait_for_any([starting], waits.LONGEST).done:
        raise BusyError(starting)
    try:
        return starting.result()
    except BaseException:
        reactor.ikev2_starting = None
        raise


def _start(start: Callable[[], Runtime], starting: Future[Runtime]) -> None:
    try:
        starting.set_result(start())
    except BaseException as error:
        starting.set_exception(error)


def _stop(started: Future[Runtime]) -> None:
    if started.exception() is None:
        threading.Thread(target=started.result().stop, daemon=True).start()

"""The reactor never waits: loads, listeners and answers come when the gatekeeper is free."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from exabgp.logger import log
from exabgp.reactor.interrupt import Signal

from gatekeeper.errors import GatekeeperError
from plugin.commands.answers import answer
from plugin.connections import runtime, waits
from plugin.connections.runtime import Runtime
from plugin.reactor import lifecycle
from plugin.reactor.deferred_reload import BUSY
from tcpao.backend import Preference
from tests.plugin.doubles import Daemon
from tests.plugin.peers import SECONDS, connected, free_port
from tests.plugin.texts import neighbor

Start = Callable[..., Daemon]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, 'LONGEST', 0.01)


def busy(daemon: Start) -> tuple[Daemon, Future[None]]:
    """A daemon that runs, whose gatekeeper waits for a lock."""
    one = daemon(neighbor())
    assert one.begin()
    one.reactor.signal.mark_ready()
    free: Future[None] = Future()
    one.gatekeeper.busy = free
    return one, free


def take_signal(one: Daemon) -> Any:
    """Do what the loop does now, as Reactor.run comes to it."""
    received = one.reactor.signal.received
    one.reactor.signal.rearm()
    if received == Signal.RELOAD and one.reactor._pending_adjribout():
        return Signal.NONE
    return received


def test_load_is_asked_again_when_the_gatekeeper_is_free(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, free = busy(daemon)
    said: list[str] = []
    monkeypatch.setattr(log, 'warning', lambda text, _: said.append(text()))
    monkeypatch.setattr(log, 'error', lambda text, _: said.append(text()))
    one.reactor.signal.sigusr1(signal.SIGUSR1, None)
    assert take_signal(one) == Signal.RELOAD
    before = dict(one.configuration.neighbors)
    assert not one.reload(neighbor(section=''))
    assert one.configuration.neighbors == before
    assert said == [BUSY]
    one.wait()
    assert take_signal(one) == Signal.NONE
    one.gatekeeper.busy = None
    free.set_result(None)
    one.wait()
    assert take_signal(one) == Signal.RELOAD
    assert one.reactor.reload()
    assert one.gatekeeper.policies == []
    one.wait()
    assert take_signal(one) == Signal.NONE


def test_refused_later_load_leaves_nothing_prepared(daemon: Start) -> None:
    one, free = busy(daemon)
    assert not one.reload(neighbor(section=''))
    assert one.gatekeeper.withdrawn == 0
    free.set_result(None)
    assert not one.reload('neighbor nonsense {')
    assert one.gatekeeper.withdrawn == 1


def test_restart_is_asked_again_once(daemon: Start) -> None:
    one, free = busy(daemon)
    one.reactor.signal.received = Signal.RESTART
    assert take_signal(one) == Signal.RESTART
    one.reactor.restart()
    one.gatekeeper.busy = None
    free.set_result(None)
    one.wait()
    assert take_signal(one) == Signal.RESTART
    one.reactor.restart()
    one.wait()
    assert take_signal(one) == Signal.NONE


def test_socket_listens_when_it_is_guarded(daemon: Start) -> None:
    one, _ = busy(daemon)
    port = free_port()
    one.gatekeeper.busy = None
    guarded: Future[None] = Future()
    one.gatekeeper.guarded = guarded
    assert one.reload(neighbor(more=f'    passive;\n    listen {port};\n'))
    one.turn()
    with pytest.raises(ConnectionRefusedError):
        connected(port)
    guarded.set_result(None)
    one.turn()
    connected(port).close()


def test_socket_without_guard_never_listens(daemon: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = busy(daemon)
    port = free_port()
    said: list[str] = []
    monkeypatch.setattr(log, 'critical', lambda text, _: said.append(text()))
    one.gatekeeper.busy = None
    guarded: Future[None] = Future()
    one.gatekeeper.guarded = guarded
    assert one.reload(neighbor(more=f'    passive;\n    listen {port};\n'))
    guarded.set_exception(GatekeeperError('no rule can be made'))
    one.turn()
    with pytest.raises(ConnectionRefusedError):
        connected(port)
    assert any('no rule can be made' in one for one in said)


def test_socket_that_was_closed_meanwhile_stays_closed(daemon: Start) -> None:
    one, _ = busy(daemon)
    port = free_port()
    one.gatekeeper.busy = None
    guarded: Future[None] = Future()
    one.gatekeeper.guarded = guarded
    assert one.reload(neighbor(more=f'    passive;\n    listen {port};\n'))
    for listener in [*one.reactor.listener._sockets]:
        listener.close()
        del one.reactor.listener._sockets[listener]
    guarded.set_result(None)
    one.turn()
    with pytest.raises(ConnectionRefusedError):
        connected(port)


def test_operator_is_answered_when_the_gatekeeper_is_free(daemon: Start) -> None:
    one, _ = busy(daemon)
    asked: Future[tuple[object, list[str]]] = Future()
    answer(one.reactor, 'cli', lambda running: asked, False)
    one.turn()
    assert one.processes.written == []
    asked.set_result(({}, ['at last']))
    one.turn()
    assert one.processes.written == ['at last']


def begins_slowly(daemon: Start, monkeypatch: pytest.MonkeyPatch) -> tuple[Daemon, threading.Event]:
    """A daemon without protected neighbors, whose gatekeeper starts when it is told to."""
    one = daemon(neighbor(section=''))
    assert one.begin()
    one.reactor.signal.mark_ready()
    go_on = threading.Event()

    def starter(reactor: Any, preference: Preference) -> Runtime:
        assert go_on.wait(SECONDS)
        return one.starter(reactor, preference)

    monkeypatch.setattr(lifecycle, 'starter', starter)
    return one, go_on


def test_first_protection_waits_for_the_gatekeeper_to_start(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, go_on = begins_slowly(daemon, monkeypatch)
    assert not one.reload(neighbor())
    assert runtime.of(one.reactor) is None
    go_on.set()
    one.until(lambda: one.reactor.signal.received)
    assert take_signal(one) == Signal.RELOAD
    assert one.reactor.reload()
    assert one.gatekeeper.log == ['start', 'configure']


def test_gatekeeper_stops_when_it_is_not_needed_any_more(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, go_on = begins_slowly(daemon, monkeypatch)
    assert not one.reload(neighbor())
    assert one.reload(neighbor(section=''))
    go_on.set()
    one.until(lambda: 'stop' in one.gatekeeper.log)
    assert runtime.of(one.reactor) is None


def test_waiting_load_tells_that_the_gatekeeper_cannot_start(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, go_on = begins_slowly(daemon, monkeypatch)

    def refuse(reactor: Any, preference: Preference) -> Runtime:
        raise GatekeeperError('this host has neither')

    monkeypatch.setattr(one, 'starter', refuse)
    assert not one.reload(neighbor())
    go_on.set()
    one.until(lambda: one.reactor.signal.received)
    take_signal(one)
    assert not one.reactor.reload()
    assert 'this host has neither' in str(one.configuration.error)

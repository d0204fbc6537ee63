"""Requests of the daemon to the gatekeeper's thread, when the answer takes its time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, cast

import pytest

from gatekeeper.errors import PolicyError
from gatekeeper.service import mailbox as calls
from gatekeeper.service.gatekeeper import Gatekeeper, GatekeeperError
from tcpao.backend import Backend
from tests.doubles.memory_installer import MemoryInstaller, Network
from tests.gatekeeper.manual_world import key, sessions


class MemoryBackend:
    """Keys in memory."""

    name = 'memory'
    why = 'a test'
    died = None

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def fileno(self) -> None: ...

    def refusals_fileno(self) -> None: ...

    def refusals(self) -> list[Any]:
        return []

    def __init__(self) -> None:
        self.loads: list[object] = []

    def loaded(self, peers: object) -> None:
        self.loads.append(peers)

    def capabilities(self) -> Any:
        return self.listener_installer().capabilities()

    def listener_installer(self) -> MemoryInstaller:
        return MemoryInstaller(Network())


@pytest.fixture
def gatekeeper() -> Iterator[Gatekeeper]:
    backend = cast(Backend, MemoryBackend())
    gatekeeper = Gatekeeper(router='r1', record=lambda record: None, backend=backend)
    gatekeeper.start()
    yield gatekeeper
    gatekeeper.stop()


def slowly(gatekeeper: Gatekeeper, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """A configuration begins, and goes on once it is told to."""
    begun, go_on = threading.Event(), threading.Event()
    configure = gatekeeper._loop.configure

    def slow(*arguments: Any) -> None:
        begun.set()
        go_on.wait(10)
        configure(*arguments)

    monkeypatch.setattr(gatekeeper._loop, 'configure', slow)
    return begun, go_on


def test_running_command_is_waited_for(
    gatekeeper: Gatekeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To call it refused, and have it in force a moment later, would be two answers.
    begun, go_on = slowly(gatekeeper, monkeypatch)
    later = threading.Timer(0.2, go_on.set)

    class Impatient(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            if timeout is None:
                return super().result()
            # The time is over as soon as it has begun.
            assert begun.wait(10)
            later.start()
            return super().result(0)

    monkeypatch.setattr(calls, 'Future', Impatient)
    gatekeeper.configure([])
    assert go_on.is_set()
    later.join()


def test_queued_command_is_called_off(
    gatekeeper: Gatekeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = slowly(gatekeeper, monkeypatch)
    first = threading.Thread(target=gatekeeper.configure, args=([],))
    first.start()
    assert begun.wait(10)
    begun.clear()
    with monkeypatch.context() as hasty:
        hasty.setattr(calls, 'CALL_WITHIN', 0.05)
        with pytest.raises(GatekeeperError, match='does not answer'):
            gatekeeper.configure([])
    go_on.set()
    first.join(10)
    # A question that is answered after both: the second one was never begun.
    gatekeeper.snapshot()
    assert not begun.is_set()


def test_backend_learns_whom_the_load_in_force_protects(gatekeeper: Gatekeeper) -> None:
    (policy,) = sessions('r2', [key(1)])
    gatekeeper.configure([policy])
    with pytest.raises(PolicyError):
        gatekeeper.configure([policy, policy])
    gatekeeper.configure([])
    backend = cast(MemoryBackend, gatekeeper._backend)
    assert backend.loads == [frozenset({policy.remote}), frozenset()]

"""A load on a daemon whose thread has other sessions to serve, while its installer waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import pytest

from gatekeeper.errors import BusyError, GatekeeperError, PolicyError
from gatekeeper.service.gatekeeper import Gatekeeper
from tcpao.backend import Backend
from tcpao.installer import Command, GuardAll, UnguardAll
from tests.doubles.memory_installer import MemoryInstaller, Network
from tests.gatekeeper.manual_world import key, sessions
from tests.gatekeeper.service.test_mailbox import MemoryBackend

SECONDS = 10
"""More than any of this takes."""
HASTE = 0.05
(POLICY,) = sessions('r2', [key(1)])


class SlowBackend(MemoryBackend):
    """Keys in memory, where some answers wait until they may come."""

    def __init__(self) -> None:
        super().__init__()
        self.may_guard, self.may_load = threading.Event(), threading.Event()
        self.may_guard.set()
        self.may_load.set()
        self.guarded: list[Command] = []

    def loaded(self, peers: object) -> None:
        assert self.may_load.wait(SECONDS)
        super().loaded(peers)

    def listener_installer(self) -> MemoryInstaller:
        backend = self

        class Slow(MemoryInstaller):
            def submit(self, command: Command) -> None:
                if isinstance(command, GuardAll | UnguardAll):
                    assert backend.may_guard.wait(SECONDS)
                    backend.guarded.append(command)
                super().submit(command)

        return Slow(Network())


@pytest.fixture
def backend() -> SlowBackend:
    return SlowBackend()


@pytest.fixture
def gatekeeper(backend: SlowBackend) -> Iterator[Gatekeeper]:
    one = Gatekeeper(router='r1', record=lambda record: None, backend=cast(Backend, backend))
    one.start()
    # A port that neighbors may arrive on: so there is something to guard.
    one._loop.listeners._ports.add(179)
    yield one
    backend.may_guard.set()
    backend.may_load.set()
    one.stop()


def neighbors(gatekeeper: Gatekeeper) -> list[Any]:
    return [row['neighbor'] for row in gatekeeper.snapshot()]


def test_policy_is_not_in_force_before_its_guard(
    gatekeeper: Gatekeeper, backend: SlowBackend
) -> None:
    backend.may_guard.clear()
    with pytest.raises(BusyError) as busy:
        gatekeeper.reconfigure([POLICY], HASTE)
    backend.may_guard.set()
    busy.value.free.result(SECONDS)
    assert neighbors(gatekeeper) == []
    gatekeeper.reconfigure([POLICY], SECONDS)
    assert neighbors(gatekeeper) == [POLICY.neighbor]
    assert len(backend.guarded) == 1


def test_late_refusal_is_told_once(
    gatekeeper: Gatekeeper, backend: SlowBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that asks again would otherwise do so for as long as a process holds a lock."""
    with monkeypatch.context() as locked:
        locked.setattr(gatekeeper._loop.listeners, 'guard', partial(_refuse_guards, backend))
        backend.may_guard.clear()
        with pytest.raises(BusyError) as busy:
            gatekeeper.reconfigure([POLICY], HASTE)
        backend.may_guard.set()
        assert busy.value.free.exception(SECONDS) is not None
        backend.may_guard.clear()
        with pytest.raises(GatekeeperError, match='the lock'):
            gatekeeper.reconfigure([POLICY], HASTE)
        backend.may_guard.set()
    gatekeeper.reconfigure([POLICY], SECONDS)
    assert neighbors(gatekeeper) == [POLICY.neighbor]


def test_guards_go_when_their_policy_does_not_come(
    gatekeeper: Gatekeeper, backend: SlowBackend
) -> None:
    backend.may_guard.clear()
    with pytest.raises(BusyError):
        gatekeeper.reconfigure([POLICY], HASTE)
    backend.may_guard.set()
    gatekeeper.withdraw()
    gatekeeper.snapshot()
    assert [type(one) for one in backend.guarded] == [GuardAll, UnguardAll]


def test_guards_go_when_the_policies_are_refused(
    gatekeeper: Gatekeeper, backend: SlowBackend
) -> None:
    gatekeeper._loop._open_udp = _refuse  # type: ignore[method-assign]
    with pytest.raises(PolicyError):
        gatekeeper.reconfigure([POLICY], SECONDS)
    gatekeeper.snapshot()
    assert [type(one) for one in backend.guarded] == [GuardAll, UnguardAll]


def test_reconfiguration_does_not_wait_for_later_commands(
    gatekeeper: Gatekeeper, backend: SlowBackend
) -> None:
    gatekeeper.reconfigure([], SECONDS)
    backend.may_load.clear()
    gatekeeper.reconfigure([POLICY], HASTE * 10)
    backend.may_load.set()
    assert neighbors(gatekeeper) == [POLICY.neighbor]


def test_queued_reconfiguration_is_called_off(
    gatekeeper: Gatekeeper, backend: SlowBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    prepare = gatekeeper._loop.prepare

    def prepare_then_stall(*arguments: Any) -> None:
        prepare(*arguments)
        # Another caller's work comes before ours.
        gatekeeper._calls.post(lambda now: _wait(go_on))

    monkeypatch.setattr(gatekeeper._loop, 'prepare', prepare_then_stall)
    with pytest.raises(BusyError) as busy:
        gatekeeper.reconfigure([POLICY], HASTE * 4)
    go_on.set()
    busy.value.free.result(SECONDS)
    assert neighbors(gatekeeper) == []


def _wait(event: threading.Event) -> None:
    assert event.wait(SECONDS)


def _refuse_guards(backend: SlowBackend, policies: object) -> None:
    assert backend.may_guard.wait(SECONDS)
    raise GatekeeperError('somebody has the lock')


def _refuse(policies: object) -> None:
    raise PolicyError('no')

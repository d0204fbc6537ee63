"""Commands for the daemon's thread, and whether it may use its connections meanwhile."""

from __future__ import annotations

import pytest

from gatekeeper.service.command_queue import CommandQueue
from tcpao.installer import Abort
from tests.gatekeeper.adapter.doubles import PAIR

DUE = 100.0


@pytest.fixture
def queue() -> CommandQueue:
    made = CommandQueue()
    made.open()
    made.expect(DUE)
    return made


def test_queue_is_settled_until_a_deadline_comes(queue: CommandQueue) -> None:
    assert queue.is_settled(DUE - 0.001)
    assert not queue.is_settled(DUE)


def test_queue_is_settled_again_when_the_deadline_was_met(queue: CommandQueue) -> None:
    queue.expect(None)
    assert queue.is_settled(DUE)


def test_queue_is_not_settled_when_a_command_waits(queue: CommandQueue) -> None:
    queue.put(Abort(PAIR, 'why'))
    assert not queue.is_settled(0.0)
    queue.take()
    assert queue.is_settled(0.0)

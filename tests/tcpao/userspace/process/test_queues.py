"""The order of two queues, and when the kernel's count is read."""

from __future__ import annotations

from typing import cast

from tcpao.userspace.netlink.nfqueue import Queue, Queued
from tcpao.userspace.process.limit_count import LimitCount
from tcpao.userspace.process.queues import Queues
from tcpao.userspace.rules.interface import A_SECOND

MANY = 1000


class Waiting:
    """A queue with packets."""

    def __init__(self, number: int, count: int) -> None:
        self.number = number
        self._count = count

    def receive(self) -> list[Queued]:
        if not self._count:
            return []
        self._count -= 1
        return [Queued(self._count, 1, b'', partial=False)]


def numbers(common: int, live: int) -> list[int]:
    """The queue of each packet, in the order in which they are read."""
    queues = Queues(cast(Queue, Waiting(0, common)), cast(Queue, Waiting(1, live)))
    found: list[int] = []
    while True:
        lane, queued = queues.receive()
        if not queued:
            return found
        found.append(lane.queue.number)


def test_receive_takes_live_packets_first_when_both_wait() -> None:
    few = numbers(common=MANY, live=5)[:7]
    assert few.count(1) >= 5


def test_receive_gives_both_a_share_when_neither_ends() -> None:
    both = numbers(common=MANY, live=MANY)[:MANY]
    assert 0 < both.count(0) < MANY / 10


def test_receive_returns_everything_when_one_queue_is_empty() -> None:
    assert numbers(common=MANY, live=0) == [0] * MANY
    assert numbers(common=0, live=MANY) == [1] * MANY


def test_limit_count_is_not_due_when_few_packets_pass() -> None:
    count = LimitCount()
    count.passed(10, 0.0)
    assert count.due is None


def test_limit_count_is_due_until_none_pass_when_many_passed() -> None:
    count = LimitCount()
    count.passed(A_SECOND, 0.0)
    assert not count.is_due(0.5)
    count.passed(1, 0.5)
    assert count.is_due(1.0)
    # One has passed since: some of the same flood may have been dropped since.
    assert count.is_due(2.0)
    assert count.due is None


def test_limit_count_goes_on_when_rules_count_from_nothing() -> None:
    count = LimitCount()
    for dropped in (5, 7, 0, 2):
        count.read(dropped)
    assert count.total == 9

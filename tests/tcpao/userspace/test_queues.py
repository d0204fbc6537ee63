"""Whose a netfilter queue is, as the kernel says."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing

import pytest

from tcpao.userspace.nfqueue import Queue, QueueTakenError, bound_queues
from tcpao.userspace.starting import _free_queue

pytestmark = [pytest.mark.native, pytest.mark.usefixtures('own_namespace')]

NOBODY = 65534
QUEUE = 20077


def as_nobody(do: Callable[[], object]) -> str:
    """What a process without privileges, in this thread's namespace, gets or is refused."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                said = str(do())
            except Exception as error:
                said = repr(error)
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as end:
        return end.read()


def test_one_that_is_taken_is_told_from_the_lack_of_privileges() -> None:
    """The kernel says EPERM to both."""
    with closing(Queue(QUEUE)):
        with pytest.raises(QueueTakenError, match='belongs to another process'):
            Queue(QUEUE)
        assert 'need CAP_NET_ADMIN' in as_nobody(lambda: Queue(QUEUE))
    with closing(Queue(QUEUE)):
        pass


def test_who_comes_second_has_the_next_one() -> None:
    with closing(_free_queue(())) as first, closing(_free_queue(())) as second:
        assert first.number != second.number
        left = (second.number + 1,)
        with closing(_free_queue(left)) as third:
            assert third.number == second.number + 2
        assert bound_queues() == {first.number, second.number}


def test_who_may_not_see_which_are_listened_on_does_not_take_them_for_free() -> None:
    """With CAP_NET_ADMIN alone one may remove rules, and not see whose they are."""
    with closing(Queue(QUEUE)):
        assert bound_queues() == {QUEUE}
        assert 'cannot be seen which netfilter queues' in as_nobody(bound_queues)

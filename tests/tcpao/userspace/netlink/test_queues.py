"""The owner of a netfilter queue, and what a queue takes, as the kernel says."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

import pytest

from tcpao.userspace.netlink.nfqueue import (
    SEND_BUFFER,
    Queue,
    QueueTakenError,
    bound_queues,
    verdict,
)
from tcpao.userspace.process.startup import _free_queues
from tcpao.userspace.rules.interface import live_queue

pytestmark = [pytest.mark.native, pytest.mark.usefixtures('own_namespace')]

NOBODY = 65534
QUEUE = 20077


def as_nobody(do: Callable[[], object]) -> str:
    """Return what a process without privileges, in this thread's namespace, gets or is refused."""
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


def test_taken_queue_is_told_from_the_lack_of_privileges() -> None:
    """The kernel says EPERM to both."""
    with closing(Queue(QUEUE)):
        with pytest.raises(QueueTakenError, match='belongs to another process'):
            Queue(QUEUE)
        assert 'need CAP_NET_ADMIN' in as_nobody(lambda: Queue(QUEUE))
    with closing(Queue(QUEUE)):
        pass


def test_second_process_has_the_next_queue() -> None:
    with closing(_free_queues(())) as first, closing(_free_queues(())) as second:
        assert first.number != second.number
        left = (second.number + 1,)
        with closing(_free_queues(left)) as third:
            assert third.number == second.number + 2
        numbers = {first.number, second.number}
        assert bound_queues() == numbers | set(map(live_queue, numbers))


def test_queues_are_the_next_ones_when_a_live_one_is_taken() -> None:
    with closing(_free_queues(())) as first:
        number = first.number
    with closing(Queue(live_queue(number))), closing(_free_queues(())) as second:
        assert second.number == number + 1


def test_queue_is_not_taken_for_free_when_proc_is_unreadable() -> None:
    """With CAP_NET_ADMIN alone one may remove rules, and not see whose they are."""
    with closing(Queue(QUEUE)):
        assert bound_queues() == {QUEUE}
        assert 'cannot be seen which netfilter queues' in as_nobody(bound_queues)


# --- verdicts -----------------------------------------------------------------------------------

DROP, ACCEPT = 0, 1


def signed(identity: int, size: int = 1500) -> bytes:
    return verdict(QUEUE, identity, bytes(size), changed=True)


def taken(queue: Queue) -> list[tuple[int, int]]:
    """Identities and decisions that have come to the kernel, which knows no such packets and sends
    each verdict back."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            octets = queue._socket.recv(1 << 20)
        except BlockingIOError:
            return found
        _, kind, _, _, _, number = struct.unpack_from('=IHHIIi', octets)
        assert (kind, -number) == (2, errno.ENOENT)
        decision, identity = struct.unpack_from('!II', octets, 20 + 24)
        found.append((identity, decision))


class OutOfMemory:
    """A socket whose kernel has no room for its next messages, or for large ones."""

    def __init__(self, real: socket.socket, largest: int) -> None:
        self._real = real
        self.largest = largest

    def send(self, octets: bytes) -> int:
        if len(octets) > self.largest:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return self._real.send(octets)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_send_buffer_is_not_the_hosts_default() -> None:
    with closing(Queue(QUEUE)) as queue:
        # The kernel doubles it.
        size = queue._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert size == 2 * SEND_BUFFER
        queue.send([signed(1, 65531)] * 4)
        assert taken(queue) == [(1, ACCEPT)] * 4


def test_verdicts_go_one_by_one_when_they_are_too_many_at_once() -> None:
    with closing(Queue(QUEUE)) as queue:
        queue._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        queue.send([signed(identity) for identity in range(50)])
        assert taken(queue) == [(identity, ACCEPT) for identity in range(50)]


def test_packet_is_dropped_when_there_is_no_room_for_it() -> None:
    with closing(Queue(QUEUE)) as queue:
        queue._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        queue.send([signed(1), signed(2, 20000), signed(3)])
        assert taken(queue) == [(1, ACCEPT), (2, DROP), (3, ACCEPT)]


def test_packets_are_dropped_later_when_memory_was_short() -> None:
    with closing(Queue(QUEUE)) as queue:
        short = OutOfMemory(queue._socket, largest=0)
        queue._socket = cast(socket.socket, short)
        queue.send([signed(1), signed(2)])
        queue.send([signed(3)])
        assert taken(queue) == []
        short.largest = 4096
        queue.send([signed(4)])
        assert taken(queue) == [(1, DROP), (2, DROP), (3, DROP), (4, ACCEPT)]
        queue.send([signed(5)])
        assert taken(queue) == [(5, ACCEPT)]


def test_other_error_is_not_taken_for_a_lack_of_room() -> None:
    queue = Queue(QUEUE)
    queue.close()
    with pytest.raises(OSError, match='Bad file descriptor'):
        queue.send([signed(1)])

"""How a packet process begins: a queue of its own, and its rules in place of those that one which
was killed has left.

Those stay in force until then, and drop. What they were for stays shut after that (`heritage`), for
the daemon has said nothing yet.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from tcpao.userspace.netlink.nfqueue import Queue, QueueError, QueueTakenError, bound_queues
from tcpao.userspace.netlink.owners import SocketOwners
from tcpao.userspace.process.hardening import harden
from tcpao.userspace.process.process import Process
from tcpao.userspace.process.watchdog import watch_over
from tcpao.userspace.protocol import codec, messages
from tcpao.userspace.protocol.counts import SharedCounts
from tcpao.userspace.protocol.messages import Ready
from tcpao.userspace.rules.choice import choose, left_behind, remove_stale
from tcpao.userspace.rules.interface import Kind, RulesError
from tcpao.userspace.wire.signing import supported

# Queue numbers: low ones are what people write into rules by hand.
_NUMBERS: Final = range(20000, 20256)


def _free_queue(left: Collection[int]) -> Queue:
    """The first one that nobody has, and that no rules were left for. Raises QueueError."""
    for number in (number for number in _NUMBERS if number not in left):
        with contextlib.suppress(QueueTakenError):
            return Queue(number)
    raise QueueError(f'the netfilter queues {_NUMBERS.start} to {_NUMBERS.stop} are all taken')


def _owners() -> SocketOwners:
    """Raises QueueError where the kernel cannot tell whose a packet is."""
    try:
        return SocketOwners()
    except OSError as error:
        raise QueueError(
            f'this kernel does not tell whose a TCP connection is (CONFIG_INET_DIAG, module '
            f'tcp_diag): {error.strerror}'
        ) from None


def _prepare(
    channels: Sequence[socket.socket],
    kinds: tuple[Kind, ...],
    tell: int | None,
    counts: SharedCounts | None,
) -> tuple[Process, Ready]:
    """A process whose rules are in force, in place of those that another one has left. Raises
    QueueError or RulesError; then none are there."""
    left = left_behind(bound_queues, kinds)
    queue = _free_queue(left)
    process = None
    try:
        process = Process(
            channels, queue, lambda: choose(queue.number, kinds), _owners(), tell, counts
        )
        process.inherit(selector for selectors in left.values() for selector in selectors)
        removed = _clear(left, kinds)
    except RulesError:
        with contextlib.suppress(RulesError):
            remove_stale(left, kinds)
        if process is not None:
            with contextlib.suppress(RulesError):
                process.remove_rules()
        raise
    rules = process.rules
    return process, Ready(
        pid=os.getpid(),
        queue=queue.number,
        rules=rules.kind.value,
        algorithms=supported(),
        without=rules.without,
        removed=tuple(removed),
    )


def _clear(left: Collection[int], kinds: tuple[Kind, ...]) -> list[str]:
    """Remove what was left. Raises RulesError, unless somebody who starts too was quicker."""
    try:
        return remove_stale(left, kinds)
    except RulesError:
        if left_behind(bound_queues, kinds).keys() & set(left):
            raise
        return []


def serve(
    channels: Sequence[socket.socket],
    kinds: Iterable[Kind] = tuple(Kind),
    tell: int | None = None,
    counts: SharedCounts | None = None,
    parents: Iterable[int] = (),
) -> int:
    """The whole life of the process; its exit status. The first of the channels is told whether it
    is ready; `tell` is a pipe to the daemon, for `refusals`; `parents` are readable once those that
    it lives for are gone."""
    channel = channels[0]
    try:
        process, ready = _prepare(channels, tuple(kinds), tell, counts)
    except (QueueError, RulesError) as error:
        channel.sendall(codec.encode_reply(messages.NotReady(str(error))))
        return 1
    channel.sendall(codec.encode_reply(ready))
    # What is here now stays: no need to look at it again for every few hundred packets.
    gc.freeze()
    process.run(parents)
    return 0


def why_unable(kinds: Iterable[Kind] = tuple(Kind)) -> str | None:
    """Why no packet process could serve in this network namespace; None if one could. Nothing is
    left of the trial."""
    kinds = tuple(kinds)
    try:
        with (
            contextlib.closing(_free_queue(left_behind(bound_queues, kinds))) as queue,
            contextlib.closing(choose(queue.number, kinds)) as rules,
        ):
            rules.remove_all()
    except (QueueError, RulesError) as error:
        return str(error)
    return None


def main(arguments: list[str]) -> int:
    """`python -m tcpao.userspace CONTROL CHANNEL CHANNEL PIPE COUNTS [KIND...]`, descriptors:
    started by `backend`, never by hand."""
    control, first, second, tell, counts = map(int, arguments[:5])
    harden()
    # The daemon decides when the last segment is signed: its end is ours.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    kinds = tuple(Kind(name) for name in arguments[5:]) or tuple(Kind)
    channels = [socket.socket(fileno=number) for number in (first, second)]

    def work(parents: tuple[int, ...]) -> int:
        os.close(control)
        return serve(channels, kinds, tell, SharedCounts(counts), parents)

    return watch_over(work, control, (*channels, tell, counts), kinds)

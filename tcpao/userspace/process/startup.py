"""The start of a packet process: its queue, and its rules in place of those of a killed process.

The old rules stay in force until then, and drop. Their traffic stays blocked after that
(`inherited`), since the daemon has not told its keys yet.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from tcpao.userspace.netlink.nfqueue import Queue, QueueError, QueueTakenError
from tcpao.userspace.netlink.owners import SocketOwners
from tcpao.userspace.netlink.queues_in_use import listened_on
from tcpao.userspace.process.hardening import harden
from tcpao.userspace.process.process import Process
from tcpao.userspace.process.queues import Queues
from tcpao.userspace.process.watchdog import watch_over
from tcpao.userspace.protocol import codec, messages
from tcpao.userspace.protocol.counts import SharedCounts
from tcpao.userspace.protocol.messages import Ready
from tcpao.userspace.rules.choice import choose, left_behind, remove_stale
from tcpao.userspace.rules.interface import Kind, RulesError, live_queue
from tcpao.userspace.wire.signing import supported

# Queue numbers: low ones are used by people who write rules by hand.
_NUMBERS: Final = range(20000, 20256)


def _free_queues(left: Collection[int]) -> Queues:
    """Return the first free queues that no leftover rules lead to. Raises QueueError."""
    for number in (number for number in _NUMBERS if number not in left):
        with contextlib.suppress(QueueTakenError):
            common = Queue(number)
            try:
                return Queues(common, Queue(live_queue(number)))
            except QueueError:
                common.close()
                raise
    raise QueueError(f'the netfilter queues {_NUMBERS.start} to {_NUMBERS.stop} are all taken')


def _owners() -> SocketOwners:
    """Return the client of inet_diag. Raises QueueError if the kernel has none."""
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
    """Return a process whose rules are in force, in place of those of a killed one.

    Raises QueueError or RulesError; then there are no rules.
    """
    left = left_behind(listened_on, kinds)
    queues = _free_queues(left)
    process = None
    try:
        process = Process(
            channels, queues, lambda: choose(queues.number, kinds), _owners(), tell, counts
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
        queue=queues.number,
        rules=rules.kind.value,
        algorithms=supported(),
        without=rules.without,
        removed=tuple(removed),
    )


def _clear(left: Collection[int], kinds: tuple[Kind, ...]) -> list[str]:
    """Remove leftover rules; return their names.

    Raises RulesError, unless another starting process has removed them first.
    """
    try:
        return remove_stale(left, kinds)
    except RulesError:
        if left_behind(listened_on, kinds).keys() & set(left):
            raise
        return []


def serve(
    channels: Sequence[socket.socket],
    kinds: Iterable[Kind] = tuple(Kind),
    tell: int | None = None,
    counts: SharedCounts | None = None,
    parents: Iterable[int] = (),
) -> int:
    """Run the whole life of the process; return its exit status.

    The first channel gets the message whether the process is ready; `tell` is a pipe to the daemon,
    for `refusals`; `parents` become readable once the processes that it serves are gone.
    """
    channel = channels[0]
    try:
        process, ready = _prepare(channels, tuple(kinds), tell, counts)
    except (QueueError, RulesError) as error:
        channel.sendall(codec.encode_reply(messages.NotReady(str(error))))
        return 1
    channel.sendall(codec.encode_reply(ready))
    # The objects of the start stay for ever: exclude them from garbage collection.
    gc.freeze()
    process.run(parents)
    return 0


def why_unable(kinds: Iterable[Kind] = tuple(Kind)) -> str | None:
    """Return why no packet process could work in this network namespace; None if one could.

    Leaves nothing behind.
    """
    kinds = tuple(kinds)
    try:
        with (
            contextlib.closing(_free_queues(left_behind(listened_on, kinds))) as queues,
            contextlib.closing(choose(queues.number, kinds)) as rules,
        ):
            rules.remove_all()
    except (QueueError, RulesError) as error:
        return str(error)
    return None


def main(arguments: list[str]) -> int:
    """Run as `python -m tcpao.userspace CONTROL CHANNEL CHANNEL PIPE COUNTS [KIND...]`.

    The arguments are descriptors; started by `backend`, never by hand.
    """
    control, first, second, tell, counts = map(int, arguments[:5])
    harden()
    # The daemon decides when the last segment is signed: signals must not end this process.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    kinds = tuple(Kind(name) for name in arguments[5:]) or tuple(Kind)
    channels = [socket.socket(fileno=number) for number in (first, second)]

    def work(parents: tuple[int, ...]) -> int:
        os.close(control)
        return serve(channels, kinds, tell, SharedCounts(counts), parents)

    return watch_over(work, control, (*channels, tell, counts), kinds)

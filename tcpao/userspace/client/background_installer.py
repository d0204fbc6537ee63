"""The installer for the thread of a routing daemon's loop: it asks the packet process, and goes on.

A thread of its own waits for the answers, which are events like any other; a process that is stuck
costs the sessions that it protects, and no other its keepalive. What needs no answer is done at
once: aborting a connection, first of all.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from tcpao.installer import Abort, Cause, Command, Event, Failed, Probe, Prune
from tcpao.key_socket import InstallError, KeySocket
from tcpao.mkt import PeerPairs, SocketPair
from tcpao.userspace.client.channel import Channel
from tcpao.userspace.client.installer import UserspaceInstaller
from tcpao.userspace.protocol.messages import Request

_AT_ONCE: Final = Abort | Probe


@dataclass(frozen=True, slots=True)
class _Job:
    """A command, and the socket that it was meant for."""

    command: Command
    pair: SocketPair
    socket: KeySocket | None


class BackgroundInstaller(UserspaceInstaller):
    """For connections; one for each packet process."""

    def __init__(self, channel: Channel, algorithms: frozenset[str]) -> None:
        super().__init__(channel, algorithms)
        self._work: SimpleQueue[_Job | Request | None] = SimpleQueue()
        self._answers: deque[tuple[_Job, Event]] = deque()
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._job: _Job | None = None
        self._thread = threading.Thread(target=self._run, name='installer', daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when `events` has an answer. It is never closed: the thread may be about to
        write to it."""
        return self._woken

    def submit(self, command: Command) -> None:
        """Start to carry a command out."""
        if isinstance(command, _AT_ONCE) or (pair := _pair_of(command)) is None:
            super().submit(command)
            return
        self._work.put(_Job(command, pair, self._connections.get(pair)))
        self._notice()

    def events(self) -> list[Event]:
        """As every installer's. What is answered of a socket that has been replaced or given up
        meanwhile tells nothing of the one that has its addresses now."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._woken)
        while self._answers:
            job, event = self._answers.popleft()
            if self._connections.get(job.pair) is not job.socket:
                event = _gone(job)
            self._events.append(event)
        return super().events()

    def close(self) -> None:
        """End the thread, once it has its answer."""
        self._work.put(None)

    def _tell(self, request: Request) -> None:
        self._work.put(request)

    def _connection(self, pair: SocketPair) -> KeySocket:
        if threading.current_thread() is not self._thread:
            return super()._connection(pair)
        job = self._job
        if job is None or job.socket is None or not job.socket.is_open():
            raise InstallError(Cause.GONE, f'no socket is known for {pair}')
        if not job.socket.carries(pair):
            raise InstallError(Cause.GONE, f'the socket of {pair} is closed')
        return job.socket

    # --- the thread that waits ----------------------------------------------------------------

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            if not isinstance(work, _Job):
                # Nobody waits for what becomes of it.
                with suppress(InstallError):
                    self._channel.ask(work)
                continue
            self._job = work
            try:
                event = self._carry_out(work.command)
            except InstallError as error:
                event = Failed(work.command, error.cause, error.text)
            except Exception as error:
                event = Failed(work.command, Cause.REFUSED, f'internal error: {error!r}')
            self._answers.append((work, event))
            os.eventfd_write(self._woken, 1)


def _gone(job: _Job) -> Failed:
    return Failed(job.command, Cause.GONE, f'the socket of {job.pair} was given up meanwhile')


def _pair_of(command: Command) -> SocketPair | None:
    """The connection that a command is about; None for one about listening sockets."""
    if isinstance(command, Prune):
        return command.keep.pair if not isinstance(command.keep.pair, PeerPairs) else None
    pair = getattr(command, 'pair', None) or getattr(getattr(command, 'mkt', None), 'pair', None)
    return pair if isinstance(pair, SocketPair) else None

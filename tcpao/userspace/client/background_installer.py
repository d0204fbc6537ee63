"""The installer for the thread of a routing daemon's loop: asks the packet process without waiting.

A separate thread waits for the answers, which become events; a stuck process ends the sessions that
it protects, but delays no keepalive of others. Requests without an answer are sent at once:
aborting a connection, above all.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from tcpao.installer import (
    Abort,
    Cause,
    Close,
    Command,
    Event,
    Failed,
    Guard,
    GuardAll,
    Install,
    Probe,
    Prune,
    Read,
    Remove,
    SetRNext,
    Unguard,
    UnguardAll,
)
from tcpao.key_socket import InstallError, KeySocket
from tcpao.mkt import SocketPair
from tcpao.userspace.client.channel import Channel
from tcpao.userspace.client.installer import UserspaceInstaller
from tcpao.userspace.protocol.messages import Request

_AT_ONCE: Final = Abort | Probe


@dataclass(frozen=True, slots=True)
class _Job:
    """A command, and the socket at the time of the command."""

    command: Command
    pair: SocketPair
    socket: KeySocket | None


class BackgroundInstaller(UserspaceInstaller):
    """An installer for connections; one for each packet process."""

    def __init__(self, channel: Channel, algorithms: frozenset[str]) -> None:
        super().__init__(channel, algorithms)
        self._work: SimpleQueue[_Job | Request | None] = SimpleQueue()
        self._answers: deque[tuple[_Job, Event]] = deque()
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._job: _Job | None = None
        self._thread = threading.Thread(target=self._run, name='installer', daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return a descriptor that is readable when `events` has an answer.

        It is never closed: the thread may be about to write to it.
        """
        return self._woken

    def submit(self, command: Command) -> None:
        """Start to execute a command."""
        if isinstance(command, _AT_ONCE) or (pair := _pair_of(command)) is None:
            super().submit(command)
            return
        self._work.put(_Job(command, pair, self._connections.get(pair)))
        self._notice()

    def events(self) -> list[Event]:
        """Return everything that happened since the last call.

        Answers about a socket that was replaced or given up since are dropped: they are not about
        the socket that has its addresses now.
        """
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
                # No caller waits for the result.
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
    """Return the connection of a command; None for a command about listening sockets."""
    match command:
        case Read(pair) | Close(pair) | Abort(pair) | Probe(pair):
            return pair
        case Install(mkt) | Remove(mkt) | SetRNext(mkt) | Prune(mkt):
            return mkt.protects if isinstance(mkt.protects, SocketPair) else None
        case Guard() | GuardAll() | Unguard() | UnguardAll():
            return None

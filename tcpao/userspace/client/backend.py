"""Starting the packet process, and knowing when it is gone."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, Self

from tcpao.backend import BackendError, Counters
from tcpao.installer import Capabilities
from tcpao.mkt import IPAddress
from tcpao.refusal import DroppedSyn
from tcpao.userspace.client.background_installer import BackgroundInstaller
from tcpao.userspace.client.channel import Channel, ChannelError, both_ends
from tcpao.userspace.client.child import Child, WatchedChild
from tcpao.userspace.client.installer import UserspaceInstaller
from tcpao.userspace.protocol import refusals
from tcpao.userspace.protocol.counts import SharedCounts
from tcpao.userspace.protocol.messages import Loaded, NotReady, Ready, Stop
from tcpao.userspace.rules.interface import LEFT_AND_REMOVED, Kind
from tcpao.userspace.wire.seal import Tally

# Seconds that `stop` waits for the process, its rules and its watchdog to be gone; what takes
# longer, as a lock that somebody holds, goes on without the daemon.
_STOPS_WITHIN: Final = 2.3
# The gatekeeper's thread has the first, who owns the connections the second.
_CHANNELS: Final = 2


class UserspaceBackend:
    """One packet process, in the network namespace of the thread that starts it."""

    name = 'userspace'

    def __init__(self, kinds: Iterable[Kind] = (), why: str = '') -> None:
        """`kinds` of rules to try, in this order; all if there are none."""
        self.why = why
        self._kinds = tuple(kinds)
        self._child: Child | None = None
        self._end: select.epoll | None = None
        self._pipe: tuple[int, int] | None = None
        """What the process tells of its own accord. Both ends stay open here: who waits for the
        reading one isn't woken by the end of the process."""
        self._counts: SharedCounts | None = None
        self._background: BackgroundInstaller | None = None

    def start(self) -> None:
        """Start the process; needs root, so before privileges are dropped. Raises
        BackendError; then there is no process."""
        # One for each thread that asks, so that none waits for another's answer.
        pairs = [both_ends() for _ in range(_CHANNELS)]
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._counts = SharedCounts()
        try:
            self._child = self._spawn([theirs for _, theirs in pairs])
        except OSError as error:
            for ours, _ in pairs:
                ours.close()
            self._close_pipe()
            raise BackendError(
                f'the packet process cannot be started: {error}; may this user run that Python?'
            ) from None
        finally:
            for _, theirs in pairs:
                theirs.close()
        self._channels = [Channel(ours, self._child.kill) for ours, _ in pairs]
        said = self._channels[0].listen()
        if not isinstance(said, Ready):
            self._abandon('the packet process did not start')
            raise BackendError(
                said.text
                if isinstance(said, NotReady)
                else 'the packet process ended before it was ready; see its standard error'
            )
        self.ready: Ready = said
        self._end = select.epoll()
        self._end.register(self._child, select.EPOLLIN)
        for channel in self._channels:
            # When there is nobody at its other end any more.
            self._end.register(channel, 0)

    def _abandon(self, why: str) -> None:
        """It has not begun."""
        assert self._child is not None
        self._child.kill()
        self._child.end()
        self._child.wait()
        self._child = None
        for channel in self._channels:
            channel.close(why)
        self._close_pipe()

    def _spawn(self, theirs: Sequence[socket.socket]) -> Child:
        """The process, with its ends of the channels, the pipe and the counters."""
        assert self._pipe is not None
        assert self._counts is not None
        ends = (channel.fileno() for channel in theirs)
        descriptors = (*ends, self._pipe[1], self._counts.descriptor)
        return WatchedChild(descriptors, [kind.value for kind in self._kinds])

    def remarks(self) -> tuple[str, ...]:
        """Which way packets take, what can't be done, what a process that was killed had left."""
        ready = self.ready
        return (
            f'packets go through queue {ready.queue} by rules of {ready.rules}',
            *(f'not protected here: {one}' for one in ready.without),
            *(f'{LEFT_AND_REMOVED}: {one}' for one in ready.removed),
        )

    def warnings(self) -> tuple[str, ...]:
        """See tcpao.backend.Backend: the packet process sees every handshake, cookie or not."""
        return ()

    def capabilities(self) -> Capabilities:
        """What the process can do."""
        return self.listener_installer().capabilities()

    def listener_installer(self) -> UserspaceInstaller:
        """One for the thread that owns the listening sockets."""
        return UserspaceInstaller(self._channels[0], self.ready.algorithms)

    def connection_installer(self) -> UserspaceInstaller:
        """One for a thread that owns connections and may wait."""
        return UserspaceInstaller(self._channels[1], self.ready.algorithms)

    def background_installer(self) -> BackgroundInstaller:
        """One for the thread that owns the connections, and never waits."""
        if self._background is None:
            self._background = BackgroundInstaller(self._channels[1], self.ready.algorithms)
        return self._background

    def loaded(self, peers: frozenset[IPAddress]) -> None:
        """See tcpao.backend.Backend."""
        # A process that has died is told by `died`.
        with suppress(ChannelError):
            self._channels[0].ask(Loaded(peers))

    def refusals_fileno(self) -> int | None:
        """See tcpao.backend.Backend."""
        return self._pipe[0] if self._pipe is not None else None

    def refusals(self) -> list[DroppedSyn]:
        """See tcpao.backend.Backend."""
        return refusals.read(self._pipe[0]) if self._pipe is not None else []

    def tally(self) -> Tally:
        """What the process has counted. Raises tcpao.key_socket.InstallError if it has died."""
        if self._counts is None or self.died is not None:
            raise ChannelError(self.died or 'there is no packet process')
        return self._counts.read()

    def counters(self) -> Counters:
        """See tcpao.backend.Backend."""
        tally = self.tally()
        return Counters(tally.good, tally.bad, tally.not_found, tally.unsigned)

    @property
    def pid(self) -> int:
        """The process, for who wants to watch it."""
        return self.ready.pid

    def fileno(self) -> int:
        """Readable once the process has died: then every session is down. Closed by `stop`."""
        return self._end.fileno() if self._end is not None else -1

    @property
    def died(self) -> str | None:
        """Why the process can't be used any more; None while it can."""
        if self._child is not None and self._end is not None:
            ended = self._end.poll(0)
            if ended and all(channel.died is None for channel in self._channels):
                self._bury(self._child.status_soon())
        return next((one.died for one in self._channels if one.died is not None), None)

    def _bury(self, status: int | None) -> None:
        why = 'the packet process has ended'
        if status is not None:
            why = f'the packet process ended with status {status}'
        for channel in self._channels:
            channel.died = why

    def stop(self) -> None:
        """Close the sessions first. What is left is reset, the rules go, the process ends;
        idempotent. It takes 3 s at most: what isn't done by then, the watchdog does."""
        if self._child is None:
            return
        if self._background is not None:
            self._background.close()
        self._channels[0].tell(Stop())
        for channel in self._channels:
            channel.close('the packet process was stopped')
        self._child.end()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_STOPS_WITHIN)
        self._child = None
        if self._end is not None:
            self._end.close()
            self._end = None
        self._close_pipe()

    def _close_pipe(self) -> None:
        for end in self._pipe or ():
            os.close(end)
        self._pipe = None
        if self._counts is not None:
            self._counts.close()
            self._counts = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

"""The backend that starts the packet process, and notices its end."""

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

# Seconds that `stop` waits for the end of the process, its rules and its watchdog; anything slower,
# such as a lock that another program holds, goes on without the daemon.
_STOPS_WITHIN: Final = 2.3
# The first is for the gatekeeper's thread, the second for the owner of the connections.
_CHANNELS: Final = 2


class UserspaceBackend:
    """One packet process, in the network namespace of the thread that starts it."""

    name = 'userspace'

    def __init__(self, kinds: Iterable[Kind] = (), why: str = '') -> None:
        """Take the `kinds` of rules to try, in this order; all if there are none."""
        self.why = why
        self._kinds = tuple(kinds)
        self._child: Child | None = None
        self._end: select.epoll | None = None
        self._pipe: tuple[int, int] | None = None
        """The pipe for reports of the process. Both ends stay open here: the end of the process
        does not wake the reader."""
        self._counts: SharedCounts | None = None
        self._background: BackgroundInstaller | None = None

    def start(self) -> None:
        """Start the process; needs root, so call before privileges are dropped.

        Raises BackendError; then there is no process.
        """
        # One channel for each thread that asks, so that none waits for another's answer.
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
            # A hang-up, once the other end is closed.
            self._end.register(channel, 0)

    def _abandon(self, why: str) -> None:
        """Kill a process that did not become ready."""
        assert self._child is not None
        self._child.kill()
        self._child.end()
        self._child.wait()
        self._child = None
        for channel in self._channels:
            channel.close(why)
        self._close_pipe()

    def _spawn(self, theirs: Sequence[socket.socket]) -> Child:
        """Start the process, with its ends of the channels, the pipe and the counters."""
        assert self._pipe is not None
        assert self._counts is not None
        ends = (channel.fileno() for channel in theirs)
        descriptors = (*ends, self._pipe[1], self._counts.descriptor)
        return WatchedChild(descriptors, [kind.value for kind in self._kinds])

    def remarks(self) -> tuple[str, ...]:
        """Return the kind of rules, missing capabilities, and leftovers of a killed process."""
        ready = self.ready
        return (
            f'packets go through queue {ready.queue} by rules of {ready.rules}',
            *(f'not protected here: {one}' for one in ready.without),
            *(f'{LEFT_AND_REMOVED}: {one}' for one in ready.removed),
        )

    def warnings(self) -> tuple[str, ...]:
        """Return no warnings: the packet process sees every handshake, SYN cookie or not."""
        return ()

    def capabilities(self) -> Capabilities:
        """Return the capabilities that the process has reported."""
        return self.listener_installer().capabilities()

    def listener_installer(self) -> UserspaceInstaller:
        return UserspaceInstaller(self._channels[0], self.ready.algorithms)

    def connection_installer(self) -> UserspaceInstaller:
        return UserspaceInstaller(self._channels[1], self.ready.algorithms)

    def background_installer(self) -> BackgroundInstaller:
        if self._background is None:
            self._background = BackgroundInstaller(self._channels[1], self.ready.algorithms)
        return self._background

    def loaded(self, peers: frozenset[IPAddress]) -> None:
        """Tell the process the protected peers of the load."""
        # `died` reports a process that has died.
        with suppress(ChannelError):
            self._channels[0].ask(Loaded(peers))

    def refusals_fileno(self) -> int | None:
        return self._pipe[0] if self._pipe is not None else None

    def refusals(self) -> list[DroppedSyn]:
        return refusals.read(self._pipe[0]) if self._pipe is not None else []

    def tally(self) -> Tally:
        """Return the counts of the process. Raises tcpao.key_socket.InstallError if it has died."""
        if self._counts is None or self.died is not None:
            raise ChannelError(self.died or 'there is no packet process')
        return self._counts.read()

    def counters(self) -> Counters:
        tally = self.tally()
        return Counters(tally.good, tally.bad, tally.not_found, tally.unsigned, tally.limited)

    @property
    def pid(self) -> int:
        """Return the process id, for monitoring."""
        return self.ready.pid

    def fileno(self) -> int:
        """Return a descriptor that is readable once the process has died. Closed by `stop`."""
        return self._end.fileno() if self._end is not None else -1

    @property
    def died(self) -> str | None:
        """Return why the process is unusable; None while it works."""
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
        """End the process; close the sessions first. A second call changes nothing.

        Remaining sessions are reset, and the rules removed. Takes 3 s at most: the watchdog does
        the rest.
        """
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

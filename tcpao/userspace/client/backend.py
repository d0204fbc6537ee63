"""Starting the packet process, and knowing when it is gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, Self

import tcpao
from tcpao.backend import BackendError, Counters
from tcpao.installer import Capabilities
from tcpao.mkt import IPAddress
from tcpao.refusal import DroppedSyn
from tcpao.userspace.client.channel import Channel, ChannelError, both_ends
from tcpao.userspace.client.installer import UserspaceInstaller
from tcpao.userspace.protocol import refusals
from tcpao.userspace.protocol.messages import Count, Loaded, NotReady, Ready, Stop
from tcpao.userspace.rules.interface import LEFT_AND_REMOVED, Kind
from tcpao.userspace.wire.seal import Tally

# Seconds between the end of the channel and the end of the process.
_LAST_WORDS: Final = 5.0

# What the process needs of the daemon's environment; keys are in none.
_PASSED_ON: Final = (
    'PATH',
    'PYTHONPATH',
    'LD_LIBRARY_PATH',
    'LANG',
    'LC_ALL',
    'VIRTUAL_ENV',
    'XTABLES_LOCKFILE',
)


class Child(Protocol):
    """What of subprocess.Popen is used; tests fork instead."""

    pid: int
    returncode: Any

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...


class UserspaceBackend:
    """One packet process, in the network namespace of the thread that starts it."""

    name = 'userspace'

    def __init__(self, kinds: Iterable[Kind] = (), why: str = '') -> None:
        """`kinds` of rules to try, in this order; all if there are none."""
        self.why = why
        self._kinds = tuple(kinds)
        self._process: Child | None = None
        self._descriptor = -1
        self._pipe: tuple[int, int] | None = None
        """What the process tells of its own accord. Both ends stay open here: who waits for the
        reading one isn't woken by the end of the process."""

    def start(self) -> None:
        """Start the process; needs root, so before privileges are dropped. Raises
        BackendError; then there is no process."""
        ours, theirs = both_ends()
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with theirs:
                self._process = self._spawn(theirs)
        except OSError as error:
            ours.close()
            self._close_pipe()
            raise BackendError(
                f'the packet process cannot be started: {error}; may this user run that Python?'
            ) from None
        self._channel = Channel(ours, self._kill)
        said = self._channel.listen()
        if not isinstance(said, Ready):
            self._kill()
            self._process.wait()
            self._process = None
            self._channel.close('the packet process did not start')
            self._close_pipe()
            raise BackendError(
                said.text
                if isinstance(said, NotReady)
                else 'the packet process ended before it was ready; see its standard error'
            )
        self.ready: Ready = said
        self._descriptor = os.pidfd_open(self._process.pid)

    def _spawn(self, theirs: socket.socket) -> Child:
        """The process, with its end of the channel and of the pipe."""
        assert self._pipe is not None
        descriptors = (theirs.fileno(), self._pipe[1])
        return subprocess.Popen(
            # -P: the working directory isn't ours.
            [sys.executable, '-P', '-m', 'tcpao.userspace', *map(str, descriptors)]
            + [kind.value for kind in self._kinds],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd='/',
            env=_environment(),
            pass_fds=descriptors,
            # A Ctrl-C is for the daemon, which ends the process when it has nothing to sign.
            start_new_session=True,
        )

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
        return UserspaceInstaller(self._channel, self.ready.algorithms)

    def connection_installer(self) -> UserspaceInstaller:
        """One for the thread that owns the connections."""
        return UserspaceInstaller(self._channel, self.ready.algorithms)

    def loaded(self, peers: frozenset[IPAddress]) -> None:
        """See tcpao.backend.Backend."""
        # A process that has died is told by `died`.
        with suppress(ChannelError):
            self._channel.ask(Loaded(peers))

    def refusals_fileno(self) -> int | None:
        """See tcpao.backend.Backend."""
        return self._pipe[0] if self._pipe is not None else None

    def refusals(self) -> list[DroppedSyn]:
        """See tcpao.backend.Backend."""
        return refusals.read(self._pipe[0]) if self._pipe is not None else []

    def tally(self) -> Tally:
        """What the process has counted. Raises tcpao.key_socket.InstallError."""
        reply = self._channel.ask(Count())
        assert isinstance(reply, Tally)
        return reply

    def counters(self) -> Counters:
        """See tcpao.backend.Backend."""
        tally = self.tally()
        return Counters(tally.good, tally.bad, tally.not_found, tally.unsigned)

    @property
    def pid(self) -> int:
        """The process, for who wants to watch it."""
        assert self._process is not None
        return self._process.pid

    def fileno(self) -> int:
        """Readable once the process has died: then every session is down. Closed by `stop`."""
        return self._descriptor

    @property
    def died(self) -> str | None:
        """Why the process can't be used any more; None while it can."""
        if self._channel.died is None and self._process is not None:
            with suppress(ChildProcessError):
                if self._process.poll() is not None:
                    self._channel.died = (
                        f'the packet process ended with status {self._process.returncode}'
                    )
        return self._channel.died

    def stop(self) -> None:
        """Close the sessions first. What is left is reset, the rules go, the process ends;
        idempotent."""
        if self._process is None:
            return
        if self.died is None:
            with suppress(ChannelError):
                self._channel.ask(Stop())
        self._channel.close('the packet process was stopped')
        try:
            self._process.wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._process = None
        os.close(self._descriptor)
        self._descriptor = -1
        self._close_pipe()

    def _close_pipe(self) -> None:
        for end in self._pipe or ():
            os.close(end)
        self._pipe = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _kill(self) -> None:
        # Its rules stay: what they match is dropped until the next start.
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)


def _environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    home = str(Path(tcpao.__file__).resolve().parents[1])
    search = [home, *filter(None, [environment.get('PYTHONPATH')])]
    return environment | {'PYTHONPATH': os.pathsep.join(search)}

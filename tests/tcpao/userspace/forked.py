"""A packet process made by fork: a new interpreter takes seconds in User Mode Linux.

What is different is only how it begins; `test_process` is about the real one.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from itertools import pairwise

from tcpao.userspace.client.backend import UserspaceBackend
from tcpao.userspace.client.child import Child
from tcpao.userspace.process.startup import serve
from tcpao.userspace.protocol.counts import SharedCounts
from tcpao.userspace.rules.interface import Kind

PATIENCE = 60.0
MOST_DESCRIPTORS = 4096


class ForkedChild:
    """A packet process made by fork: in User Mode Linux a new interpreter takes seconds."""

    def __init__(
        self, channels: Sequence[socket.socket], kinds: tuple[Kind, ...], counts: SharedCounts
    ) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                # What the parent holds is not this process's to tidy up.
                gc.freeze()
                # The daemon's end must be the daemon's alone.
                kept = sorted([2, counts.descriptor, *(one.fileno() for one in channels)])
                for one, other in pairwise((*kept, MOST_DESCRIPTORS)):
                    os.closerange(one + 1, other)
                parent = os.pidfd_open(os.getppid())
                status = serve(channels, kinds or tuple(Kind), counts=counts, parents=(parent,))
            finally:
                os._exit(status)
        self._descriptor = os.pidfd_open(self.pid)

    def fileno(self) -> int:
        return self._descriptor

    def status(self) -> int | None:
        return self.poll()

    def status_soon(self) -> int | None:
        select.select([self], [], [], 1.0)
        return self.poll()

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """End the daemon: the process sees the end of its channels."""

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired('packet process', timeout or PATIENCE)
            time.sleep(0.002)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        return status

    def send_signal(self, sig: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, sig)


class ForkedBackend(UserspaceBackend):
    """The real backend, but for how its process begins."""

    def _spawn(self, theirs: Sequence[socket.socket]) -> Child:
        assert self._counts is not None
        return ForkedChild(theirs, self._kinds, self._counts)

"""A packet process made by fork: a new interpreter takes seconds in User Mode Linux.

What is different is only how it begins; `test_process` is about the real one.
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import time

from tcpao.userspace.client.backend import Child, UserspaceBackend
from tcpao.userspace.process.startup import serve
from tcpao.userspace.rules.interface import Kind

PATIENCE = 60.0
MOST_DESCRIPTORS = 4096


class ForkedChild:
    """A packet process made by fork: in User Mode Linux a new interpreter takes seconds."""

    def __init__(self, channel: socket.socket, kinds: tuple[Kind, ...]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                # What the parent holds is not this process's to tidy up.
                gc.freeze()
                # The daemon's end must be the daemon's alone.
                os.closerange(3, channel.fileno())
                os.closerange(channel.fileno() + 1, MOST_DESCRIPTORS)
                status = serve(channel, kinds or tuple(Kind))
            finally:
                os._exit(status)

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
        return status

    def send_signal(self, sig: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, sig)


class ForkedBackend(UserspaceBackend):
    """As the real one, but for how its process begins."""

    def _spawn(self, theirs: socket.socket) -> Child:
        return ForkedChild(theirs, self._kinds)

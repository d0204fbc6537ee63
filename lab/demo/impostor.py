"""The impostor's node, as the stage sees it: a process that attacks on order, and a stolen address.

What the attacks are is in `attacks`, which only that process imports: cryptography takes long.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lab.demo.places import PROJECT, R1
from lab.tcpao_backend import OPTION
from lab.topology.node import Node
from tcpao.backend import Preference


@contextmanager
def diverted(victim: Node, impostor: Node) -> Iterator[None]:
    """r2's way to r1's address leads to the impostor, which has taken the address."""
    take = ['ip', 'address', 'add', f'{R1}/32', 'dev', 'eth1']
    lead = ['ip', 'route', 'add', f'{R1}/32', 'dev', 'eth2']
    impostor.run(take)
    victim.run(lead)
    try:
        yield
    finally:
        victim.run([*lead[:2], 'del', *lead[3:]])
        impostor.run([*take[:2], 'del', *take[3:]])


class Impostor:
    """The process in the impostor's node, as the stage sees it."""

    def __init__(self, node: Node, backend: Preference) -> None:
        """`backend` protects what it signs."""
        # Its start must not hold the routers up.
        command = ['nice', '-n', '19', sys.executable, '-m', 'lab.demo.attacks', OPTION, backend]
        self._process = node.popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A failure of its own belongs on the stage's output.
            stderr=None,
            cwd=PROJECT,
        )
        self._partial = b''
        self._busy = False

    @property
    def busy(self) -> bool:
        """True from an order until its last attack has ended."""
        return self._busy

    def order(self, *words: object) -> None:
        """Have attacks run: `stranger`, or `r1 SENDID RECVID`."""
        assert self._process.stdin is not None
        self._process.stdin.write(' '.join(map(str, words)).encode() + b'\n')
        self._process.stdin.flush()
        self._busy = True

    def news(self) -> Iterator[str]:
        """The lines of events that have come; never waits. Raises EOFError if it has ended."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while select.select([descriptor], [], [], 0)[0]:
            octets = os.read(descriptor, 65536)
            if not octets:
                raise EOFError('the impostor has ended by itself')
            *lines, self._partial = (self._partial + octets).split(b'\n')
            for line in lines:
                if line:
                    yield line.decode()
                else:
                    self._busy = False

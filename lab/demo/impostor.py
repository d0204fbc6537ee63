"""The stage's side of the impostor's node: a process that attacks on order, and a stolen address.

The attacks themselves are in `attacks`, which only that process imports: importing cryptography
takes long.
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
    """Give r1's address to the impostor, and route r2's packets for it there."""
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
    """The stage's side of the process in the impostor's node."""

    def __init__(self, node: Node, backend: Preference) -> None:
        """Start the process; `backend` signs for it."""
        # Its start must not delay the routers.
        command = ['nice', '-n', '19', sys.executable, '-m', 'lab.demo.attacks', OPTION, backend]
        self._process = node.popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Its own errors go to the stage's output.
            stderr=None,
            cwd=PROJECT,
        )
        self._partial = b''
        self._busy = False

    @property
    def busy(self) -> bool:
        """Return True from an order until its last attack has ended."""
        return self._busy

    def order(self, *words: object) -> None:
        """Order attacks: `stranger`, or `r1 SENDID RECVID`."""
        assert self._process.stdin is not None
        self._process.stdin.write(' '.join(map(str, words)).encode() + b'\n')
        self._process.stdin.flush()
        self._busy = True

    def news(self) -> Iterator[str]:
        """Yield new lines of events; never waits. Raises EOFError if the process has ended."""
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

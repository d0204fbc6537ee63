"""tcpdump in a node, from before a moment to after another, with nothing lost between."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

from lab.topology.node import Node

CLOSE_SECONDS = 10.0


class CaptureError(Exception):
    """tcpdump did not start, or lost packets."""


class Capture:
    """A classic pcap file of one interface of a node; returns when it captures."""

    def __init__(self, node: Node, interface: str, path: Path) -> None:
        self.path = path
        # Every packet is in the file at once, and owned by whoever runs this.
        command = ['tcpdump', '-i', interface, '-n', '-U', '--immediate-mode', '-Z', 'root']
        command += ['-s', '0', '-w', str(path)]
        self._process = node.popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = ''
        for line in self._process.stderr:
            said += line
            if 'listening on' in line:
                return
        raise CaptureError(f'{" ".join(command)}: {said.strip()}')

    def close(self) -> int:
        """Write out everything that has been captured so far and end; the number of packets.

        Raises CaptureError if any was lost.
        """
        captured, received = -1, 0
        deadline = time.monotonic() + CLOSE_SECONDS
        while captured != received and time.monotonic() < deadline:
            # What tcpdump has not read when it is told to end, it never reads.
            captured, received = self._counts()
        self._process.send_signal(signal.SIGINT)
        said = self._process.communicate(timeout=CLOSE_SECONDS)[1]
        dropped = re.search(r'(\d+) packets? dropped by kernel', said)
        if captured != received or dropped is None or int(dropped[1]):
            raise CaptureError(f'{self.path}: {captured} of {received} packets; {said.strip()}')
        return captured

    def _counts(self) -> tuple[int, int]:
        """How many packets are in the file, and how many there were."""
        assert self._process.stderr is not None
        self._process.send_signal(signal.SIGUSR1)
        told = self._process.stderr.readline()
        numbers = re.search(r'(\d+) packets? captured, (\d+) packets? received', told)
        if numbers is None:
            raise CaptureError(f'{self.path}: {told.strip()}')
        return int(numbers[1]), int(numbers[2])

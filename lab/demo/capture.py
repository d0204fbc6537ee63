"""tcpdump in a node, from before a moment to after another, with nothing lost between."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

from lab.topology.node import Node

RING_KIB = 32 * 1024
CATCH_UP_SECONDS = 30.0
CLOSE_SECONDS = 10.0


class CaptureError(Exception):
    """tcpdump did not start, or lost packets."""


class Capture:
    """A classic pcap file of one interface of a node; returns when it captures."""

    def __init__(self, node: Node, interface: str, path: Path) -> None:
        self.path = path
        # Every packet is in the file at once, and owned by whoever runs this.
        command = ['tcpdump', '-i', interface, '-n', '-U', '--immediate-mode', '-Z', 'root']
        # A slot of the ring is as large as the largest packet may be: 16 to a MiB.
        command += ['-B', str(RING_KIB), '-s', '0', '-w', str(path)]
        self._process = node.popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = ''
        for line in self._process.stderr:
            said += line
            if 'listening on' in line:
                return
        raise CaptureError(f'{" ".join(command)}: {said.strip()}')

    def catch_up(self) -> None:
        """Until the file holds every packet that there was before this call. Raises CaptureError
        if any was lost."""
        captured, received = self._counts()
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while captured < received:
            if time.monotonic() > deadline:
                raise CaptureError(f'{self.path}: {captured} of {received} packets')
            captured, _ = self._counts()

    def close(self) -> int:
        """Write out everything that has been captured so far and end; the number of packets.

        Raises CaptureError if any was lost.
        """
        # What tcpdump has not read when it is told to end, it never reads.
        self.catch_up()
        self._process.send_signal(signal.SIGINT)
        said = self._process.communicate(timeout=CLOSE_SECONDS)[1]
        captured = re.search(r'(\d+) packets? captured', said)
        dropped = re.search(r'(\d+) packets? dropped by kernel', said)
        if captured is None or dropped is None or int(dropped[1]):
            raise CaptureError(f'{self.path}: {said.strip()}')
        return int(captured[1])

    def _counts(self) -> tuple[int, int]:
        """How many packets are in the file, and how many there were."""
        assert self._process.stderr is not None
        self._process.send_signal(signal.SIGUSR1)
        told = '\n'
        while told == '\n':
            # Asked while it is just ending its last line, it ends that once more.
            told = self._process.stderr.readline()
        numbers = re.search(r'(\d+) packets? captured, (\d+) packets? received', told)
        if numbers is None:
            raise CaptureError(f'{self.path}: {told.strip()}')
        return int(numbers[1]), int(numbers[2])

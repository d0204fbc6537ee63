"""A capture by tcpdump in a node, from one moment to another, without loss."""

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
    """A classic pcap file of one interface of a node; capturing once this returns."""

    def __init__(self, node: Node, interface: str, path: Path) -> None:
        self.path = path
        # Every packet is written to the file at once; the file belongs to the user of this process.
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
        """Wait until the file holds every packet from before this call.

        Raises CaptureError if any was lost.
        """
        captured, received = self._counts()
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while captured < received:
            if time.monotonic() > deadline:
                raise CaptureError(f'{self.path}: {captured} of {received} packets')
            captured, _ = self._counts()

    def close(self) -> int:
        """Write all captured packets and end; return the number of packets.

        Raises CaptureError if any was lost.
        """
        # tcpdump drops packets that it has not read when it gets the signal to end.
        self.catch_up()
        self._process.send_signal(signal.SIGINT)
        said = self._process.communicate(timeout=CLOSE_SECONDS)[1]
        captured = re.search(r'(\d+) packets? captured', said)
        dropped = re.search(r'(\d+) packets? dropped by kernel', said)
        if captured is None or dropped is None or int(dropped[1]):
            raise CaptureError(f'{self.path}: {said.strip()}')
        return int(captured[1])

    def _counts(self) -> tuple[int, int]:
        """Return the number of packets in the file, and the number received."""
        assert self._process.stderr is not None
        self._process.send_signal(signal.SIGUSR1)
        told = '\n'
        while told == '\n':
            # A signal during the last line makes tcpdump print an empty line first.
            told = self._process.stderr.readline()
        numbers = re.search(r'(\d+) packets? captured, (\d+) packets? received', told)
        if numbers is None:
            raise CaptureError(f'{self.path}: {told.strip()}')
        return int(numbers[1]), int(numbers[2])

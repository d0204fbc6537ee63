"""tcpdump in a node, from before a moment to after another, with nothing lost between."""

from __future__ import annotations

import re
import signal
import subprocess
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
        """Write out everything and end; the number of packets. Raises CaptureError."""
        self._process.send_signal(signal.SIGINT)
        said = self._process.communicate(timeout=CLOSE_SECONDS)[1]
        captured = re.search(r'(\d+) packets? captured', said)
        dropped = re.search(r'(\d+) packets? dropped by kernel', said)
        if captured is None or dropped is None or int(dropped[1]):
            raise CaptureError(f'{self.path}: {said.strip()}')
        return int(captured[1])

"""The content of a capture while it goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.demo.capture import Capture
from tcpao.verification.capture import CutOffError, read_packets


def so_far(wire: Capture) -> Path:
    """A copy of its file, of whole packets only: all that was on the wire before this call, and
    maybe a little more."""
    wire.catch_up()
    copy = wire.path.with_name(f'{wire.path.stem}.so-far{wire.path.suffix}')
    while True:
        shutil.copyfile(wire.path, copy)
        try:
            for _ in read_packets(copy):
                pass
        except CutOffError:
            # One more was just being written.
            continue
        return copy

"""A daemon that reads a full table takes a turn of its loop for each message: what ours adds to one
must not grow with the neighbors that are protected."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import plugin
from tests.plugin.doubles import Daemon
from tests.plugin.peers import free_port
from tests.plugin.texts import neighbor

OURS = str(Path(plugin.__file__).parent)


def lines_of_ours(work: Callable[[], object]) -> int:
    """Lines of the plugin that run meanwhile."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        count += event == 'line'
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count


def lines_of_a_busy_turn(daemon: Callable[..., Daemon], neighbors: int) -> int:
    more = f'    passive; listen {free_port()};\n'
    one = daemon(''.join(neighbor(peer=f'127.0.1.{n + 1}', more=more) for n in range(neighbors)))
    assert one.begin()
    busy = os.eventfd(1, os.EFD_NONBLOCK)
    one.reactor._poller.register(busy, select.POLLIN)
    try:
        one.wait()
        served = []

        def turn() -> None:
            one.reactor.listener.incoming()
            served.extend(one.reactor._wait_for_io(1000))

        lines = lines_of_ours(turn)
        assert served == [busy]
    finally:
        one.reactor._poller.unregister(busy)
        os.close(busy)
    return lines


def test_turn_costs_the_same_beside_many_protected_neighbors(
    daemon: Callable[..., Daemon],
) -> None:
    assert 0 < lines_of_a_busy_turn(daemon, 1) == lines_of_a_busy_turn(daemon, 30)

"""The gatekeeper's events in ExaBGP's log."""

from __future__ import annotations

from collections.abc import Callable

from exabgp.logger import log

from gatekeeper.reporting import timeline
from gatekeeper.reporting.timeline import Level

LOG = 'ikev2'
"""The name of our source in ExaBGP's log."""


class Recorder(timeline.Recorder):
    """The receiver of events for ExaBGP's log. Python's logging has its own lock."""

    def log(self, level: Level, line: Callable[[], str]) -> None:
        """Write a line into ExaBGP's log."""
        write = {
            Level.DEBUG: log.debug,
            Level.INFO: log.info,
            Level.WARNING: log.warning,
            Level.ERROR: log.error,
        }[level]
        write(line, LOG)

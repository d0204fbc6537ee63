"""The state that the gate before connect(), accepted sockets and BGP sessions share.

All of it belongs to the reactor's thread.
"""

from __future__ import annotations

from typing import Any

from gatekeeper.adapter.driver import Driver
from gatekeeper.adapter.pinned_ports import PinnedPorts
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.service.gatekeeper import Gatekeeper
from plugin.log import Recorder


class Context:
    """The shared state of one reactor, from the first gated neighbor on."""

    def __init__(self, reactor: Any, gatekeeper: Gatekeeper, recorder: Recorder) -> None:
        self.reactor = reactor
        self.gatekeeper = gatekeeper
        self.recorder = recorder
        self.policies: dict[str, SessionPolicy] = {}
        """The policies in force, by session key."""
        self.pinned_ports = PinnedPorts()
        self.again = False
        """True if the next turn should come at once."""

    def drive(self, driver: Driver) -> None:
        """Take the driver's parts: sockets, wakeup, closing sockets."""
        self.driver = driver
        self.links = driver.sockets
        self.waker = driver.wakeup
        self.closing = driver.closing

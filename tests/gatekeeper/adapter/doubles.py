"""A gatekeeper, an installer and a daemon that only remember what they were told."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, cast

from gatekeeper.adapter.driver import Driver
from gatekeeper.adapter.sockets import ProtectedSocket
from keymaterial import Secret
from tcpao.installer import Command, Event
from tcpao.mkt import ALGORITHMS, Mkt, SocketPair

PAIR = SocketPair(ip_address('10.0.0.1'), 40000, ip_address('10.0.0.2'), 179)


def an_mkt(not_after: float) -> Mkt:
    """An MKT of PAIR with this end, in seconds of CLOCK_BOOTTIME."""
    return Mkt(
        identity='test',
        protects=PAIR,
        algorithm=ALGORITHMS['hmac-sha-1-96'],
        tcp_options=True,
        send_id=1,
        recv_id=2,
        master_key=Secret(bytes(20)),
        not_after=not_after,
    )


@dataclass
class Source:
    """Commands for the driver."""

    commands: list[Command] = field(default_factory=list)
    posted: list[Event] = field(default_factory=list)
    closed: list[SocketPair] = field(default_factory=list)
    alive: bool = True
    settled: bool = True
    descriptor: int = field(default_factory=lambda: os.eventfd(0, os.EFD_NONBLOCK))

    def fileno(self) -> int:
        return self.descriptor

    def take_commands(self) -> Sequence[Command]:
        taken, self.commands = self.commands, []
        return taken

    def is_settled(self) -> bool:
        return self.settled

    def post(self, event: Event) -> None:
        self.posted.append(event)

    def gone(self, pair: SocketPair) -> None:
        self.closed.append(pair)

    def stop(self) -> None:
        self.alive = False


@dataclass
class Installer:
    """Takes everything."""

    submitted: list[Command] = field(default_factory=list)
    results: list[Event] = field(default_factory=list)

    def fileno(self) -> None:
        return None

    def submit(self, command: Command) -> None:
        self.submitted.append(command)

    def events(self) -> list[Event]:
        taken, self.results = self.results, []
        return taken

    def add_connection(self, pair: SocketPair, sock: socket.socket) -> None:
        pass

    def drop_connection(self, pair: SocketPair) -> None:
        pass


@dataclass
class RoutingDaemon:
    """Ends sessions by writing that down."""

    ended: list[tuple[str, SocketPair, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    fault: Exception | None = None

    def close(self, link: ProtectedSocket, cause: str) -> None:
        self.ended.append(('close', link.pair, cause))

    def abort(self, link: ProtectedSocket, cause: str) -> None:
        self.ended.append(('abort', link.pair, cause))

    def settle(self) -> None:
        if self.fault is not None:
            raise self.fault

    def report_failure(self, cause: str, error: Exception | None) -> None:
        self.failures.append(cause)


class Driven:
    """A driver with one protected socket."""

    def __init__(self) -> None:
        self.source, self.installer, self.daemon = Source(), Installer(), RoutingDaemon()
        self.driver = Driver(self.source, cast(Any, self.installer), self.daemon)
        ours, self.theirs = socket.socketpair()
        self.socket = self.driver.sockets.add(PAIR, ours)

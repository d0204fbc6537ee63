"""Backends: the interface of what protects the connections of a process, and its counters."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tcpao.installer import Capabilities
from tcpao.mkt import IPAddress
from tcpao.refusal import DroppedSyn
from tcpao.socket_installer import SocketInstaller


class BackendError(Exception):
    """A backend can't be used here; the message says why and what to try."""


class Preference(StrEnum):
    """`tcp-ao-backend` of the configuration."""

    KERNEL = 'kernel'
    USERSPACE = 'userspace'
    AUTO = 'auto'


@dataclass(frozen=True, slots=True)
class Counters:
    """Segments received by protected sockets: of the network namespace under the kernel's TCP-AO,
    else of the packet process."""

    good: int
    bad: int
    """Their MAC was wrong, or of the wrong length."""
    key_not_found: int
    """Under a KeyID that nobody has there."""
    required_but_missing: int
    """Without TCP-AO where there had to be one."""


class Backend(Protocol):
    """What protects a process's connections. One thread starts and stops it; each installer
    belongs to one thread."""

    name: str
    """As in Capabilities.backend."""
    why: str
    """Why it is this one, for the log."""

    def start(self) -> None:
        """Before privileges are dropped. Raises BackendError; then nothing is left behind."""

    def remarks(self) -> tuple[str, ...]:
        """What its start has found, for the log."""

    def warnings(self) -> tuple[str, ...]:
        """Settings of this host that will keep connections out, for the log."""

    def capabilities(self) -> Capabilities:
        """What it can do, once started."""

    def listener_installer(self) -> SocketInstaller[socket.socket]:
        """One for the thread that owns the listening sockets."""

    def connection_installer(self) -> SocketInstaller[socket.socket]:
        """One for a thread that owns connections and may wait."""

    def background_installer(self) -> SocketInstaller[socket.socket]:
        """One for the thread that owns the connections and never waits; its events may come
        later, see its `fileno`."""

    def loaded(self, peers: frozenset[IPAddress]) -> None:
        """A load is in force, with these protected peers: what an earlier process of ours that was
        killed still shuts for others is opened."""

    def counters(self) -> Counters:
        """What it has counted, from any thread. Raises tcpao.key_socket.InstallError if it has
        died, OSError."""

    def refusals_fileno(self) -> int | None:
        """Readable when `refusals` has something; None if it never will."""

    def refusals(self) -> list[DroppedSyn]:
        """Connections that it has kept out, some for all of a kind: what a peer has to hear from
        an operator, for its SYN just vanishes. For one thread."""

    def fileno(self) -> int | None:
        """Readable once the backend has died, None if it can't die. See `died`."""

    @property
    def died(self) -> str | None:
        """Why every session is down; None while the backend lives."""

    def stop(self) -> None:
        """When every session is closed. Idempotent."""

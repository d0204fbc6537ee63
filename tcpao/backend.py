"""Backends: the interface to the protection of a process's connections, and its counters."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tcpao.installer import Capabilities, Installer
from tcpao.mkt import IPAddress
from tcpao.refusal import DroppedSyn


class BackendError(Exception):
    """A backend is not usable here; the message says why and what to try."""


class Preference(StrEnum):
    """The directive `tcp-ao-backend` of the configuration."""

    KERNEL = 'kernel'
    USERSPACE = 'userspace'
    AUTO = 'auto'


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts of segments that protected sockets received.

    With the kernel's TCP-AO they are those of the network namespace, else those of the packet
    process.
    """

    good: int
    bad: int
    """Segments whose MAC was wrong, or of the wrong length."""
    key_not_found: int
    """Segments with a KeyID that has no key."""
    required_but_missing: int
    """Segments without TCP-AO where it is required."""
    beyond_limit: int = 0
    """Segments that the packet process's rules dropped unjudged: of no open connection, and more
    than it judges of one peer's in a second."""


class Backend(Protocol):
    """The protection of a process's connections.

    One thread starts and stops the backend; each installer belongs to one thread.
    """

    name: str
    """The same name as in Capabilities.backend."""
    why: str
    """The reason for this choice, for the log."""

    def start(self) -> None:
        """Start, before privileges are dropped.

        Raises BackendError; then nothing is left behind.
        """

    def remarks(self) -> tuple[str, ...]:
        """Return remarks from the start, for the log."""

    def warnings(self) -> tuple[str, ...]:
        """Return the settings of this host that will prevent connections, for the log."""

    def capabilities(self) -> Capabilities:
        """Return the capabilities of this backend, once started."""

    def listener_installer(self) -> Installer[socket.socket]:
        """Return an installer for the thread that owns the listening sockets."""

    def connection_installer(self) -> Installer[socket.socket]:
        """Return an installer for a thread that owns connections and may wait."""

    def background_installer(self) -> Installer[socket.socket]:
        """Return an installer for the thread that owns the connections and never waits.

        Its events may come later, see its `fileno`.
        """

    def loaded(self, peers: frozenset[IPAddress]) -> None:
        """Note that a load is in force, with these protected peers.

        Rules of an earlier process of ours that was killed are removed for all other peers.
        """

    def counters(self) -> Counters:
        """Return the counts so far, from any thread.

        Raises tcpao.key_socket.InstallError if the backend has died, or OSError.
        """

    def refusals_fileno(self) -> int | None:
        """Return a descriptor that is readable when `refusals` has something; None if it never
        will.
        """

    def refusals(self) -> list[DroppedSyn]:
        """Return the connections that were refused since the last call, some for all of a kind.

        For operators: the peer learns nothing, since its SYN is dropped silently. For one thread.
        """

    def fileno(self) -> int | None:
        """Return a descriptor that is readable once the backend has died, None if it can't.

        See `died`.
        """

    @property
    def died(self) -> str | None:
        """Return why every session is down; None while the backend runs."""

    def stop(self) -> None:
        """Stop, when every session is closed; a second call changes nothing."""

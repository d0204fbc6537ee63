"""The adapter's part of `gatekeeper init`: the text of a first configuration, and its check.

Adapters are found by the entry point group `GROUP` of their distribution, since no module here may
know which adapters there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, Protocol

GROUP: Final = 'gatekeeper.first_configuration'


@dataclass(frozen=True, slots=True)
class Router:
    """One router of the session."""

    name: str
    """The name of its folder, and its identity as `fqdn`."""
    address: IPv4Address | IPv6Address
    number: int
    """Its AS number."""
    router_id: IPv4Address
    """Its BGP Identifier."""


@dataclass(frozen=True, slots=True)
class Side:
    """One router's view of the session."""

    local: Router
    peer: Router
    families: Sequence[str]
    """Names as in the configuration: `ipv4 unicast`."""
    credential: Sequence[str]
    """Directives of the section, with key files named relative to the configuration."""
    listens: bool
    """True for the router that waits for the connection."""


class FirstConfiguration(Protocol):
    """The interface that an adapter implements for `gatekeeper init`."""

    file_name: str
    """The file name of a router's configuration."""
    families: Sequence[str]
    """The families that may be chosen."""

    def text(self, side: Side) -> str:
        """Return the configuration of one router."""

    def why_invalid(self, path: Path) -> str | None:
        """Return why the router would refuse the file; None if it would start."""

    def start_command(self, path: Path) -> str:
        """Return the command that starts the router with the file."""

"""A protected connection: its phase, its keys and its waiter. Data and look-ups only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from gatekeeper.errors import GateError
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.state.key_source import KeySource
from gatekeeper.state.mkt_record import MktRecord
from gatekeeper.state.rotation import Rotation
from tcpao.installer import NO_TRAFFIC, Traffic
from tcpao.mkt import Mkt, SocketPair

if TYPE_CHECKING:
    from gatekeeper.reporting.explanations import Explanation
    from gatekeeper.state.peer import Peer
    from ikev2.events import RpSaRequested


class Waiter(Protocol):
    """An object that waits for a connection to be granted: a Ticket."""

    def settle(self, session_key: str, mkt: Mkt) -> None: ...

    def fail(self, error: GateError) -> None: ...


class Phase(StrEnum):
    """The phase of a protected connection."""

    NEGOTIATING = 'negotiating'
    WAITING = 'installed, waiting for the SYN'
    PROVING = 'proving'
    PROVEN = 'in use'
    ENDING = 'ending'


@dataclass(slots=True)
class Doubt:
    """A doubt, after CHILD_SA_NOT_FOUND, that the peer still sends under the key in use."""

    good: int | None = None
    """Good segments at the first reading; None until then."""
    until: float = 0.0
    """Readings between the first one and this time decide nothing."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The traffic of a connection as last read, and when."""

    traffic: Traffic = NO_TRAFFIC
    at: float = 0.0


@dataclass(slots=True, eq=False)
class Connection:
    """One socket pair: its MKT, the successor, and retiring MKTs."""

    pair: SocketPair
    policy: SessionPolicy
    ike_peer: Peer | None
    """The peer that its keys are negotiated with; None for manual keys."""
    opener: bool
    mkt_in_use: MktRecord
    """The MKT in use, or pending."""
    keys: KeySource = field(init=False)
    """What makes its keys: set before the connection is in the store."""
    phase: Phase = Phase.NEGOTIATING
    waiter: Waiter | None = None
    pruned: bool = False
    """While proving: True once the keys of other sessions are removed."""
    attempts: int = 0
    """Number of refused requests of this opening."""
    keyids_refused: set[int] = field(default_factory=set)
    """SendIDs of the peer that we can't take as RecvIDs: the next request names them."""
    keyids_unwanted: frozenset[int] = frozenset()
    """SendIDs of ours that the peer can't take: the next request for a successor has another."""
    requested_successor: MktRecord | None = None
    """A successor that we have requested, until the answer."""
    peers_successor: MktRecord | None = None
    """A successor that the peer has requested, until its rotation begins."""
    rotation: Rotation | None = None
    retiring: list[MktRecord] = field(default_factory=list)
    began_last: bool = False
    rekey_failures: int = 0
    rekeys: int = 0
    doubt: Doubt | None = None
    replacement: RpSaRequested | None = None
    """A request that waits for the end of this connection."""
    counted: Counted = field(default_factory=Counted)
    since: float = 0.0
    trouble: Explanation | None = None
    """The obstacle to the next key, while this one protects the session."""

    @property
    def peer(self) -> Peer:
        """Return the peer of a connection whose keys are negotiated."""
        assert self.ike_peer is not None
        return self.ike_peer

    @property
    def has_socket(self) -> bool:
        """Return True if the daemon has a socket for this connection, and will report its end."""
        return self.opener or self.phase not in (Phase.NEGOTIATING, Phase.WAITING)

    def mkts(self) -> list[MktRecord]:
        """Return every MKT on this connection that has not ended."""
        found = [self.mkt_in_use, self.requested_successor, self.peers_successor, *self.retiring]
        if self.rotation is not None:
            found.append(self.rotation.new)
        found += self.keys.mkts()
        return [life for life in dict.fromkeys(found) if life is not None and not life.ended]

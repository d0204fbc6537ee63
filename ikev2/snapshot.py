"""The state of an endpoint for `show`: plain data, no secrets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ikev2.context import Counters, Path
from ikev2.sa.transitions import State

if TYPE_CHECKING:
    from ikev2.association import Association
    from ikev2.sa.ike_sa import IkeSa


@dataclass(frozen=True, slots=True)
class IkeSaSnapshot:
    """The state of one IKE SA."""

    state: State
    initiator: bool
    """True if we are the original initiator."""
    spis: str
    """Initiator's and responder's SPI in hex."""
    suite: str
    since: float | None
    """`now` when the IKE SA came up."""
    last_received_at: float
    """`now` of the peer's last authentic message."""
    profile: bool
    nat: bool
    path: Path
    proven_until: float | None
    """Seconds since the epoch when the peer's proof ends; None if it does not end by itself."""


@dataclass(frozen=True, slots=True)
class PeerSnapshot:
    """The state of one peer."""

    name: str
    up: bool
    """True if there is an IKE SA that serves requests."""
    connecting: bool
    """True if IKE_SA_INIT or IKE_AUTH is under way from our side."""
    ike_sas: tuple[IkeSaSnapshot, ...]
    waiting: int
    """Number of requests that have not been sent yet."""
    counters: Counters


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of one endpoint."""

    peers: tuple[PeerSnapshot, ...]
    unknown_sources: Counters
    """Counts of datagrams from addresses that no peer has."""

    def peer(self, name: str) -> PeerSnapshot:
        """Return the snapshot of one peer. Raises KeyError if there is no such peer."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        raise KeyError(name)


def snapshot_of(association: Association) -> PeerSnapshot:
    """Return the snapshot of an association."""
    return PeerSnapshot(
        association.peer.name,
        bool(association.usable),
        association.attempt is not None
        or any(sa.state == State.AUTH_SENT for sa in association.sas),
        tuple(snapshot_of_ike_sa(sa) for sa in association.sas),
        len(association.jobs),
        replace(association.counters),
    )


def snapshot_of_ike_sa(sa: IkeSa) -> IkeSaSnapshot:
    """Return the snapshot of an IKE SA."""
    origin = sa.origin
    return IkeSaSnapshot(
        sa.state,
        origin.initiator,
        origin.spis,
        str(origin.suite),
        sa.established,
        sa.last_received_at,
        origin.profile,
        origin.nat,
        sa.path,
        sa.proof.until if sa.proof is not None else None,
    )

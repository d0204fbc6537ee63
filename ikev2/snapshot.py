"""What an endpoint shows of itself: plain data, nothing secret."""

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
    """One IKE SA."""

    state: State
    initiator: bool
    """We are its original initiator."""
    spis: str
    """Initiator's and responder's in hex."""
    suite: str
    since: float | None
    """`now` when it came up."""
    heard: float
    """`now` of the peer's last authentic message."""
    profile: bool
    nat: bool
    path: Path
    proven_until: float | None
    """Seconds since the epoch, when the peer's proof ends; None if it doesn't end by itself."""


@dataclass(frozen=True, slots=True)
class PeerSnapshot:
    """One peer."""

    name: str
    up: bool
    """There is an IKE SA that serves requests."""
    connecting: bool
    """IKE_SA_INIT or IKE_AUTH is under way from our side."""
    ike_sas: tuple[IkeSaSnapshot, ...]
    waiting: int
    """Requests that haven't been sent yet."""
    counters: Counters


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One endpoint."""

    peers: tuple[PeerSnapshot, ...]
    strangers: Counters
    """What came from addresses that no peer has."""

    def peer(self, name: str) -> PeerSnapshot:
        """One peer's. Raises KeyError."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        raise KeyError(name)


def snapshot_of(association: Association) -> PeerSnapshot:
    """A peer's snapshot."""
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
    """An IKE SA's snapshot."""
    origin = sa.origin
    return IkeSaSnapshot(
        sa.state,
        origin.initiator,
        origin.spis,
        str(origin.suite),
        sa.established,
        sa.heard,
        origin.profile,
        origin.nat,
        sa.path,
        sa.proof.until if sa.proof is not None else None,
    )

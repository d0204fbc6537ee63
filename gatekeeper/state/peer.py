"""A peer: its PAD entry, and its state. Data and look-ups only."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from gatekeeper.policy.sessions import PadEntry
from gatekeeper.reporting.explanations import Explanation
from gatekeeper.reporting.reasons import Reason
from gatekeeper.state.key_ids import KeyIds
from gatekeeper.state.mkt_record import MktRecord

if TYPE_CHECKING:
    from ikev2.peer import Peer as IkePeer


@dataclass(slots=True, eq=False)
class Peer:
    """A PAD entry and the state of the peer."""

    pad: PadEntry
    ike: IkePeer
    """The same entry, as given to IKE."""
    keyids: KeyIds
    up: bool = False
    attempts: int = 0
    trouble: Explanation | None = None
    """The reason why there is no IKE SA, or the fault of the peer's last request."""
    silent_until: dict[Reason, float] = field(default_factory=dict)
    """When a failure to send for such a reason may be reported again."""
    renew: bool = False
    """True if the PAD entry has changed: all MKTs are renegotiated after the peer's new proof."""
    changed_at: float = -inf
    """When the PAD entry last changed: MKTs with an older proof are renegotiated."""
    mkts: list[MktRecord] = field(default_factory=list)
    """Every MKT whose ids are taken."""
    deletes: dict[int, list[MktRecord]] = field(default_factory=dict)
    """DELETEs under way, by exchange."""
    undeleted: list[MktRecord] = field(default_factory=list)
    """MKTs whose DELETE the peer never answered: repeated under the next IKE SA."""

    def by_recv_id(self, recv_id: int) -> MktRecord | None:
        """Return the MKT with this SendID of the peer, or None."""
        return next((life for life in self.mkts if life.recv_id == recv_id), None)

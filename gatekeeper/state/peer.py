"""A peer: its PAD entry, and what is known of it. Data and look-ups only."""

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
    """A PAD entry and what is known of the peer."""

    pad: PadEntry
    ike: IkePeer
    """The same as IKE was given it."""
    keyids: KeyIds
    up: bool = False
    attempts: int = 0
    trouble: Explanation | None = None
    """Why there is no IKE SA, or what was wrong with the last request of the peer's."""
    silent_until: dict[Reason, float] = field(default_factory=dict)
    """When a send that fails for such a reason may be told again."""
    renew: bool = False
    """The PAD entry has changed: all MKTs are renegotiated once it has proven itself anew."""
    changed_at: float = -inf
    """When the PAD entry last changed: MKTs whose proof is from before are renegotiated."""
    mkts: list[MktRecord] = field(default_factory=list)
    """Every MKT whose ids are taken."""
    deletes: dict[int, list[MktRecord]] = field(default_factory=dict)
    """DELETEs under way, by exchange."""
    undeleted: list[MktRecord] = field(default_factory=list)
    """MKTs whose DELETE the peer never answered: said again under the next IKE SA."""

    def by_recv_id(self, recv_id: int) -> MktRecord | None:
        """The life under the peer's SendID."""
        return next((life for life in self.mkts if life.recv_id == recv_id), None)

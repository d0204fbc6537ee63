"""CREATE_CHILD_SA requests of a peer: which SA they concern, and whether they are allowed now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikev2.constants import NotifyType, ProtocolId
from ikev2.exchanges.ike_rekey import serve_ike_rekey
from ikev2.exchanges.rp_responder import serve_rp_sa
from ikev2.wire.message import Message
from ikev2.wire.payloads_sa import SaPayload

if TYPE_CHECKING:
    from ikev2.sa.ike_sa import IkeSa


def serve_create_child(sa: IkeSa, message: Message, now: float) -> None:
    """Serve a rekey of the IKE SA, or a request for a routing-protocol SA. Raises PeerError."""
    association = sa.association
    if association.stopped or not association.child_requests.allow(now):
        association.counters.limited += 1
        sa.refuse_with(NotifyType.TEMPORARY_FAILURE, now)
        return
    offer = message.require(SaPayload)
    if offer.proposals[0].protocol == ProtocolId.IKE:
        serve_ike_rekey(sa, message, now)
    else:
        serve_rp_sa(sa, message, now)

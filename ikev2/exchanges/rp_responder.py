"""CREATE_CHILD_SA of a peer for a routing-protocol SA, new or as a successor.

Only IKE's part is judged here (profile, key exchange, form of selectors and notifies); our user
judges the rest: it gets an offer with a token and calls `prepare` and `send`, or `refuse`. Where
additional key exchanges follow, the keys come later, in a separate event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikev2.constants import NotifyType, ProtocolId
from ikev2.crypto.key_exchange import respond
from ikev2.crypto.prf import check_nonce
from ikev2.errors import (
    MalformedMessage,
    NoProposalChosen,
    TrafficSelectorsUnacceptable,
)
from ikev2.events import RpSaOffer, RpSaRequested
from ikev2.exchanges.rp_pending import (
    Finish,
    KeyExchanged,
    PendingRpSa,
    acceptable,
    read_lifetime,
)
from ikev2.proposals.rp import KEYID_LENGTH
from ikev2.sa.transitions import State
from ikev2.wire.message import Message
from ikev2.wire.payloads import KeyExchangePayload, NoncePayload, NotifyPayload
from ikev2.wire.payloads_sa import SaPayload
from ikev2.wire.payloads_ts import TsiPayload, TsrPayload
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.sa.ike_sa import IkeSa


def serve_rp_sa(sa: IkeSa, message: Message, now: float) -> None:
    """Serve a CREATE_CHILD_SA request that does not concern the IKE SA. Raises PeerError."""
    association = sa.association
    if sa.state == State.REKEYING:
        sa.refuse_with(NotifyType.TEMPORARY_FAILURE, now)  # RFC 7296, 2.25.2
        return
    ni = message.require(NoncePayload).data
    check_nonce(sa.origin.suite.prf, ni)
    offer = _offer_of_a_routing_protocol(sa, message)
    ke = message.find(KeyExchangePayload)
    if ke is None:
        raise NoProposalChosen('no key exchange')
    keyid, proposals = acceptable(offer, association.peer.policy, ke.group)
    described = _describe(message, keyid, proposals, _rekey_keyid(message))
    if sa.origin.nat:
        # The addresses in the selectors are not those of the packets: TCP-AO would not pass.
        sa.refuse_with(NotifyType.TS_UNACCEPTABLE, now)
        return
    exchange = KeyExchanged(ke.group, *respond(ke.group, ke.data))
    _ask_user(
        sa,
        described,
        PendingRpSa(
            sa=sa,
            offer=offer,
            tsi=message.require(TsiPayload),
            tsr=message.require(TsrPayload),
            sk_d=Secret(sa.keys.sk_d.reveal()),
            ni=ni,
            lifetime=described.lifetime,
            rekey_keyid=described.rekey_keyid,
            exchange=exchange,
        ),
    )


def serve_first_rp_sa(sa: IkeSa, message: Message, finish: Finish, now: float) -> None:
    """Serve the child in an IKE_AUTH whose proof is good: a routing-protocol SA, or none.

    `finish` sends the answer, at once or after our user's decision. Without the child the IKE SA
    comes up all the same (RFC 7296, 1.2). Raises MalformedMessage.
    """
    try:
        _offer_first(sa, message, finish)
    except (NoProposalChosen, TrafficSelectorsUnacceptable) as error:
        sa.association.counters.refused += 1
        finish([NotifyPayload(error.notify or NotifyType.NO_PROPOSAL_CHOSEN)], now)


def _offer_first(sa: IkeSa, message: Message, finish: Finish) -> None:
    offer = _offer_of_a_routing_protocol(sa, message)
    if sa.origin.nat:
        raise TrafficSelectorsUnacceptable('a NAT is on the path: TCP-AO would not pass')
    keyid, proposals = acceptable(offer, None, None)
    described = _describe(message, keyid, proposals, None)
    _ask_user(
        sa,
        described,
        PendingRpSa(
            sa=sa,
            offer=offer,
            tsi=message.require(TsiPayload),
            tsr=message.require(TsrPayload),
            sk_d=Secret(sa.keys.sk_d.reveal()),
            ni=sa.origin.ni,
            lifetime=described.lifetime,
            finish=finish,
        ),
    )


def _offer_of_a_routing_protocol(sa: IkeSa, message: Message) -> SaPayload:
    offer = message.require(SaPayload)
    if not sa.origin.profile or any(p.protocol != ProtocolId.TCP_AO for p in offer.proposals):
        raise NoProposalChosen('only routing-protocol SAs, and only to a peer of this profile')
    return offer


def _describe(
    message: Message,
    keyid: int,
    proposals: tuple[tuple[str, bool], ...],
    rekey_keyid: int | None,
) -> RpSaOffer:
    return RpSaOffer(
        keyid=keyid,
        tsi=message.require(TsiPayload).single(),
        tsr=message.require(TsrPayload).single(),
        session_id=_data(message.notify(NotifyType.SESSION_ID)),
        lifetime=read_lifetime(message),
        rekey_keyid=rekey_keyid,
        keyids_in_use=tuple(dict.fromkeys(_data(message.notify(NotifyType.KEYID_IN_USE)) or b'')),
        proposals=proposals,
    )


def _ask_user(sa: IkeSa, described: RpSaOffer, pending: PendingRpSa) -> None:
    association = sa.association
    token = association.context.number()
    association.context.pending[token] = pending
    association.tell(RpSaRequested(token, association.peer.name, described))


def _rekey_keyid(message: Message) -> int | None:
    notify = message.notify(NotifyType.REKEY_SA)
    if notify is None:
        return None
    if notify.protocol != ProtocolId.TCP_AO or len(notify.spi) != KEYID_LENGTH:
        raise MalformedMessage('REKEY_SA that names no KeyID')
    return notify.spi[0]


def _data(notify: NotifyPayload | None) -> bytes | None:
    return None if notify is None else notify.data

"""CREATE_CHILD_SA that a peer asks for: a routing-protocol SA, new or as a successor.

What only IKE can judge is judged here (profile, key exchange, form of selectors and notifies);
the rest is our user's: it gets an offer with a token and calls `prepare` and `send`, or `refuse`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ikev2.constants import RP_SUITES, NotifyType, ProtocolId
from ikev2.errors import (
    LocalError,
    MalformedMessage,
    NoProposalChosen,
    TrafficSelectorsUnacceptable,
    WrongKeyExchangeGroup,
)
from ikev2.events import RpSaKeys, RpSaOffer, RpSaRequested
from ikev2.key_exchange import respond
from ikev2.keys import child_keymat
from ikev2.message import Message
from ikev2.payload import Payload
from ikev2.payloads import DeletePayload, KeyExchangePayload, NoncePayload, NotifyPayload
from ikev2.payloads_sa import SaPayload
from ikev2.payloads_ts import TsiPayload, TsrPayload
from ikev2.rp_proposals import KEYID_LENGTH, RpChoice, offered_suites, select_rp
from ikev2.transitions import State
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.ike_sa import IkeSa

_LIFETIME_LENGTH = 4


@dataclass(slots=True)
class PendingDelete:
    """A DELETE of MKTs that waits for our user."""

    sa: IkeSa

    def answer(self, send_ids: Sequence[int], now: float) -> None:
        """Answer with our SendIDs; with nothing if there are none."""
        self.sa.answer([delete_keys(send_ids)] if send_ids else [], now)


@dataclass(frozen=True, slots=True)
class _KeyExchanged:
    """Our half of a request's key exchange."""

    group: int
    public_value: bytes
    shared: Secret


Finish = Callable[[Sequence[Payload], float], None]


@dataclass(slots=True)
class PendingRpSa:
    """A request for an RP SA that waits for our user."""

    sa: IkeSa
    offer: SaPayload
    tsi: TsiPayload
    tsr: TsrPayload
    sk_d: Secret
    """A copy: the keys have to be ready even if the IKE SA goes meanwhile."""
    ni: bytes
    lifetime: int | None
    rekey_keyid: int | None = None
    exchange: _KeyExchanged | None = None
    """None in IKE_AUTH, where a child has neither a key exchange nor nonces of its own."""
    finish: Finish | None = None
    """In IKE_AUTH: sends what belongs to the child with the rest of the answer."""
    prepared: list[Payload] = field(default_factory=list)

    def prepare(
        self, suite: str, tcp_options: bool, keyid: int, lifetime: int, nr: bytes
    ) -> RpSaKeys:
        """The keys, and the answer that `send` sends. LocalError if that wasn't on offer."""
        if self.prepared:
            raise LocalError('this request is prepared already')
        if not 1 <= keyid <= 255:
            raise LocalError(f'{keyid} is not a KeyID that can be negotiated')
        try:
            choice = _select(self.offer, suite, tcp_options, self.exchange)
        except NoProposalChosen:
            raise LocalError(f'{suite} was not offered') from None
        prf = self.sa.origin.suite.prf
        length = RP_SUITES[suite].master_key_length
        exchange = self.exchange
        fresh: list[Payload] = []
        if exchange is None:
            nr, shared = self.sa.origin.nr, None
        else:
            shared = exchange.shared
            fresh = [NoncePayload(nr), KeyExchangePayload(exchange.group, exchange.public_value)]
        master_key = child_keymat(prf, self.sk_d, self.ni, nr, length, shared)
        self.wipe()
        self.prepared = [
            choice.answer(keyid),
            *fresh,
            self.tsi,
            self.tsr,
            lifetime_notify(lifetime),
        ]
        return RpSaKeys(
            suite,
            tcp_options,
            keyid,
            choice.peer_keyid,
            master_key,
            self.lifetime,
            min(self.ni, nr),
        )

    def send(self, now: float) -> None:
        """Send the answer that was prepared."""
        if not self.prepared:
            raise LocalError('answer before prepare')
        if self.finish is None:
            self.sa.answer(self.prepared, now)
        else:
            self.finish(self.prepared, now)

    def refuse(self, notify: NotifyType, data: bytes, now: float) -> None:
        """Answer with an error. CHILD_SA_NOT_FOUND names the SPI of the REKEY_SA (2.25)."""
        self.wipe()
        if self.finish is not None:
            # The IKE SA comes up without the child (RFC 7296, 1.2).
            self.sa.association.counters.refused += 1
            self.finish([NotifyPayload(notify, data)], now)
            return
        protocol, spi = 0, b''
        if notify == NotifyType.CHILD_SA_NOT_FOUND and self.rekey_keyid is not None:
            protocol, spi = ProtocolId.TCP_AO, bytes([self.rekey_keyid])
        self.sa.refuse_with(notify, now, data, protocol=protocol, spi=spi)

    def wipe(self) -> None:
        """Forget what the key is made of."""
        if self.exchange is not None:
            self.exchange.shared.wipe()
        self.sk_d.wipe()


Pending = PendingDelete | PendingRpSa


def delete_keys(send_ids: Sequence[int]) -> DeletePayload:
    """The Delete payload that names SendIDs of its sender."""
    return DeletePayload(ProtocolId.TCP_AO, tuple(bytes([keyid]) for keyid in send_ids))


def lifetime_notify(seconds: int) -> NotifyPayload:
    """MKT_LIFETIME: hard lifetime from one's own installation."""
    return NotifyPayload(NotifyType.MKT_LIFETIME, seconds.to_bytes(_LIFETIME_LENGTH, 'big'))


def read_lifetime(message: Message) -> int | None:
    """The peer's MKT_LIFETIME, seconds. Raises MalformedMessage."""
    notify = message.notify(NotifyType.MKT_LIFETIME)
    if notify is None:
        return None
    if len(notify.data) != _LIFETIME_LENGTH:
        raise MalformedMessage(f'MKT_LIFETIME of {len(notify.data)} octets')
    return int.from_bytes(notify.data, 'big')


def serve_rp_sa(sa: IkeSa, message: Message, now: float) -> None:
    """A CREATE_CHILD_SA request that isn't about the IKE SA. Raises PeerError."""
    association = sa.association
    if sa.state == State.REKEYING:
        sa.refuse_with(NotifyType.TEMPORARY_FAILURE, now)  # RFC 7296, 2.25.2
        return
    offer = message.require(SaPayload)
    ni = message.require(NoncePayload).data
    if not sa.origin.profile or any(p.protocol != ProtocolId.TCP_AO for p in offer.proposals):
        raise NoProposalChosen('only routing-protocol SAs, and only to a peer of this profile')
    ke = message.find(KeyExchangePayload)
    if ke is None:
        raise NoProposalChosen('no key exchange')
    keyid, proposals = _acceptable(offer, association.peer.policy.groups, ke.group)
    described = _describe(message, keyid, proposals, _rekey_keyid(message))
    if sa.origin.nat:
        # The addresses in the selectors aren't those of the packets: TCP-AO wouldn't pass.
        sa.refuse_with(NotifyType.TS_UNACCEPTABLE, now)
        return
    exchange = _KeyExchanged(ke.group, *respond(ke.group, ke.data))
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
    """The child in an IKE_AUTH whose proof is good: a routing-protocol SA, or none at all.

    `finish` sends the answer, at once or when our user has decided. Without the child the IKE SA
    comes up all the same (RFC 7296, 1.2). Raises MalformedMessage.
    """
    try:
        _offer_first(sa, message, finish)
    except (NoProposalChosen, TrafficSelectorsUnacceptable) as error:
        sa.association.counters.refused += 1
        finish([NotifyPayload(error.notify or NotifyType.NO_PROPOSAL_CHOSEN)], now)


def _offer_first(sa: IkeSa, message: Message, finish: Finish) -> None:
    offer = message.require(SaPayload)
    if not sa.origin.profile or any(p.protocol != ProtocolId.TCP_AO for p in offer.proposals):
        raise NoProposalChosen('only routing-protocol SAs, and only to a peer of this profile')
    if sa.origin.nat:
        raise TrafficSelectorsUnacceptable('a NAT is on the path: TCP-AO would not pass')
    keyid, proposals = _acceptable(offer, (), None)
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
        keyids_in_use=tuple(_data(message.notify(NotifyType.KEYID_IN_USE)) or b''),
        proposals=proposals,
    )


def _ask_user(sa: IkeSa, described: RpSaOffer, pending: PendingRpSa) -> None:
    association = sa.association
    token = association.context.number()
    association.context.pending[token] = pending
    association.tell(RpSaRequested(token, association.peer.name, described))


def _select(
    offer: SaPayload, suite: str, tcp_options: bool, exchange: _KeyExchanged | None
) -> RpChoice:
    """Raises NoProposalChosen."""
    if exchange is None:
        return select_rp(offer, [suite], [tcp_options], (), None, require_key_exchange=False)
    return select_rp(offer, [suite], [tcp_options], [exchange.group], exchange.group)


def _acceptable(
    offer: SaPayload, groups: tuple[int, ...], ke_group: int | None
) -> tuple[int, tuple[tuple[str, bool], ...]]:
    """The peer's SendID and what our user may choose from: all that goes with its KE payload.

    Raises NoProposalChosen if no proposal has a group of ours, WrongKeyExchangeGroup if just the
    KE payload has none.
    """
    found: list[tuple[str, bool]] = []
    keyid = 0
    other: int | None = None
    for suite, tcp_options in offered_suites(offer):
        try:
            choice = select_rp(
                offer,
                [suite],
                [tcp_options],
                groups,
                ke_group,
                require_key_exchange=ke_group is not None,
            )
        except NoProposalChosen:
            continue
        if choice.group == ke_group:
            found.append((suite, tcp_options))
            keyid = choice.peer_keyid
        else:
            other = other or choice.group
    if found:
        return keyid, tuple(found)
    if other is not None:
        raise WrongKeyExchangeGroup(other)
    raise NoProposalChosen('no proposal with a suite and a key exchange that we have')


def _rekey_keyid(message: Message) -> int | None:
    notify = message.notify(NotifyType.REKEY_SA)
    if notify is None:
        return None
    if notify.protocol != ProtocolId.TCP_AO or len(notify.spi) != KEYID_LENGTH:
        raise MalformedMessage('REKEY_SA that names no KeyID')
    return notify.spi[0]


def _data(notify: NotifyPayload | None) -> bytes | None:
    return None if notify is None else notify.data

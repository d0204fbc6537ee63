"""CREATE_CHILD_SA that a peer asks for: a routing-protocol SA, new or as a successor.

What only IKE can judge is judged here (profile, key exchange, form of selectors and notifies);
the rest is our user's: it gets an offer with a token and calls `prepare` and `send`, or `refuse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ikev2.constants import RP_SUITES, NotifyType, ProtocolId
from ikev2.errors import LocalError, MalformedMessage, NoProposalChosen, WrongKeyExchangeGroup
from ikev2.events import RpSaKeys, RpSaOffer, RpSaRequested
from ikev2.key_exchange import respond
from ikev2.keys import child_keymat
from ikev2.message import Message
from ikev2.payload import Payload
from ikev2.payloads import DeletePayload, KeyExchangePayload, NoncePayload, NotifyPayload
from ikev2.payloads_sa import SaPayload
from ikev2.payloads_ts import TsiPayload, TsrPayload
from ikev2.rp_proposals import KEYID_LENGTH, offered_suites, select_rp
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


@dataclass(slots=True)
class PendingRpSa:
    """A request for an RP SA that waits for our user."""

    sa: IkeSa
    offer: SaPayload
    tsi: TsiPayload
    tsr: TsrPayload
    group: int
    public_value: bytes
    shared: Secret
    sk_d: Secret
    """A copy: the keys have to be ready even if the IKE SA goes meanwhile."""
    ni: bytes
    lifetime: int | None
    rekey_keyid: int | None
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
            choice = select_rp(self.offer, [suite], [tcp_options], [self.group], self.group)
        except NoProposalChosen:
            raise LocalError(f'{suite} was not offered') from None
        prf = self.sa.origin.suite.prf
        length = RP_SUITES[suite].master_key_length
        master_key = child_keymat(prf, self.sk_d, self.ni, nr, length, self.shared)
        self.wipe()
        self.prepared = [
            choice.answer(keyid),
            NoncePayload(nr),
            KeyExchangePayload(self.group, self.public_value),
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
        self.sa.answer(self.prepared, now)

    def refuse(self, notify: NotifyType, data: bytes, now: float) -> None:
        """Answer with an error. CHILD_SA_NOT_FOUND names the SPI of the REKEY_SA (2.25)."""
        self.wipe()
        protocol, spi = 0, b''
        if notify == NotifyType.CHILD_SA_NOT_FOUND and self.rekey_keyid is not None:
            protocol, spi = ProtocolId.TCP_AO, bytes([self.rekey_keyid])
        self.sa.refuse_with(notify, now, data, protocol=protocol, spi=spi)

    def wipe(self) -> None:
        """Forget what the key is made of."""
        self.shared.wipe()
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
    context = association.context
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
    tsi, tsr = message.require(TsiPayload), message.require(TsrPayload)
    described = RpSaOffer(
        keyid=keyid,
        tsi=tsi.single(),
        tsr=tsr.single(),
        session_id=_data(message.notify(NotifyType.SESSION_ID)),
        lifetime=read_lifetime(message),
        rekey_keyid=_rekey_keyid(message),
        keyids_in_use=tuple(_data(message.notify(NotifyType.KEYID_IN_USE)) or b''),
        proposals=proposals,
    )
    if sa.origin.nat:
        # The addresses in the selectors aren't those of the packets: TCP-AO wouldn't pass.
        sa.refuse_with(NotifyType.TS_UNACCEPTABLE, now)
        return
    public_value, shared = respond(ke.group, ke.data)
    token = context.number()
    context.pending[token] = PendingRpSa(
        sa=sa,
        offer=offer,
        tsi=tsi,
        tsr=tsr,
        group=ke.group,
        public_value=public_value,
        shared=shared,
        sk_d=Secret(sa.keys.sk_d.reveal()),
        ni=ni,
        lifetime=described.lifetime,
        rekey_keyid=described.rekey_keyid,
    )
    association.tell(RpSaRequested(token, association.peer.name, described))


def _acceptable(
    offer: SaPayload, groups: tuple[int, ...], ke_group: int
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
            choice = select_rp(offer, [suite], [tcp_options], groups, ke_group)
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

"""CREATE_CHILD_SA that we initiate: a routing-protocol SA, new or as a successor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ikev2.constants import (
    RP_SUITES,
    ExchangeType,
    NotifyType,
    PrfId,
    ProtocolId,
)
from ikev2.context import NONCE_LENGTH
from ikev2.crypto.key_exchange import KeyExchange
from ikev2.crypto.keys import child_keymat
from ikev2.crypto.prf import check_nonce
from ikev2.errors import ContradictoryAnswer, InvalidAnswer, MalformedMessage, PeerError
from ikev2.events import Cause, RpSaFailed, RpSaKeys, RpSaNegotiated, RpSaRequest
from ikev2.exchanges.follow_up import FollowUp, Owner, link_of, refusal
from ikev2.exchanges.informational import UndoKeys
from ikev2.exchanges.rp_pending import lifetime_notify, read_lifetime
from ikev2.proposals.rp import RpChoice, offer_rp, verify_rp_answer
from ikev2.sa.exchange import Job
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import KeyExchangePayload, NoncePayload, NotifyPayload
from ikev2.wire.payloads_sa import SaPayload
from ikev2.wire.payloads_ts import TsiPayload, TsrPayload
from ikev2.wire.words import notify_name
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.association import Association
    from ikev2.sa.ike_sa import IkeSa


# Answers of peers without the profile to an unknown protocol: the first from strongSwan, the second
# from libreswan, which checks the selectors first.
_STRANGE = frozenset((NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.TS_UNACCEPTABLE))


@dataclass(frozen=True, slots=True)
class _Agreed:
    """The result of CREATE_CHILD_SA."""

    choice: RpChoice
    nr: bytes
    lifetime: int | None
    shared: Secret


class _SelectorsChanged(InvalidAnswer):
    """TSi and TSr of the answer differ from those of the request."""


class RequestRpSa(Job, Owner):
    """One request, with its repetitions in other key exchange groups."""

    exchange_type: ClassVar[ExchangeType] = ExchangeType.CREATE_CHILD_SA

    def __init__(
        self,
        association: Association,
        number: int,
        request: RpSaRequest,
        *,
        without_profile: bool,
    ) -> None:
        self.number: int | None = number
        self.cancelled = False
        self._association = association
        self._number = number
        self._request = request
        self._without_profile = without_profile
        self._groups = association.peer.policy.groups
        self._group = self._groups[0]
        self._retries = 0
        self._sent = False
        self._ended = False
        self._exchange: KeyExchange | None = None
        self._nonce = b''
        self._agreed: _Agreed | None = None
        self._offer = offer_rp(
            request.keyid,
            request.suites,
            [request.tcp_options],
            self._groups,
            association.peer.policy.offered_additional,
        )
        self._tsi = TsiPayload.of(request.tsi)
        self._tsr = TsrPayload.of(request.tsr)

    @property
    def send_ids(self) -> Sequence[int]:
        return (self._request.keyid,)

    # --- asking ------------------------------------------------------------------------------

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        if self._ended:
            return None
        if self.cancelled:
            self._fail(Cause.CANCELLED)
            return None
        if not sa.origin.profile and not self._without_profile:
            self._fail(Cause.NO_PROFILE)
            return None
        if sa.origin.nat and not self._without_profile:
            self._fail(Cause.NAT)
            self._association.look_for_nat_again(now)
            return None
        self._sent = True
        self._association.undoing.pop(self._request.keyid, None)
        self._exchange = KeyExchange.generate(self._group)
        self._nonce = self._association.context.random(NONCE_LENGTH)
        request = self._request
        payloads: list[Payload] = []
        if request.rekey_keyid is not None:
            spi = bytes([request.rekey_keyid])
            payloads.append(NotifyPayload(NotifyType.REKEY_SA, b'', ProtocolId.TCP_AO, spi))
        payloads += [
            self._offer,
            NoncePayload(self._nonce),
            KeyExchangePayload(self._group, self._exchange.public_value),
            self._tsi,
            self._tsr,
            lifetime_notify(request.lifetime),
        ]
        if request.session_id is not None:
            payloads.append(NotifyPayload(NotifyType.SESSION_ID, request.session_id))
        if request.keyids_in_use:
            data = bytes(request.keyids_in_use)
            payloads.append(NotifyPayload(NotifyType.KEYID_IN_USE, data))
        return payloads

    # --- the answer --------------------------------------------------------------------------

    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        if message.find(SaPayload) is None:
            self._refused(sa, message, now)
            return
        if self.cancelled or self._ended:
            self._undo(now)
            self._fail(Cause.CANCELLED)
            return
        self._agreed = self._agree(message, sa.origin.suite.prf)
        additional = self._agreed.choice.additional
        if additional:
            sa.control.appendleft(FollowUp(self, additional, link_of(message)))
        else:
            self.complete(sa, (), now)

    def _agree(self, message: Message, prf: PrfId) -> _Agreed:
        choice = verify_rp_answer(self._offer, message.require(SaPayload))
        nr = message.require(NoncePayload).data
        check_nonce(prf, nr)
        ke = message.require(KeyExchangePayload)
        if self._exchange is None or ke.group != self._group or choice.group != self._group:
            raise InvalidAnswer('the KE payload is of another group than the chosen one')
        lifetime = read_lifetime(message)
        if (message.require(TsiPayload), message.require(TsrPayload)) != (self._tsi, self._tsr):
            raise _SelectorsChanged('the answer changed the traffic selectors')
        return _Agreed(choice, nr, lifetime, self._exchange.shared_secret(ke.data))

    def complete(self, sa: IkeSa, secrets: Sequence[Secret], now: float) -> None:
        """Complete the exchange: the keys are final now."""
        if self.cancelled or self._ended:
            self._undo(now)
            self._fail(Cause.CANCELLED)
            return
        agreed = self._agreed
        if agreed is None:
            raise ValueError('complete before it was agreed')
        choice = agreed.choice
        master_key = child_keymat(
            sa.origin.suite.prf,
            sa.keys.sk_d,
            self._nonce,
            agreed.nr,
            RP_SUITES[choice.suite].master_key_length,
            agreed.shared,
            secrets,
        )
        keys = RpSaKeys(
            choice.suite,
            choice.tcp_options,
            self._request.keyid,
            choice.peer_keyid,
            master_key,
            agreed.lifetime,
            min(self._nonce, agreed.nr),
            sa.proven_by,
        )
        self._drop()
        self._ended = True
        peer = self._association.peer.name
        self._association.tell(RpSaNegotiated(self._number, peer, keys))

    def refused(self, sa: IkeSa, notify: NotifyPayload, now: float) -> None:
        self._fail(Cause.REFUSED, refusal(notify), notify.notify_type, notify.data)

    def _drop(self) -> None:
        if self._agreed is not None:
            self._agreed.shared.wipe()

    def _refused(self, sa: IkeSa, message: Message, now: float) -> None:
        errors = message.errors
        if not errors:
            raise MalformedMessage('CREATE_CHILD_SA answer with neither an SA nor an error')
        error = errors[0]
        if error.notify_type == NotifyType.INVALID_KE_PAYLOAD and self._change_group(error.data):
            self._association.jobs.appendleft(self)  # RFC 7296, 1.3: our caller sends it
            return
        cause = Cause.REFUSED
        if not sa.origin.profile and error.notify_type in _STRANGE:
            cause = Cause.NO_PROFILE
        elif error.notify_type == NotifyType.NO_PROPOSAL_CHOSEN:
            cause = Cause.NO_PROPOSAL_CHOSEN
        text = f'the peer answered {notify_name(error.notify_type)}'
        self._fail(cause, text, error.notify_type, error.data)

    def _change_group(self, data: bytes) -> bool:
        group = next((g for g in self._groups if g.to_bytes(2, 'big') == data), None)
        most = self._association.context.limits.group_retries
        if group is None or group == self._group or self._retries == most or self._ended:
            return False
        self._retries += 1
        self._group = group
        self._sent = False
        return True

    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        self._undo(now)
        if isinstance(error, ContradictoryAnswer):
            self._fail(Cause.REFUSED, str(error), error.notify_type)
            return
        changed = isinstance(error, _SelectorsChanged)
        self._fail(Cause.SELECTORS_CHANGED if changed else Cause.MALFORMED, str(error))

    def lost(self, cause: Cause, text: str, now: float) -> None:
        if self._sent:
            self._undo(now)
        self._fail(Cause.CANCELLED if self.cancelled else cause, text)

    # --- the end -----------------------------------------------------------------------------

    def _undo(self, now: float) -> None:
        """Delete an MKT that the peer may have and we don't, before any new request."""
        self._association.jobs.appendleft(UndoKeys(self._association, self._request.keyid))

    def _fail(
        self, cause: Cause, text: str = '', notify: int | None = None, data: bytes = b''
    ) -> None:
        self._drop()
        if self._ended:
            return
        self._ended = True
        peer = self._association.peer.name
        self._association.tell(
            RpSaFailed(self._number, peer, cause, notify, data, text or str(cause))
        )

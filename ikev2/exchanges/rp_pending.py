"""Requests for a routing-protocol SA that wait for the gatekeeper, and the choices for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ikev2.constants import RP_SUITES, NotifyType, ProtocolId
from ikev2.crypto.keys import child_keymat
from ikev2.errors import (
    LocalError,
    MalformedMessage,
    NoProposalChosen,
    WrongKeyExchangeGroup,
)
from ikev2.events import RpSaAbandoned, RpSaKeys, RpSaPrepared
from ikev2.exchanges.follow_up import expect, forget
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.rp import RpChoice, offered_suites, select_rp
from ikev2.sa.expected import Expected
from ikev2.sa.transitions import State
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import DeletePayload, KeyExchangePayload, NoncePayload, NotifyPayload
from ikev2.wire.payloads_sa import SaPayload
from ikev2.wire.payloads_ts import TsiPayload, TsrPayload
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.sa.ike_sa import IkeSa


_LIFETIME_LENGTH = 4


@dataclass(slots=True)
class PendingDelete:
    """A DELETE of MKTs that waits for our user."""

    sa: IkeSa

    def answer(self, send_ids: Sequence[int], now: float) -> None:
        """Answer with our SendIDs; with an empty message if there are none."""
        self.sa.answer([delete_keys(send_ids)] if send_ids else [], now)


@dataclass(frozen=True, slots=True)
class KeyExchanged:
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
    """A copy: the keys have to be ready even if the IKE SA is closed in the meantime."""
    ni: bytes
    lifetime: int | None
    rekey_keyid: int | None = None
    exchange: KeyExchanged | None = None
    """None in IKE_AUTH, where a child has neither a key exchange nor nonces of its own."""
    finish: Finish | None = None
    """In IKE_AUTH: sends the payloads of the child with the rest of the answer."""
    prepared: list[Payload] = field(default_factory=list)
    expected: Expected | None = None
    """Set while IKE_FOLLOWUP_KE exchanges are to come: no request waits for our answer."""

    def prepare(
        self,
        token: int,
        suite: str,
        tcp_options: bool,
        keyid: int,
        lifetime: int,
        nr: bytes,
        now: float,
    ) -> RpSaKeys | None:
        """Return the keys, and keep the answer for `send`.

        Returns None where additional key exchanges follow: the answer that asks for them is sent,
        and RpSaPrepared brings the keys, or RpSaAbandoned reports that there will be none. Raises
        LocalError if the choice was not on offer.
        """
        if self.prepared or self.expected is not None:
            raise LocalError('this request is prepared already')
        if not 1 <= keyid <= 255:
            raise LocalError(f'{keyid} is not a KeyID that can be negotiated')
        try:
            choice = self._select(suite, tcp_options)
        except NoProposalChosen:
            raise LocalError(f'{suite} was not offered') from None
        self.sa.association.undoing.pop(keyid, None)  # the KeyID has another meaning now
        exchange = self.exchange
        fresh: list[Payload] = []
        if exchange is None:
            nr = self.sa.origin.nr
        else:
            fresh = [NoncePayload(nr), KeyExchangePayload(exchange.group, exchange.public_value)]
        self.prepared = [
            choice.answer(keyid),
            *fresh,
            self.tsi,
            self.tsr,
            lifetime_notify(lifetime),
        ]
        if choice.additional:
            self._expect(token, choice, keyid, nr, now)
            return None
        return self._keys(choice, keyid, nr, ())

    def _select(self, suite: str, tcp_options: bool) -> RpChoice:
        """Return the choice with this suite. Raises NoProposalChosen."""
        if self.exchange is None:
            return _choose(self.offer, suite, tcp_options, (), None, None)
        policy, group = self.sa.association.peer.policy, self.exchange.group
        return _choose(self.offer, suite, tcp_options, (group,), group, policy)

    def _keys(self, choice: RpChoice, keyid: int, nr: bytes, secrets: Sequence[Secret]) -> RpSaKeys:
        master_key = child_keymat(
            self.sa.origin.suite.prf,
            self.sk_d,
            self.ni,
            nr,
            RP_SUITES[choice.suite].master_key_length,
            self.exchange.shared if self.exchange else None,
            secrets,
        )
        self.wipe()
        return RpSaKeys(
            choice.suite,
            choice.tcp_options,
            keyid,
            choice.peer_keyid,
            master_key,
            self.lifetime,
            min(self.ni, nr),
            self.sa.proven_by,
        )

    def _expect(self, token: int, choice: RpChoice, keyid: int, nr: bytes, now: float) -> None:
        """Answer, and go on when the peer has done the additional key exchanges."""
        association = self.sa.association

        def finish(last: Sequence[Payload], secrets: Sequence[Secret], now: float) -> None:
            self.expected = None
            if association.stopped:
                self.abandon(token)
                self.decline(now)
                return
            self.prepared = list(last)
            keys = self._keys(choice, keyid, nr, secrets)
            association.tell(RpSaPrepared(token, association.peer.name, keys))

        self.expected = Expected(choice.additional, finish, lambda now: self.abandon(token))
        link = expect(self.sa, self.expected, now)
        answer, self.prepared = [*self.prepared, link], []
        self.sa.answer(answer, now)

    def send(self, now: float) -> None:
        """Send the prepared answer. Raises LocalError before `prepare`."""
        if not self.prepared:
            raise LocalError('answer before prepare')
        if self.finish is None:
            self.sa.answer(self.prepared, now)
        else:
            self.finish(self.prepared, now)

    @property
    def unanswerable(self) -> bool:
        """Return True if the IKE SA of the request is closed, or its peer was changed or
        removed.
        """
        return self.sa.state == State.CLOSED or self.sa.association.stopped

    def decline(self, now: float) -> None:
        """Refuse for now, if the peer can still be answered: it may succeed under the next IKE
        SA.
        """
        self.wipe()
        if self.sa.state != State.CLOSED:
            self.sa.refuse_with(NotifyType.TEMPORARY_FAILURE, now)

    def abandon(self, token: int) -> None:
        """Drop the request and report that to our user, also while our user changes the peer."""
        self.wipe()
        context = self.sa.association.context
        if context.pending.pop(token, None) is not None:
            context.emit(RpSaAbandoned(token, self.sa.association.peer.name))

    def refuse(self, notify: NotifyType, data: bytes, now: float) -> None:
        """Answer with an error. CHILD_SA_NOT_FOUND names the SPI of the REKEY_SA (2.25)."""
        self.wipe()
        if self.expected is not None:
            # No request waits for an answer: the peer's next one gets STATE_NOT_FOUND.
            forget(self.sa, self.expected, now)
            return
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
        """Wipe the secrets of the key."""
        if self.exchange is not None:
            self.exchange.shared.wipe()
        self.sk_d.wipe()


Pending = PendingDelete | PendingRpSa


def delete_keys(send_ids: Sequence[int]) -> DeletePayload:
    """Return the Delete payload that names SendIDs of its sender."""
    return DeletePayload(ProtocolId.TCP_AO, tuple(bytes([keyid]) for keyid in send_ids))


def lifetime_notify(seconds: int) -> NotifyPayload:
    """Return MKT_LIFETIME: the hard lifetime in seconds from the sender's own installation."""
    return NotifyPayload(NotifyType.MKT_LIFETIME, seconds.to_bytes(_LIFETIME_LENGTH, 'big'))


def read_lifetime(message: Message) -> int | None:
    """Return the peer's MKT_LIFETIME in seconds; None without the notify.

    Raises MalformedMessage.
    """
    notify = message.notify(NotifyType.MKT_LIFETIME)
    if notify is None:
        return None
    if len(notify.data) != _LIFETIME_LENGTH:
        raise MalformedMessage(f'MKT_LIFETIME of {len(notify.data)} octets')
    return int.from_bytes(notify.data, 'big')


def _choose(
    offer: SaPayload,
    suite: str,
    tcp_options: bool,
    groups: Sequence[int],
    ke_group: int | None,
    policy: IkePolicy | None,
) -> RpChoice:
    """Return a choice; `policy` is None in IKE_AUTH, without a key exchange.

    Raises NoProposalChosen.
    """
    return select_rp(
        offer,
        [suite],
        [tcp_options],
        groups,
        ke_group,
        require_key_exchange=policy is not None,
        additional=policy.additional if policy else (),
        additional_required=policy is not None and policy.additional_required,
    )


def acceptable(
    offer: SaPayload, policy: IkePolicy | None, ke_group: int | None
) -> tuple[int, tuple[tuple[str, bool], ...]]:
    """Return the peer's SendID and all choices that fit the KE payload, for our user.

    Raises NoProposalChosen if no proposal has a group of ours, WrongKeyExchangeGroup if only the KE
    payload has none.
    """
    found: list[tuple[str, bool]] = []
    keyid = 0
    other: int | None = None
    for suite, tcp_options in offered_suites(offer):
        try:
            groups = policy.groups if policy else ()
            choice = _choose(offer, suite, tcp_options, groups, ke_group, policy)
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

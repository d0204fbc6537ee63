"""CREATE_CHILD_SA for the IKE SA itself, in both roles.

RFC 7296, 1.3.2, 2.8, 2.8.2, 2.18; RFC 9370, 2.2.4. When both ends rekey at once, two successors
come up. They are two IKE SAs like any others: the one with the lowest nonce is deleted when idle
(redundancy.py). With additional key exchanges that one never comes up: its initiator stops before
the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ikev2.constants import ExchangeType, NotifyType
from ikev2.context import NONCE_LENGTH
from ikev2.crypto.key_exchange import KeyExchange, respond
from ikev2.crypto.keys import derive_ike_keys, skeyseed_rekey
from ikev2.crypto.prf import check_nonce
from ikev2.errors import InvalidAnswer, MalformedMessage, PeerError, WrongKeyExchangeGroup
from ikev2.events import Cause
from ikev2.exchanges.follow_up import FollowUp, Owner, expect, link_of
from ikev2.exchanges.informational import DeleteIkeSa
from ikev2.proposals.ike import IkeSuite, select_ike, verify_ike_answer
from ikev2.sa.exchange import Job
from ikev2.sa.expected import Expected
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.origin import Origin
from ikev2.sa.transitions import USABLE, Happening, State
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import KeyExchangePayload, NoncePayload, NotifyPayload
from ikev2.wire.payloads_sa import SaPayload
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.association import Association


def schedule_rekey(sa: IkeSa, now: float) -> None:
    """Schedule the rekey before the end of the IKE SA's lifetime, and the end itself."""
    association = sa.association
    limits = association.context.limits
    lifetime = association.peer.ike_lifetime
    part = int.from_bytes(association.context.random(2), 'big') / 0xFFFF
    early = lifetime * (limits.rekey_margin + part * limits.rekey_jitter)
    sa.at(now + lifetime - early, lambda now: rekey(sa, now))
    sa.at(now + lifetime, lambda now: _expire(sa, now))


def rekey(sa: IkeSa, now: float) -> None:
    """Rekey the IKE SA, unless a rekey is done or under way."""
    if sa.state in USABLE:
        sa.queue(RekeyIkeSa(), now)


def _expire(sa: IkeSa, now: float) -> None:
    if sa.finished and sa.state != State.DELETING:
        sa.queue(DeleteIkeSa(), now)


@dataclass(frozen=True, slots=True)
class _Agreed:
    """The result of CREATE_CHILD_SA, in either role."""

    initiator: bool
    spis: tuple[bytes, bytes]
    suite: IkeSuite
    nonces: tuple[bytes, bytes]
    shared: Secret


class RekeyIkeSa(Owner):
    """A rekey of the IKE SA that we initiate."""

    exchange_type: ClassVar[ExchangeType] = ExchangeType.CREATE_CHILD_SA

    def __init__(self, group: int | None = None) -> None:
        self._group = group
        self._spi = b''
        self._nonce = b''
        self._offer: SaPayload | None = None
        self._exchange: KeyExchange | None = None
        self._agreed: _Agreed | None = None

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        if sa.state not in USABLE:
            return None
        if sa.answering:
            # The peer is creating a child: its answer would only be TEMPORARY_FAILURE (2.25.1).
            _retry_later(sa, now)
            return None
        sa.happen(Happening.REKEY_SENT)
        context, peer = sa.association.context, sa.association.peer
        self._spi = context.new_spi()
        self._nonce = context.random(NONCE_LENGTH)
        self._offer = peer.policy.offer(self._spi)
        self._exchange = KeyExchange.generate(self._group or sa.origin.suite.group)
        return [
            self._offer,
            NoncePayload(self._nonce),
            KeyExchangePayload(self._exchange.group, self._exchange.public_value),
        ]

    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        if message.find(SaPayload) is None:
            self._refused(sa, message, now)
            return
        if self._offer is None or self._exchange is None:
            raise ValueError('answered before it was asked')
        policy = sa.association.peer.policy
        choice = verify_ike_answer(self._offer, message.require(SaPayload), policy, rekey=True)
        nonce = message.require(NoncePayload).data
        check_nonce(choice.suite.prf, nonce)
        ke = message.require(KeyExchangePayload)
        if ke.group != choice.suite.group or ke.group != self._exchange.group:
            raise InvalidAnswer('the KE payload is of another group than the chosen one')
        _check_spi(choice.peer_spi)
        if choice.suite.additional and _peer_wins(sa, min(self._nonce, nonce)):
            # No successor exists yet that would have to be deleted.
            sa.happen(Happening.REKEY_FAILED)
            _retry_later(sa, now)
            return
        agreed = _Agreed(
            True,
            (self._spi, choice.peer_spi),
            choice.suite,
            (self._nonce, nonce),
            self._exchange.shared_secret(ke.data),
        )
        if choice.suite.additional:
            self._agreed = agreed
            sa.control.appendleft(FollowUp(self, choice.suite.additional, link_of(message)))
        else:
            self._succeed(sa, agreed, (), now)

    def complete(self, sa: IkeSa, secrets: Sequence[Secret], now: float) -> None:
        if self._agreed is None:
            raise ValueError('complete before it was agreed')
        self._succeed(sa, self._agreed, secrets, now)

    def refused(self, sa: IkeSa, notify: NotifyPayload, now: float) -> None:
        self._drop()
        sa.happen(Happening.REKEY_FAILED)
        _retry_later(sa, now)

    def _succeed(self, sa: IkeSa, agreed: _Agreed, secrets: Sequence[Secret], now: float) -> None:
        _succeed(sa, agreed, secrets, now)
        # The last request over the old IKE SA (RFC 7296, 2.8).
        sa.queue(DeleteIkeSa(), now)

    def _refused(self, sa: IkeSa, message: Message, now: float) -> None:
        sa.happen(Happening.REKEY_FAILED)
        notify = message.notify(NotifyType.INVALID_KE_PAYLOAD)
        group = int.from_bytes(notify.data, 'big') if notify and len(notify.data) == 2 else 0
        tried = self._exchange.group if self._exchange else 0
        if self._group is None and group != tried and group in sa.association.peer.policy.groups:
            sa.control.appendleft(RekeyIkeSa(group))
        else:
            _retry_later(sa, now)

    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        """Delete the IKE SA: the peer may have a successor that we can't use."""
        self._drop()
        sa.happen(Happening.REKEY_FAILED)
        sa.queue(DeleteIkeSa(), now)

    def lost(self, cause: Cause, text: str, now: float) -> None:
        """Drop the secrets; the association reports the failure."""
        self._drop()

    def _drop(self) -> None:
        if self._agreed is not None:
            self._agreed.shared.wipe()


def _peer_wins(sa: IkeSa, lowest_nonce: bytes) -> bool:
    """Return True if the peer rekeys too and our rekey must stop before additional key exchanges.

    The rekey with the lowest nonce loses (RFC 9370, 2.2.4), or the peer's has made the successor
    already.
    """
    theirs = (expected.lowest_nonce for expected in sa.expected.values())
    return sa.state == State.REKEYED or any(lowest_nonce < other for other in theirs)


def _retry_later(sa: IkeSa, now: float) -> None:
    sa.at(now + sa.association.context.limits.rekey_retry, lambda now: rekey(sa, now))


def serve_ike_rekey(sa: IkeSa, message: Message, now: float) -> None:
    """Serve a rekey as responder. Raises PeerError."""
    context, peer = sa.association.context, sa.association.peer
    asking = sa.asking
    if isinstance(asking, FollowUp) or (asking and isinstance(asking.on_behalf_of, Job)):
        # Not while we create or delete a child (RFC 7296, 2.25.1), nor once our own rekey has come
        # to its additional key exchanges (RFC 9370, 2.2.4).
        sa.refuse_with(NotifyType.TEMPORARY_FAILURE, now)
        return
    ke = message.require(KeyExchangePayload)
    ni = message.require(NoncePayload).data
    choice = select_ike(message.require(SaPayload), peer.policy, ke.group, rekey=True)
    if choice.suite.group != ke.group:
        raise WrongKeyExchangeGroup(choice.suite.group)
    check_nonce(choice.suite.prf, ni)
    _check_spi(choice.peer_spi)
    public_value, shared = respond(ke.group, ke.data)
    nr = context.random(NONCE_LENGTH)
    spi = context.new_spi()
    agreed = _Agreed(False, (choice.peer_spi, spi), choice.suite, (ni, nr), shared)
    answer: list[Payload] = [
        choice.answer(spi),
        NoncePayload(nr),
        KeyExchangePayload(ke.group, public_value),
    ]
    if not choice.suite.additional:
        _take_over(sa, agreed, answer, (), now)
        return

    def finish(last: Sequence[Payload], secrets: Sequence[Secret], now: float) -> None:
        _take_over(sa, agreed, last, secrets, now)

    def abandon(now: float) -> None:
        agreed.shared.wipe()

    expected = Expected(choice.suite.additional, finish, abandon, min(ni, nr))
    sa.answer([*answer, expect(sa, expected, now)], now)


def _take_over(
    sa: IkeSa,
    agreed: _Agreed,
    answer: Sequence[Payload],
    secrets: Sequence[Secret],
    now: float,
) -> None:
    """Send the answer that completes the exchange, as responder, and make the successor."""
    sa.answer(answer, now)
    _succeed(sa, agreed, secrets, now)
    sa.at(
        now + sa.association.context.limits.replaced_lifetime,
        lambda now: sa.queue(DeleteIkeSa(), now) if sa.state == State.REKEYED else None,
    )


def _check_spi(spi: bytes) -> None:
    if not any(spi):
        raise MalformedMessage('an IKE SPI of zero')  # RFC 7296, 3.1


def _succeed(sa: IkeSa, agreed: _Agreed, secrets: Sequence[Secret], now: float) -> None:
    """Make the successor; the PRF of the old IKE SA makes SKEYSEED (RFC 7296, 2.18)."""
    association: Association = sa.association
    suite, (ni, nr) = agreed.suite, agreed.nonces
    seed = skeyseed_rekey(sa.origin.suite.prf, sa.keys.sk_d, agreed.shared, ni, nr, secrets)
    keys = derive_ike_keys(suite.encryption, suite.prf, seed, ni, nr, *agreed.spis)
    agreed.shared.wipe()
    seed.wipe()
    origin = Origin(
        initiator=agreed.initiator,
        spi_i=agreed.spis[0],
        spi_r=agreed.spis[1],
        suite=suite,
        ni=ni,
        nr=nr,
        begun=sa.origin.begun,
        profile=sa.origin.profile,
        nat=sa.origin.nat,
        fragmentation=sa.origin.fragmentation,
    )
    successor = IkeSa(
        association,
        origin,
        keys,
        sa.path,
        State.ESTABLISHED,
        next_id=0,
        expected_id=0,
        now=now,
    )
    successor.proven()
    successor.proof, successor.replaces_older = sa.proof, sa.replaces_older
    association.sas.append(successor)
    sa.happen(Happening.REPLACED)
    association.adopted(successor, now)

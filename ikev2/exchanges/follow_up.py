"""IKE_FOLLOWUP_KE in both roles: key exchanges after a CREATE_CHILD_SA (RFC 9370, 2.2.4).

One exchange for each method of the choice, in order, tied to the CREATE_CHILD_SA by a link that the
responder chooses. The owners use the secrets: ike_rekey.py, rp_initiator.py and rp_responder.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ikev2.constants import ExchangeType, KeyExchangeId, NotifyType
from ikev2.crypto.key_exchange import KeyExchange, respond
from ikev2.errors import MalformedMessage, PeerError
from ikev2.events import Cause
from ikev2.sa.exchange import Exchange
from ikev2.sa.expected import Expected
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import KeyExchangePayload, NotifyPayload
from ikev2.wire.words import notify_name
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.sa.ike_sa import IkeSa

_LINK_LENGTH = 16


class Owner(Exchange):
    """An exchange that needs more secrets than its own.

    Gets exactly one of the calls `complete`, `refused` and `lost`.
    """

    @abstractmethod
    def complete(self, sa: IkeSa, secrets: Sequence[Secret], now: float) -> None:
        """Use SK(1) to SK(n): all additional key exchanges are done.

        Called while the last answer is served; may raise PeerError, which ends in `broken`.
        """

    @abstractmethod
    def refused(self, sa: IkeSa, notify: NotifyPayload, now: float) -> None:
        """End: the peer answered one of the exchanges with an error, and has kept nothing."""


class FollowUp(Exchange):
    """The initiator's side of the next additional key exchange."""

    exchange_type: ClassVar[ExchangeType] = ExchangeType.IKE_FOLLOWUP_KE

    def __init__(
        self,
        owner: Owner,
        methods: Sequence[KeyExchangeId],
        link: NotifyPayload,
        secrets: tuple[Secret, ...] = (),
    ) -> None:
        self._owner = owner
        self._methods = methods
        self._link = link
        self._secrets = secrets
        self._exchange: KeyExchange | None = None

    @property
    def on_behalf_of(self) -> Exchange:
        return self._owner

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        self._exchange = KeyExchange.generate(self._methods[0])
        return [
            KeyExchangePayload(self._exchange.group, self._exchange.public_value),
            NotifyPayload(NotifyType.ADDITIONAL_KEY_EXCHANGE, self._link.data),
        ]

    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        ke = message.find(KeyExchangePayload)
        if ke is None:
            self._refused(sa, message, now)
            return
        exchange = self._exchange
        if exchange is None or ke.group != exchange.group:
            raise MalformedMessage('the KE payload is of another method than the chosen one')
        left = self._methods[1:]
        link = link_of(message) if left else None
        # From here on `broken` wipes the new secret together with the earlier ones.
        self._secrets = (*self._secrets, exchange.shared_secret(ke.data))
        if link is not None:
            sa.control.appendleft(FollowUp(self._owner, left, link, self._secrets))
        else:
            self._owner.complete(sa, self._secrets, now)
            self._wipe()

    def _refused(self, sa: IkeSa, message: Message, now: float) -> None:
        errors = message.errors
        if not errors:
            raise MalformedMessage('IKE_FOLLOWUP_KE answer with neither KE nor an error')
        self._wipe()
        self._owner.refused(sa, errors[0], now)

    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        self._wipe()
        self._owner.broken(sa, error, now)

    def lost(self, cause: Cause, text: str, now: float) -> None:
        self._wipe()
        self._owner.lost(cause, text, now)

    def _wipe(self) -> None:
        for secret in self._secrets:
            secret.wipe()


def link_of(message: Message) -> NotifyPayload:
    """Return the link that ties the next exchange to this one. Raises MalformedMessage."""
    link = message.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    if link is None:
        raise MalformedMessage('additional key exchanges, and no link to the next one')
    return link


def refusal(notify: NotifyPayload) -> str:
    """Return a text for an error answer."""
    return f'the peer answered {notify_name(notify.notify_type)} to an additional key exchange'


def expect(sa: IkeSa, expected: Expected, now: float) -> NotifyPayload:
    """Wait for the next additional key exchange; return the notify for the answer that asks for it.

    The wait is bounded (RFC 9370, 2.2.4), whatever happens to the IKE SA.
    """
    context = sa.association.context
    link = context.random(_LINK_LENGTH)
    if len(sa.expected) >= context.limits.follow_ups_most:
        forget(sa, next(iter(sa.expected.values())), now)  # drop the oldest
    sa.expected[link] = expected
    when = now + context.limits.follow_up
    expected.timer = context.timers.at(when, lambda now: forget(sa, expected, now))
    return NotifyPayload(NotifyType.ADDITIONAL_KEY_EXCHANGE, link)


def forget(sa: IkeSa, expected: Expected, now: float) -> None:
    """Stop waiting for additional key exchanges; no effect once they are done."""
    for link in [link for link, one in sa.expected.items() if one is expected]:
        _take(sa, link)
        _abandon(expected, now)


def serve_follow_up(sa: IkeSa, message: Message, now: float) -> None:
    """Serve a request as responder. Raises PeerError."""
    link = message.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    expected = _take(sa, link.data) if link is not None else None
    if expected is None:
        sa.refuse_with(NotifyType.STATE_NOT_FOUND, now)
        return
    try:
        ke = message.require(KeyExchangePayload)
        if ke.group != expected.methods[0]:
            raise MalformedMessage('the KE payload is of another method than the chosen one')
        public_value, shared = respond(ke.group, ke.data)
    except PeerError:
        _abandon(expected, now)
        raise
    answer: list[Payload] = [KeyExchangePayload(ke.group, public_value)]
    expected.secrets = (*expected.secrets, shared)
    expected.methods = expected.methods[1:]
    if expected.methods:
        answer.append(expect(sa, expected, now))
        sa.answer(answer, now)
        return
    expected.finish(answer, expected.secrets, now)
    _wipe(expected)


def _take(sa: IkeSa, link: bytes) -> Expected | None:
    expected = sa.expected.pop(link, None)
    if expected is not None and expected.timer is not None:
        expected.timer.cancel()
    return expected


def _abandon(expected: Expected, now: float) -> None:
    _wipe(expected)
    expected.abandon(now)


def _wipe(expected: Expected) -> None:
    for secret in expected.secrets:
        secret.wipe()

"""The report of a probe: observations as steps, for people and for scripts.

No I/O and no protocol: messages and outcomes of the endpoint come in, steps come out. No step has a
secret in it, nor the octets of an AUTH payload, from which a weak pre-shared key can be guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from gatekeeper.tools.probe import message_text as words
from gatekeeper.tools.probe.advice import AUTH, CHILD, INIT, Circumstances, advice
from ikev2.authentication.identity import Identity
from ikev2.constants import FIRST_STATUS_NOTIFY, NotifyType, ProtocolId
from ikev2.events import Cause, IkeMessage, RpSaFailed
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import (
    AuthPayload,
    CertificatePayload,
    DeletePayload,
    IdiPayload,
    IdrPayload,
    KeyExchangePayload,
    NotifyPayload,
)
from ikev2.wire.payloads_sa import SaPayload
from ikev2.wire.payloads_ts import TsiPayload, TsrPayload
from ikev2.wire.words import notify_name
from tcpao.mkt import endpoint

_P = TypeVar('_P', bound=Payload)


class Result(StrEnum):
    """The kind of a step."""

    INFO = 'info'
    SENT = 'sent'
    RECEIVED = 'received'
    OK = 'ok'
    """A proof succeeded."""
    WARNING = 'warning'
    FAILED = 'failed'


LONGEST: Final = 1000
"""Characters of a text, most of which may come from the peer."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line, short enough to read and without control characters, whatever the peer sent."""

    exchange: str
    """`IKE_SA_INIT`, `IKE_AUTH` and so on, or `probe`."""
    result: Result
    text: str
    advice: str = ''
    """The advice: what to try next after a failure."""
    details: Mapping[str, object] = field(default_factory=dict)
    """Values for scripts."""

    def __post_init__(self) -> None:
        object.__setattr__(self, 'text', _bounded(self.text))
        object.__setattr__(self, 'advice', _bounded(self.advice))


class Story:
    """A maker of steps, which keeps the observations that explain a later failure."""

    def __init__(self, known: Circumstances) -> None:
        self._known = known
        self.profile: bool | None = None
        """True if the peer sent our Vendor ID; None before its answer."""
        self.unreachable = ''
        """The text of an ICMP error. It may be forged, so the probe goes on."""
        self.unsendable = ''
        """The reason why this host did not send a datagram."""
        self._sent: set[str] = set()
        self._refused: dict[str, int] = {}
        """The last error notify by exchange."""
        self._wanted_group = ''
        self._lacks: NotifyType | None = None
        """The notify that is missing in the answer to IKE_SA_INIT."""

    # --- messages ----------------------------------------------------------------------------

    def message(self, message: IkeMessage, *, ppk: bool = False) -> Step:
        """Return the step of a message, sent or received. `ppk`: we have a PPK for the peer."""
        payloads = message.payloads
        if message.sent and not message.response:
            self._sent.add(message.exchange)
            return Step(message.exchange, Result.SENT, self._asked(message.exchange, payloads))
        if message.sent:
            return Step(message.exchange, Result.SENT, f'our answer: {message.detail or "empty"}')
        if not message.response:
            text = f'the peer asks: {message.detail or "whether we live"}'
            if message.exchange == CHILD or _keys_of_others(payloads):
                text += '; that is left to the router with our identity'
            return Step(message.exchange, Result.RECEIVED, text)
        error = _error(payloads)
        if error is not None:
            self._refused[message.exchange] = error.notify_type
        text = self._answered(message.exchange, payloads, error)
        if message.exchange == INIT and _find(payloads, SaPayload):
            self._look_at_init(payloads, ppk=ppk)
        return Step(message.exchange, Result.RECEIVED, text)

    def _asked(self, exchange: str, payloads: Sequence[Payload]) -> str:
        sa, ke = _find(payloads, SaPayload), _find(payloads, KeyExchangePayload)
        if exchange == INIT and sa and ke:
            cookie = ' with the cookie' if _notify(payloads, NotifyType.COOKIE) else ''
            return (
                f'we offer{cookie} {words.proposals(sa)}; the KE payload is '
                f'of {words.method_name(ke.group)}'
            )
        identity, auth = _find(payloads, IdiPayload), _find(payloads, AuthPayload)
        if exchange == AUTH and identity and auth:
            also = words.certificates(_all(payloads, CertificatePayload))
            proof = words.authentication(auth) + (f', with {also}' if also else '')
            return (
                f'we are {Identity.of(identity)}, proven by {proof}; the peer has to be '
                f'{self._known.remote_id}'
            )
        if exchange == CHILD and sa:
            return (
                f'we ask for a TCP-AO key for {_selectors(payloads)}: {words.proposals(sa)}; '
                f'our SendID is {sa.proposals[0].spi[0]}'
            )
        if ke:
            return f'key exchange by {words.method_name(ke.group)}'
        deletes = _all(payloads, DeletePayload)
        if deletes:
            return ' and '.join(map(_delete, deletes))
        return words.notifies(payloads) or 'an empty request'

    def _answered(
        self, exchange: str, payloads: Sequence[Payload], error: NotifyPayload | None
    ) -> str:
        sa, ke = _find(payloads, SaPayload), _find(payloads, KeyExchangePayload)
        if _notify(payloads, NotifyType.COOKIE) and not sa:
            return 'the peer wants a cookie first: it is busy, or under attack'
        if error is not None and error.notify_type == NotifyType.INVALID_KE_PAYLOAD:
            self._wanted_group = words.method_name(int.from_bytes(error.data[:2], 'big'))
            return f'the peer wants key exchange by {self._wanted_group} instead'
        if error is not None and error.notify_type == NotifyType.KEYID_IN_USE:
            return f'the peer has these KeyIDs in use: {words.listed(map(str, error.data))}'
        identity, auth = _find(payloads, IdrPayload), _find(payloads, AuthPayload)
        if exchange == AUTH and identity and auth:
            also = words.certificates(_all(payloads, CertificatePayload))
            proof = words.authentication(auth) + (f', with {also}' if also else '')
            return f'the peer says that it is {Identity.of(identity)}, with {proof}'
        if error is not None:
            return f'the peer answered {notify_name(error.notify_type)}'
        if sa:
            says = '; '.join(
                f'{name} {text}'
                for name, text in (
                    ('notifies', words.notifies(payloads)),
                    ('Vendor ID', words.vendors(payloads)),
                )
                if text
            )
            return f'chosen: {words.proposals(sa)}' + (f'; {says}' if says else '')
        if ke:
            return f'key exchange by {words.method_name(ke.group)}'
        deletes = _all(payloads, DeletePayload)
        if deletes:
            return ' and '.join(map(_delete, deletes))
        return words.notifies(payloads) or 'done'

    def _look_at_init(self, payloads: Sequence[Payload], *, ppk: bool) -> None:
        self.profile = words.speaks_profile(payloads)
        self._wanted_group = ''
        if not _notify(payloads, NotifyType.CHILDLESS_IKEV2_SUPPORTED):
            self._lacks = NotifyType.CHILDLESS_IKEV2_SUPPORTED
        elif ppk and not _notify(payloads, NotifyType.USE_PPK):
            self._lacks = NotifyType.USE_PPK

    # --- outcomes ----------------------------------------------------------------------------

    def ike_failed(self, step: str, cause: Cause, text: str, requests: int, garbled: int) -> Step:
        """Return the step of a failed IKE SA.

        `requests` were sent, `garbled` answers failed their check.
        """
        notified = _known(self._refused.get(step))
        causes: tuple[Cause | NotifyType | str, ...] = (*notified, cause)
        if cause == Cause.NO_ANSWER:
            text = f'no answer to {requests} requests'
            if step == INIT and self._wanted_group:
                text = f'the peer wants key exchange by {self._wanted_group}, which is not offered'
                causes = (NotifyType.INVALID_KE_PAYLOAD,)
            elif step == INIT and self.unreachable:
                text += f'; ICMP says: {self.unreachable}'
                causes = ('unreachable',)
            elif step == INIT and self.unsendable:
                text += f'; this host could not send: {self.unsendable}'
                causes = ('unsendable',)
            if garbled:
                text += f'; {garbled} datagrams were no authentic answer'
        elif step == INIT and cause == Cause.REFUSED and self._lacks is not None:
            causes = (self._lacks,)
        elif step == AUTH and AUTH not in self._sent:
            causes = ('unverifiable', *causes)
        return self._failed(step, text, cause, causes, notified)

    def rp_failed(self, event: RpSaFailed) -> Step:
        """Return the step of a failed request for a TCP-AO key."""
        notified = _known(event.notify)
        return self._failed(CHILD, event.text, event.cause, (*notified, event.cause), notified)

    def ended(self, cause: Cause) -> Step:
        """Return the step of an IKE SA that ended before everything was asked."""
        return self._failed(CHILD, f'the IKE SA ended: {cause}', cause, (cause,))

    def _failed(
        self,
        step: str,
        text: str,
        cause: Cause,
        causes: tuple[Cause | NotifyType | str, ...],
        notified: tuple[NotifyType, ...] = (),
    ) -> Step:
        said = text if text and cause.value not in text else ''
        told = f'{cause}: {said}' if said else (text or str(cause))
        details: dict[str, object] = {'cause': cause.name}
        if notified:
            details['notify'] = notified[0].name
        return Step(step, Result.FAILED, told, advice(step, causes, self._known), details)


def _known(number: int | None) -> tuple[NotifyType, ...]:
    """Return the notify type of this number; nothing if there is none, or if it is unknown."""
    return tuple(known for known in NotifyType if known == number)


def _bounded(text: str) -> str:
    if len(text) > LONGEST:
        text = f'{text[:LONGEST]}... ({len(text)} characters)'
    return text if text.isprintable() else ''.join(c if c.isprintable() else '?' for c in text)


def _find(payloads: Sequence[Payload], kind: type[_P]) -> _P | None:
    return next((payload for payload in payloads if isinstance(payload, kind)), None)


def _all(payloads: Sequence[Payload], kind: type[_P]) -> list[_P]:
    return [payload for payload in payloads if isinstance(payload, kind)]


def _notify(payloads: Sequence[Payload], kind: NotifyType) -> bool:
    return any(n.notify_type == kind for n in _all(payloads, NotifyPayload))


def _error(payloads: Sequence[Payload]) -> NotifyPayload | None:
    return next(
        (n for n in _all(payloads, NotifyPayload) if n.notify_type < FIRST_STATUS_NOTIFY), None
    )


def _keys_of_others(payloads: Sequence[Payload]) -> bool:
    return any(delete.protocol == ProtocolId.TCP_AO for delete in _all(payloads, DeletePayload))


def _selectors(payloads: Sequence[Payload]) -> str:
    tsi, tsr = _find(payloads, TsiPayload), _find(payloads, TsrPayload)
    assert tsi is not None
    assert tsr is not None
    ours, theirs = tsi.single(), tsr.single()
    return f'{endpoint(ours.address, ours.port)} -> {endpoint(theirs.address, theirs.port)}'


def _delete(payload: DeletePayload) -> str:
    if payload.protocol == ProtocolId.IKE:
        return 'Delete for the IKE SA'
    names = words.listed(str(spi[0]) if len(spi) == 1 else spi.hex() for spi in payload.spis)
    return f'Delete for the keys {names}'

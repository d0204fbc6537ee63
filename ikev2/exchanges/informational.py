"""INFORMATIONAL in both roles (RFC 7296, 1.4): Deletes, liveness, and reports of a failed
IKE_AUTH.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from ikev2.constants import KNOWN_ERRORS, ExchangeType, NotifyType, ProtocolId
from ikev2.errors import MalformedMessage, PeerError
from ikev2.events import Cause, DeleteAnswered, KeysDeleted
from ikev2.exchanges.rp_pending import PendingDelete, delete_keys
from ikev2.proposals.rp import KEYID_LENGTH
from ikev2.sa.exchange import Exchange, Job
from ikev2.sa.transitions import FATAL, Happening, State
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import DeletePayload, NotifyPayload
from ikev2.wire.words import notify_name

if TYPE_CHECKING:
    from ikev2.association import Association
    from ikev2.sa.ike_sa import IkeSa


class _Informational(Exchange):
    exchange_type: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL

    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        self.done(sa, now)

    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        self.done(sa, now)

    @abstractmethod
    def done(self, sa: IkeSa, now: float) -> None:
        """Handle an authentic answer; its content does not matter."""

    def lost(self, cause: Cause, text: str, now: float) -> None:
        """Do nothing: the association reports the end of the IKE SA."""


class Liveness(_Informational):
    """An empty request (RFC 7296, 2.4). `then` is called once the peer has answered."""

    def __init__(self, then: Callable[[float], None] | None = None) -> None:
        self._then = then

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        return []

    def done(self, sa: IkeSa, now: float) -> None:
        if self._then:
            self._then(now)


class DeleteIkeSa(_Informational):
    """Delete for the IKE SA that carries it; the last request over it."""

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        if sa.state == State.DELETING:
            return None
        sa.happen(Happening.DELETE_SENT)
        return [DeletePayload(ProtocolId.IKE)]

    def done(self, sa: IkeSa, now: float) -> None:
        sa.close(Cause.STOPPED, now)


class AuthenticationRefused(_Informational):
    """A report to the responder that we do not accept its proof (RFC 7296, 2.21.2)."""

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        return [NotifyPayload(NotifyType.AUTHENTICATION_FAILED)]

    def done(self, sa: IkeSa, now: float) -> None:
        sa.close(Cause.AUTHENTICATION_FAILED, now)


class DeleteKeys(Job):
    """DELETE of protocol TCP_AO, with our SendIDs of MKTs that have ended.

    An MKT belongs to the two identities: if the IKE SA that carries the DELETE is lost, another one
    carries it again.
    """

    exchange_type: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL

    def __init__(self, association: Association, send_ids: Sequence[int], number: int) -> None:
        self._association = association
        self._send_ids = tuple(send_ids)
        self._joined: list[DeleteKeys] = []
        """Requests that were waiting when this one was sent, and were sent with it."""
        self.number: int | None = number

    @property
    def send_ids(self) -> Sequence[int]:
        return tuple(keyid for job in (self, *self._joined) for keyid in job._send_ids)

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        if not sa.origin.profile:
            self._end(False)
            return None
        # The window holds one request: of many sessions that end together, each would need its own
        # round trip.
        jobs = self._association.jobs
        self._joined = [job for job in jobs if isinstance(job, DeleteKeys)]
        for job in self._joined:
            jobs.remove(job)
        return [delete_keys(self.send_ids)]

    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        # An error of an unknown type means that the request has failed (RFC 7296, 3.10.1).
        self._end(all(error.notify_type in KNOWN_ERRORS for error in message.errors))

    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        self._end(False)

    def lost(self, cause: Cause, text: str, now: float) -> None:
        if cause != Cause.STOPPED and self._association.usable:
            joined, self._joined = self._joined, []
            self._association.jobs.extendleft([*joined, self])
        else:
            self._end(False)

    def _end(self, answered: bool) -> None:
        joined, self._joined = self._joined, []
        for job in (self, *joined):
            number, job.number = job.number, None
            if number is not None:
                name = self._association.peer.name
                self._association.tell(DeleteAnswered(number, name, answered))


class UndoKeys(Job):
    """DELETE of an MKT that only the peer may have, after a request that failed.

    No caller waits for the answer, and no IKE SA is made for this request alone. If the IKE SA that
    carried it is lost, the next one carries it again: until it is answered, or a later request has
    given the KeyID another meaning.
    """

    exchange_type: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    needs_connection = False

    def __init__(self, association: Association, send_id: int) -> None:
        self._association = association
        self._send_id = send_id
        association.undoing[send_id] = self

    @property
    def send_ids(self) -> Sequence[int]:
        return (self._send_id,)

    @property
    def _wanted(self) -> bool:
        return self._association.undoing.get(self._send_id) is self

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        return [delete_keys([self._send_id])] if self._wanted and sa.origin.profile else None

    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        if self._wanted:
            del self._association.undoing[self._send_id]

    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        """End as if answered: the peer has read the request, which is enough."""
        if self._wanted:
            del self._association.undoing[self._send_id]

    def lost(self, cause: Cause, text: str, now: float) -> None:
        if self._wanted:
            self._association.jobs.appendleft(self)


def serve_informational(sa: IkeSa, message: Message, now: float) -> None:
    """Serve a peer's request. Raises MalformedMessage."""
    fatal = next((n for n in message.all(NotifyPayload) if n.notify_type in FATAL), None)
    if fatal is not None:
        sa.answer([], now)
        refused = fatal.notify_type == NotifyType.AUTHENTICATION_FAILED
        cause = Cause.AUTHENTICATION_FAILED if refused else Cause.REFUSED
        sa.close(cause, now, f'the peer sent {notify_name(fatal.notify_type)}')
        return
    deletes = tuple(message.all(DeletePayload))
    named = [keyid for d in deletes if d.protocol == ProtocolId.TCP_AO for keyid in _keyids(d)]
    recv_ids = tuple(dict.fromkeys(named))  # once each, however often a peer names them
    association = sa.association
    if recv_ids and not association.stopped:
        token = association.context.number()
        association.context.pending[token] = PendingDelete(sa)
        association.tell(KeysDeleted(token, association.peer.name, recv_ids))
    if any(d.protocol == ProtocolId.IKE for d in deletes):
        sa.answer([], now)
        sa.close(Cause.DELETED, now)
    elif not recv_ids:
        sa.answer([], now)
    # A DELETE of a peer that we are removing is left unanswered, since our user does not act on it:
    # if the peer was only changed, it repeats the DELETE under the next IKE SA.


def _keyids(payload: DeletePayload) -> list[int]:
    if any(len(spi) != KEYID_LENGTH for spi in payload.spis):
        raise MalformedMessage('Delete for TCP_AO whose SPIs are not KeyIDs')
    return [spi[0] for spi in payload.spis]

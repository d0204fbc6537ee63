"""One IKE SA: its keys, its state, its two windows. Sends and receives protected messages.

The meaning of each exchange is in a module of its own; association.py makes, chooses and drops IKE
SAs; the states are in transitions.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ikev2.constants import NotifyType
from ikev2.context import Context, Path
from ikev2.crypto.keys import IkeKeys
from ikev2.errors import AuthenticationFailed, IntegrityFailure, PeerError
from ikev2.events import Cause, Datagram, Datagrams, IPAddress
from ikev2.rate import Rate
from ikev2.sa.channel import Channel
from ikev2.sa.exchange import Exchange
from ikev2.sa.fragments import first_fragment
from ikev2.sa.origin import Handshake, Origin
from ikev2.sa.transitions import (
    DEFERRED,
    FATAL,
    FINISHED,
    SERVED,
    TOLERATED,
    Happening,
    State,
    follow,
)
from ikev2.sa.window import AnswerWindow, Retransmission, Verdict
from ikev2.timers import Timer
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import NotifyPayload
from ikev2.wire.words import notify_name

if TYPE_CHECKING:
    from ikev2.association import Association
    from ikev2.authentication.proof import Proof
    from ikev2.sa.expected import Expected


@dataclass(slots=True)
class _Asking:
    exchange: Exchange
    message_id: int
    retransmission: Retransmission
    since: float


class IkeSa:
    """An IKE SA that has keys. The association that owns it decides about it."""

    def __init__(
        self,
        association: Association,
        origin: Origin,
        keys: IkeKeys,
        path: Path,
        state: State,
        *,
        next_id: int,
        expected_id: int,
        now: float,
    ) -> None:
        self.association = association
        self.origin = origin
        self.keys = keys
        self.path = path
        self.state = state
        self.last_received_at = now
        """`now` of the last authentic message from the peer."""
        self.received = 0
        """Authentic messages so far, without repetitions."""
        self.last_message_at = now
        """`now` of the last message in either direction."""
        self.established: float | None = None
        self.proof: Proof | None = None
        """The proof from the IKE_AUTH of this IKE SA, or of its first ancestor; None before."""
        self.replaces_older = False
        """True if we made this IKE SA, or its first ancestor, to replace the older ones."""
        self.reauthentication: list[Timer] = []
        """The timers of ikev2.exchanges.reauth."""
        self.handshake: Handshake | None = None
        """Data for IKE_AUTH; None once this IKE SA is authenticated."""
        self.unproven_cpu = 0.0
        """CPU seconds that this IKE SA has cost before it was authenticated."""
        self.repetitions = Rate(association.context.limits.repetitions_per_second, 1.0)
        """Rate of repetitions of our answers."""
        self.initial: tuple[IPAddress, IPAddress, bytes] | None = None
        """The key of this IKE SA in `Context.initials`, if the peer began it."""
        self.control: deque[Exchange] = deque()
        """Requests about this very IKE SA; they are sent before those of the association."""
        self.expected: dict[bytes, Expected] = {}
        """IKE_FOLLOWUP_KE exchanges that the peer still has to do, by their links."""
        self._context: Context = association.context
        self._next_id = next_id
        self._answers = AnswerWindow(expected_id)
        self._asking: _Asking | None = None
        self._forgetting: Timer | None = None
        self._lingering: Timer | None = None
        self._request: tuple[Header, Path] | None = None
        self._timers: list[Timer] = []
        context = association.context
        self._channel = Channel(origin, keys, context.limits, context.random, context.key_log)
        self._context.add(self)

    def named_by(self, header: Header) -> bool:
        """Return True if both SPIs are those of this IKE SA."""
        return (header.initiator_spi, header.responder_spi) == (
            self.origin.spi_i,
            self.origin.spi_r,
        )

    def change_keys(self, keys: IkeKeys) -> None:
        """Replace all seven keys from now on (RFC 9370, 2.2.2)."""
        self.keys.wipe()
        self.keys = keys
        self._channel.change(keys)

    def proven(self) -> None:
        """Drop all that only IKE_AUTH needs: both ends are authenticated."""
        self.handshake = None
        self._channel.settled()
        self.keys.sk_pi.wipe()
        self.keys.sk_pr.wipe()

    def recognises(self, datagram: Datagram) -> bool:
        """Return True if the peer of this very IKE SA sealed `datagram`."""
        return self._channel.recognises(datagram.data)

    # --- state -------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Return True if this IKE SA is authenticated and not closed.

        False while we only tell the peer that we refuse it: such an IKE SA must not hide that the
        last other one has ended.
        """
        return self.state in FINISHED

    @property
    def proven_by(self) -> Proof:
        """Return the proof of an IKE SA that is authenticated."""
        assert self.proof is not None
        return self.proof

    @property
    def authenticated(self) -> float:
        """Return `now` of the IKE_AUTH of this IKE SA, or of its first ancestor."""
        return self.proven_by.authenticated

    @property
    def confirmed(self) -> bool:
        """Return True if the peer is known to have finished IKE_AUTH too.

        An IKE SA that the peer began is confirmed by its first message after IKE_AUTH.
        """
        return self.origin.initiator or self.last_received_at > self.authenticated

    @property
    def busy(self) -> bool:
        """Return True while a request of ours waits for its answer: no second may go (RFC 7296,
        2.3).
        """
        return self._asking is not None

    @property
    def has_answered(self) -> bool:
        """Return True if there is an answer of ours to be repeated."""
        return bool(self._answers.answer)

    @property
    def answering(self) -> bool:
        """Return True while a request of the peer waits for our answer."""
        return self._answers.pending

    @property
    def asking(self) -> Exchange | None:
        """Return our exchange that waits for its answer, or None."""
        return self._asking.exchange if self._asking else None

    def happen(self, happening: Happening) -> None:
        """Change the state by the table of transitions."""
        self.state = follow(self.state, happening)

    def at(self, when: float, action: Callable[[float], None]) -> Timer:
        """Set a timer that is cancelled with this IKE SA, and return it."""
        self._timers = [timer for timer in self._timers if timer.pending]
        timer = self._context.timers.at(when, action)
        self._timers.append(timer)
        return timer

    def close(self, cause: Cause, now: float, text: str = '') -> None:
        """Close this IKE SA without a message to the peer; its last answer is still repeated for a
        while.
        """
        if self.state == State.CLOSED:
            return
        was = self.state
        self.happen(Happening.ENDED)
        asking, self._asking = self._asking, None
        if asking:
            asking.retransmission.stop()
        waiting = [*([asking.exchange] if asking else []), *self.control]
        self.control.clear()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.keys.wipe()
        self._channel.close()
        self.handshake = None
        self._lingering = self._context.timers.at(now + self._context.limits.linger, self.forget)
        for exchange in waiting:
            exchange.lost(cause, text, now)
        self.association.ended(self, was, cause, text, now)

    def forget(self, now: float) -> None:
        """Stop repeating the last answer; only once this IKE SA is closed."""
        if self._lingering is None:
            return
        self._lingering.cancel()
        self._lingering = None
        self._context.remove(self)
        self.association.forgotten(self)

    # --- our requests ------------------------------------------------------------------------

    def ask(self, exchange: Exchange, now: float) -> None:
        """Send a request; only while not `busy`. Raises ValueError if busy."""
        if self._asking is not None:
            raise ValueError('the window of an IKE SA holds one request')
        payloads = exchange.request(self, now)
        if payloads is None:
            return
        message_id = self._next_id
        self._next_id += 1
        kind = exchange.exchange_type
        datagrams = self._protect(kind, message_id, payloads, response=False)
        self.last_message_at = now
        self._tell(kind, payloads, now, sent=True, response=False)
        retransmission = Retransmission(
            datagrams,
            send=self._send_again,
            lost=self._unanswered,
            timers=self._context.timers,
            limits=self._context.limits,
            random=self._context.random,
            now=now,
            end=now + self._context.limits.give_up,
        )
        self._context.send(self.path, datagrams)
        self._asking = _Asking(exchange, message_id, retransmission, now)

    def queue(self, exchange: Exchange, now: float) -> None:
        """Send a request about this IKE SA as soon as its window is free."""
        self.control.append(exchange)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Send the next request about this IKE SA, if there is one and the window is free."""
        while self.control and not self.busy and self.state != State.CLOSED:
            self.ask(self.control.popleft(), now)

    def silent_for(self, now: float) -> float:
        """Return the seconds since our request, or since the peer's last message after it; 0
        without one.
        """
        return now - max(self._asking.since, self.last_received_at) if self._asking else 0.0

    def repeat(self, now: float) -> None:
        """Repeat the request that waits for its answer."""
        if self._asking is not None:
            self._asking.retransmission.repeat(now)

    def _send_again(self, datagrams: Datagrams, now: float) -> None:
        if self.state == State.AUTH_SENT and not self.association.auth_repetitions.allow(now):
            return  # other answers are tried too, and all but one of them may be forged
        self.association.counters.retransmitted += 1
        self._context.send(self.path, datagrams)

    def _unanswered(self, now: float) -> None:
        self.close(Cause.NO_ANSWER, now)

    # --- receiving ---------------------------------------------------------------------------

    def receive(self, datagram: Datagram, header: Header, now: float) -> None:
        """Receive a datagram with the SPIs of this IKE SA and flag I as the peer has to set it.

        Our own message sent back has the other flag, or fails the integrity check: each direction
        has its own keys.
        """
        if header.response:
            self._receive_answer(datagram, header, now)
        else:
            self._receive_request(datagram, header, now)

    def _receive_answer(self, datagram: Datagram, header: Header, now: float) -> None:
        asking = self._asking
        if (
            asking is None
            or header.message_id != asking.message_id
            or header.exchange_type != asking.exchange.exchange_type
        ):
            self.association.counters.unexpected += 1
            return
        message, broken = self._open(datagram, header)
        if message is None:
            return
        asking.retransmission.stop()
        self._asking = None
        self._fresh(datagram, now)
        if broken is None:
            self._tell(header.exchange_type, message.payloads, now, sent=False, response=True)
            try:
                message.expect_success(TOLERATED.get(header.exchange_type, ()))
                asking.exchange.answered(self, message, now)
            except PeerError as error:
                broken = error
        if broken is not None:
            self.association.counters.malformed += 1
            asking.exchange.broken(self, broken, now)
        elif fatal := next((n for n in message.all(NotifyPayload) if n.notify_type in FATAL), None):
            name = notify_name(fatal.notify_type)
            self.close(Cause.REFUSED, now, f'the peer answered {name}')
        self.pump(now)
        self.association.pump(now)

    def _receive_request(self, datagram: Datagram, header: Header, now: float) -> None:
        counters = self.association.counters
        verdict = self._judge(datagram, header)
        if verdict is Verdict.REPEATED:
            counters.repeated += 1
            if self.repetitions.allow(now):
                self._context.send(Path.back(datagram), self._answers.answer)
            return
        if verdict is Verdict.PENDING:
            counters.repeated += 1
            return
        kind = header.exchange_type
        known = kind in SERVED[self.state] or kind in DEFERRED.get(self.state, ())
        if verdict is Verdict.OUTSIDE or not (known or self.finished):
            counters.unexpected += 1
            return
        message, broken = self._open(datagram, header)
        if message is None:
            self._forget_fragments_later(now)
            return
        self._answers.accept(self._channel.first)
        self._request = header, Path.back(datagram)
        self._fresh(datagram, now)
        if broken is not None:
            self.refuse(broken, now)
            return
        self._tell(kind, message.payloads, now, sent=False, response=False)
        try:
            self._serve(kind, message, now)
        except PeerError as error:
            self.refuse(error, now)

    def _serve(self, kind: int, message: Message, now: float) -> None:
        if kind in DEFERRED.get(self.state, ()):
            self.refuse_with(NotifyType.TEMPORARY_FAILURE, now)
            return
        serve = self._context.servers.get(kind) if kind in SERVED[self.state] else None
        if serve is None:
            # RFC 7296, 2.21.3: every request of an authenticated peer gets an answer.
            self.refuse_with(NotifyType.INVALID_SYNTAX, now)
            return
        serve(self, message, now)

    def _judge(self, datagram: Datagram, header: Header) -> Verdict:
        verdict = self._answers.judge(header.message_id, datagram.data)
        # Fragment 1 alone asks for a repetition of the answer (RFC 7383, 2.6.1). It is recognised
        # by its octets, which needs no keys; or by its seal, if the peer has split the message in
        # another way.
        anew = (
            verdict is Verdict.OUTSIDE
            and header.message_id == self._answers.expected - 1
            and first_fragment(datagram.data)
            and self._channel.recognises(datagram.data)
        )
        return self._answers.again() if anew else verdict

    def _open(self, datagram: Datagram, header: Header) -> tuple[Message | None, PeerError | None]:
        """Return the authentic message, and its fault; None if not authentic or not complete."""
        try:
            return self._channel.open(datagram.data, header), None
        except IntegrityFailure:
            self.association.counters.not_authentic += 1
            return None, None
        except PeerError as error:
            return Message(header, ()), error

    def _forget_fragments_later(self, now: float) -> None:
        if not self._channel.incomplete or (self._forgetting and self._forgetting.pending):
            return

        def forget(now: float) -> None:
            self._channel.forget_fragments(response=False)

        self._forgetting = self.at(now + self._context.limits.reassembly, forget)

    def _fresh(self, datagram: Datagram, now: float) -> None:
        """Note an authentic message that is no repetition.

        Our own requests follow the peer to the source of its IKE_AUTH, and later only through a NAT
        (RFC 7296, 2.23): a copy that overtakes its original from a forged port would otherwise
        divert our requests.
        """
        self.last_received_at = self.last_message_at = now
        self.received += 1
        if self.state == State.HALF_OPEN or self.origin.nat:
            self.path = Path.back(datagram)

    # --- our answers -------------------------------------------------------------------------

    def answer(self, payloads: Sequence[Payload], now: float) -> None:
        """Answer the peer's last request; no effect once this IKE SA is closed.

        Raises ValueError if that request is answered already.
        """
        if self.state == State.CLOSED or self._request is None:
            return
        if not self.answering:
            raise ValueError('the request is answered already')
        request, path = self._request
        kind, message_id = request.exchange_type, request.message_id
        datagrams = self._protect(kind, message_id, payloads, response=True)
        self._answers.answered(datagrams)
        self.last_message_at = now
        self._tell(kind, payloads, now, sent=True, response=True)
        # To the source of the request, whatever its port (RFC 7296, 2.11).
        self._context.send(path, datagrams)

    def refuse_with(
        self,
        notify: NotifyType,
        now: float,
        data: bytes = b'',
        *,
        protocol: int = 0,
        spi: bytes = b'',
        cause: Cause = Cause.MALFORMED,
        text: str = '',
    ) -> None:
        """Answer with an error notify.

        `cause` and `text` are the reason for closing the IKE SA, if this closes it: the error is
        fatal, or the IKE SA is not authenticated yet (RFC 7296, 2.21.2, 2.21.3).
        """
        self.association.counters.refused += 1
        self.answer([NotifyPayload(notify, data, protocol, spi)], now)
        if notify in FATAL or self.state == State.HALF_OPEN:
            self.close(cause, now, text)

    def refuse(self, error: PeerError, now: float) -> None:
        """Answer the peer's last request with the notify of an error."""
        cause = Cause.MALFORMED
        if isinstance(error, AuthenticationFailed):
            cause = Cause.AUTHENTICATION_FAILED
        notify = error.notify or NotifyType.INVALID_SYNTAX
        if notify in (NotifyType.INVALID_SYNTAX, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD):
            self.association.counters.malformed += 1
        self.refuse_with(notify, now, error.notify_data, cause=cause, text=error.text)

    def _tell(
        self, kind: int, payloads: Sequence[Payload], now: float, *, sent: bool, response: bool
    ) -> None:
        self.association.tell_message(
            kind, payloads, now, sent=sent, response=response, proven=self.finished
        )

    def _protect(
        self, kind: int, message_id: int, payloads: Sequence[Payload], *, response: bool
    ) -> Datagrams:
        origin = self.origin
        header = Header(
            origin.spi_i, origin.spi_r, kind, message_id, origin.initiator, response=response
        )
        return self._channel.seal(header, payloads, self.path.remote)

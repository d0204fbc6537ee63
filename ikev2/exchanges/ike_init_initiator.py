"""IKE_SA_INIT as initiator (RFC 7296, 1.2, 2.6, 2.7, 2.21.1; RFC 6023).

Nothing in the answer is authenticated: an answer that does not fit is dropped and counted while the
true answer may still come, and a refusal is only a hint. Every answer that fits is tried with an
IKE_AUTH of its own, and the first one that authenticates ends the others (RFC 7296, 2.4): a forged
answer, cookie or group does not fail the attempt. One that can is an altered copy of the true
answer, with the same nonce and key exchange: both have the same keys and message IDs. Its sender
has to see the answer, and to be faster, as on the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from ikev2.authentication.announcements import read_announcements
from ikev2.authentication.auth import read_signature_hashes, signature_hashes
from ikev2.authentication.ppk import initiator_uses
from ikev2.constants import VENDOR_ID, ExchangeType, NotifyType
from ikev2.context import NONCE_LENGTH, Path
from ikev2.crypto.key_exchange import KeyExchange
from ikev2.crypto.prf import check_nonce
from ikev2.errors import AuthenticationFailed, InvalidAnswer, MalformedMessage, PeerError
from ikev2.events import Cause, Datagram, Datagrams
from ikev2.exchanges.ike_auth import Authenticate
from ikev2.exchanges.ike_init import (
    NO_SPI,
    begin,
    fragments,
    intermediate,
    nat_detection,
    speaks_profile,
    tell,
)
from ikev2.exchanges.ike_intermediate import Intermediate
from ikev2.exchanges.nat import on_path
from ikev2.proposals.ike import IkeSuite, verify_ike_answer
from ikev2.rate import Rate
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.origin import Handshake, Origin
from ikev2.sa.transitions import State
from ikev2.sa.window import Retransmission
from ikev2.timers import Timer
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import (
    CertificateRequestPayload,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    VendorIdPayload,
)
from ikev2.wire.payloads_sa import SaPayload
from ikev2.wire.words import notify_name
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.association import Association

_LARGEST_COOKIE = 64


@dataclass(slots=True)
class _Asked:
    """A request in one group. Its answer may come after a forged demand for another group."""

    exchange: KeyExchange
    request: bytes = b''


class Attempt:
    """One IKE_SA_INIT exchange, with its repetitions for COOKIE and INVALID_KE_PAYLOAD."""

    def __init__(self, association: Association, now: float) -> None:
        self._association = association
        self._context = association.context
        peer = association.peer
        local, remote = association.address_pair
        self.path = Path(local, self._context.local_ports[0], remote, peer.remote_port)
        self._begun = now
        self._end = now + self._context.limits.give_up
        self._spi = self._context.new_spi()
        self._nonce = self._context.random(NONCE_LENGTH)
        self._offer = peer.policy.offer()
        self._group: int = peer.policy.groups[0]
        self._asked: dict[int, _Asked] = {self._group: _Asked(KeyExchange.generate(self._group))}
        self._cookie = b''
        self._stale = False
        """True if the next request differs from the last one, by a new cookie or group. It is made
        when it is sent: an answer belongs to the request that was sent last."""
        limits = self._context.limits
        self._retries = Rate(limits.init_retries, limits.init_retries_within)
        self._refusal: tuple[Cause, str] | None = None
        self._tried: dict[IkeSa, bytes] = {}
        """IKE SAs that are tried, with the digests of the answers that made them."""
        self._doubted = False
        self._seen: set[bytes] = set()
        self._grace: Timer | None = None
        self._context.attempts[self._spi] = self
        self._retransmission = self._send(now)

    @property
    def answered(self) -> bool:
        """Return True while an answer is tried with IKE_AUTH."""
        return any(sa.state == State.AUTH_SENT for sa in self._tried)

    def abandon(self) -> None:
        """Stop asking; no answer is accepted any more."""
        self._retransmission.stop()
        if self._grace is not None:
            self._grace.cancel()
        self._context.attempts.pop(self._spi, None)
        self._association.attempt = None

    def repeat(self, now: float) -> None:
        """Repeat the request now."""
        if self._retransmission.pending:
            self._retransmission.repeat(now)

    def won(self, sa: IkeSa, now: float) -> None:
        """End the attempt with the IKE SA of the true answer: forget the others."""
        self.abandon()
        for other in self._tried:
            if other is not sa:
                other.close(Cause.CANCELLED, now)

    def unproven(self, cause: Cause, text: str, now: float) -> None:
        """Note that an answer failed in IKE_AUTH.

        The true one may be under way, but has little time left.
        """
        if self.answered or self._grace is not None:
            return
        self._refusal = cause, text
        if cause == Cause.NO_ANSWER:
            self._fail(now)
        else:
            when = now + self._context.limits.unproven_failure
            self._grace = self._context.timers.at(when, self._fail)

    def _fail(self, now: float) -> None:
        self._grace = None
        if self.answered or self._refusal is None:
            return
        self.abandon()
        self._association.failed('IKE_AUTH', *self._refusal, now)

    # --- asking ------------------------------------------------------------------------------

    def _send(self, now: float) -> Retransmission:
        datagrams = self._compose(now)
        self._context.send(self.path, datagrams)
        return Retransmission(
            datagrams,
            send=self._send_again,
            lost=self._give_up,
            timers=self._context.timers,
            limits=self._context.limits,
            random=self._context.random,
            now=now,
            end=self._end,
        )

    def _compose(self, now: float) -> Datagrams:
        asked = self._asked[self._group]
        header = Header(self._spi, NO_SPI, ExchangeType.IKE_SA_INIT, 0, True, False)
        payloads: list[Payload] = []
        if self._cookie:
            payloads.append(NotifyPayload(NotifyType.COOKIE, self._cookie))
        payloads += [
            self._offer,
            KeyExchangePayload(self._group, asked.exchange.public_value),
            NoncePayload(self._nonce),
            *nat_detection(self._spi, NO_SPI, self.path),
            VendorIdPayload(VENDOR_ID),
            signature_hashes(),
            NotifyPayload(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        ]
        peer = self._association.peer
        if peer.policy.additional:
            payloads.append(NotifyPayload(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
        if peer.ppk is not None:
            payloads.append(NotifyPayload(NotifyType.USE_PPK))
        asked.request = Message(header, tuple(payloads)).encode()
        self._stale = False
        tell(self._association, payloads, now, sent=True, response=False)
        return (asked.request,)

    def doubt(self) -> None:
        """Go on asking, since the true answer may not be among those that are tried.

        A hint says that the peer does not know an IKE SA whose IKE_AUTH we have sent, or an answer
        was dropped.
        """
        self._doubted = True

    def _send_again(self, _: Datagrams, now: float) -> None:
        if self.answered and not self._doubted:
            # The answer is probably the peer's, and its IKE_AUTH answer was lost: a peer that
            # receives IKE_SA_INIT again after IKE_AUTH makes another IKE SA of it.
            return
        self._association.counters.retransmitted += 1
        if self._stale:
            self._compose(now)
        self._context.send(self.path, (self._asked[self._group].request,))

    def _give_up(self, now: float) -> None:
        if self.answered or self._grace is not None:
            return  # IKE_AUTH has its own end
        self.abandon()
        cause, text = self._refusal or (
            Cause.NO_ANSWER,
            f'no answer from {self.path.remote} UDP port {self.path.remote_port}',
        )
        self._association.failed('IKE_SA_INIT', cause, text, now)

    def _retry(self, now: float) -> None:
        """Repeat with the same SPI, nonce and offer; the cookie stays (RFC 7296, 2.6.1)."""
        if not self._retries.allow(now):
            self._association.counters.limited += 1
            self._stale = True
            return
        self._retransmission.stop()
        self._retransmission = self._send(now)

    # --- the answer --------------------------------------------------------------------------

    def receive(self, datagram: Datagram, header: Header, now: float) -> None:
        """Receive a message that claims to be the answer."""
        if Path.back(datagram) != self.path or header.message_id or now >= self._end:
            # An answer that late belongs to no request: forged ones would prolong an attempt, and
            # delay the next one.
            self._association.counters.unexpected += 1
            return
        digest = sha256(datagram.data).digest()
        if digest in self._seen:
            self._association.counters.repeated += 1
            return
        try:
            self._take(Message.decode(datagram.data), datagram, now)
        except PeerError:
            # The answer may be forged: the true one may still come (RFC 7296, 2.4, 2.21.1).
            self._association.counters.malformed += 1

    def _take(self, message: Message, datagram: Datagram, now: float) -> None:
        tell(self._association, message.payloads, now, sent=False, response=True)
        cookie = message.notify(NotifyType.COOKIE)
        wrong_group = message.notify(NotifyType.INVALID_KE_PAYLOAD)
        if message.find(SaPayload) is not None:
            message.expect_success()
            self._complete(message, datagram, now)
        elif cookie is not None:
            if not 1 <= len(cookie.data) <= _LARGEST_COOKIE:
                raise MalformedMessage(f'cookie of {len(cookie.data)} octets')
            self._cookie = cookie.data
            self._retry(now)
        elif wrong_group is not None:
            self._change_group(wrong_group.data, now)
        else:
            self._note_refusal(message, now)

    def _change_group(self, data: bytes, now: float) -> None:
        group = int.from_bytes(data, 'big')
        groups = self._association.peer.policy.groups
        if len(data) != 2 or group not in groups or group == self._group:
            raise MalformedMessage('INVALID_KE_PAYLOAD that names none of our other groups')
        self._group = group
        if group not in self._asked:
            self._asked[group] = _Asked(KeyExchange.generate(group))
        self._retry(now)

    def _note_refusal(self, message: Message, now: float) -> None:
        errors = message.errors
        if not errors:
            raise MalformedMessage('neither an SA nor an error')
        notify = errors[0].notify_type
        none = notify == NotifyType.NO_PROPOSAL_CHOSEN
        cause = Cause.NO_PROPOSAL_CHOSEN if none else Cause.REFUSED
        self._refuse(cause, f'the peer answered {notify_name(notify)}', now)

    def _refuse(self, cause: Cause, text: str, now: float) -> None:
        if self._refusal is None:
            self._retransmission.give_up_by(now + self._context.limits.unproven_refusal)
        self._refusal = cause, text

    def _complete(self, message: Message, datagram: Datagram, now: float) -> None:
        peer = self._association.peer
        if message.header.responder_spi == NO_SPI:
            raise MalformedMessage('responder SPI of zero')
        answer = message.require(SaPayload)
        choice = verify_ike_answer(self._offer, answer, peer.policy)
        ke = message.require(KeyExchangePayload)
        nonce = message.require(NoncePayload).data
        check_nonce(choice.suite.prf, nonce)
        asked = self._asked.get(ke.group)
        if asked is None or ke.group != choice.suite.group:
            raise InvalidAnswer('the KE payload is of another group than the chosen one')
        if choice.suite.additional and not intermediate(message):
            raise InvalidAnswer('additional key exchanges without IKE_INTERMEDIATE')
        handshake = self._handshake(asked, message, datagram, choice.suite)
        if message.notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED) is None:
            # RFC 6023, 3: without it the responder must not be sent an IKE_AUTH without a child.
            text = 'the peer does not support childless IKE_AUTH (RFC 6023)'
            self._refuse(Cause.REFUSED, text, now)
            return
        try:
            initiator_uses(peer.ppk, supported=handshake.ppk)
        except AuthenticationFailed as error:
            self._refuse(Cause.REFUSED, error.text, now)
            return
        association = self._association
        if not association.unproven_work.may_begin(now, cookie=True):
            # Not remembered: it may be the true answer, which comes again after the next request.
            association.counters.limited += 1
            self.doubt()
            return
        self._seen.add(sha256(datagram.data).digest())  # also if the try fails: its cost counts
        with association.unproven_work.measured(now):
            shared = asked.exchange.shared_secret(ke.data)
            self._try(message, datagram, choice.suite, shared, handshake, now)
        self._make_room(now)

    def _try(
        self,
        message: Message,
        datagram: Datagram,
        suite: IkeSuite,
        shared: Secret,
        handshake: Handshake,
        now: float,
    ) -> None:
        """Send a separate IKE_AUTH for an answer that fits."""
        peer = self._association.peer
        nat = on_path(message, datagram)
        origin = Origin(
            initiator=True,
            spi_i=self._spi,
            spi_r=message.header.responder_spi,
            suite=suite,
            ni=self._nonce,
            nr=message.require(NoncePayload).data,
            begun=self._begun,
            profile=speaks_profile(message),
            nat=nat,
            fragmentation=fragments(message),
        )
        path = self.path
        if nat:
            # RFC 7296, 2.23: all messages from here on use the port for NAT traversal.
            path = Path(
                path.local, self._context.local_ports[1], path.remote, peer.remote_natt_port
            )
        sa = begin(self._association, origin, shared, path, handshake, State.AUTH_SENT, now)
        self._tried[sa] = sha256(datagram.data).digest()
        sa.control.extend(Intermediate() for _ in suite.additional)
        sa.queue(Authenticate(), now)

    def _make_room(self, now: float) -> None:
        """Drop the answer that has been tried longest: the newest may be the true one."""
        waiting = [sa for sa in self._tried if sa.state == State.AUTH_SENT]
        if len(waiting) > self._context.limits.init_answers:
            self._seen.discard(self._tried.pop(waiting[0]))
            waiting[0].close(Cause.CANCELLED, now)
            waiting[0].forget(now)
            self.doubt()

    def _handshake(
        self, asked: _Asked, message: Message, datagram: Datagram, suite: IkeSuite
    ) -> Handshake:
        """Return the data of an answer that IKE_AUTH needs. Raises MalformedMessage."""
        announced = message.notify(NotifyType.SUPPORTED_AUTH_METHODS)
        return Handshake(
            asked.request,
            datagram.data,
            read_signature_hashes(message.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS)),
            tuple(message.all(CertificateRequestPayload)),
            announced=None if announced is None else read_announcements(announced),
            ppk=message.notify(NotifyType.USE_PPK) is not None,
            additional_left=list(suite.additional),
        )

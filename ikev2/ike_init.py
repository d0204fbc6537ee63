"""IKE_SA_INIT in both roles (RFC 7296, 1.2, 2.6, 2.7, 2.21.1): from nothing to an IKE SA with keys.

Nothing here is authenticated yet: whatever doesn't fit is dropped and counted, and a refusal is
only a hint.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from ikev2.auth import certificate_requests, read_signature_hashes, signature_hashes
from ikev2.constants import (
    FIRST_STATUS_NOTIFY,
    VENDOR_ID,
    ExchangeType,
    HeaderFlag,
    NotifyType,
)
from ikev2.context import NONCE_LENGTH, SPI_LENGTH, Path
from ikev2.errors import (
    InvalidAnswer,
    InvalidKeyExchange,
    MalformedMessage,
    PeerError,
    UnsupportedCriticalPayload,
    WrongKeyExchangeGroup,
)
from ikev2.events import Cause, Datagram, IkeMessage
from ikev2.ike_auth import Authenticate
from ikev2.ike_sa import Handshake, IkeSa, Origin
from ikev2.key_exchange import KeyExchange, respond
from ikev2.keys import derive_ike_keys, skeyseed
from ikev2.message import HEADER_LENGTH, Header, Message
from ikev2.nat import detection, on_path
from ikev2.payload import Payload
from ikev2.payloads import (
    CertificateRequestPayload,
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    VendorIdPayload,
)
from ikev2.payloads_sa import SaPayload
from ikev2.proposals import IkeSuite, select_ike, verify_ike_answer
from ikev2.transitions import State
from ikev2.window import Datagrams, Retransmission
from ikev2.words import describe
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.association import Association

_NO_SPI = bytes(SPI_LENGTH)
_LARGEST_COOKIE = 64


class Attempt:
    """The initiator's side: one IKE_SA_INIT exchange, with its repetitions."""

    def __init__(self, association: Association, now: float) -> None:
        self._association = association
        self._context = association.context
        peer = association.peer
        local, remote = peer.addresses[0]
        self.path = Path(local, self._context.local_ports[0], remote, peer.remote_port)
        self._begun = now
        self._end = now + self._context.limits.give_up
        self._spi = self._context.new_spi()
        self._nonce = self._context.random(NONCE_LENGTH)
        self._offer = peer.policy.offer()
        self._exchange = KeyExchange.generate(peer.policy.groups[0])
        self._cookie = b''
        self._retries = 0
        self._refusal: int | None = None
        self._context.attempts[self._spi] = self
        self._request = b''
        self._retransmission = self._send(now)

    def abandon(self) -> None:
        """Stop asking; no answer is taken any more."""
        self._retransmission.stop()
        self._context.attempts.pop(self._spi, None)

    # --- asking ------------------------------------------------------------------------------

    def _send(self, now: float) -> Retransmission:
        header = Header(self._spi, _NO_SPI, ExchangeType.IKE_SA_INIT, 0, True, False)
        payloads: list[Payload] = []
        if self._cookie:
            payloads.append(NotifyPayload(NotifyType.COOKIE, self._cookie))
        payloads += [
            self._offer,
            KeyExchangePayload(self._exchange.group, self._exchange.public_value),
            NoncePayload(self._nonce),
            *_detection(self._spi, _NO_SPI, self.path),
            VendorIdPayload(VENDOR_ID),
            signature_hashes(),
        ]
        self._request = Message(header, tuple(payloads)).encode()
        _tell(self._association, payloads, sent=True, response=False)
        datagrams = (self._request,)
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

    def _send_again(self, datagrams: Datagrams) -> None:
        self._association.counters.retransmitted += 1
        self._context.send(self.path, datagrams)

    def _give_up(self, now: float) -> None:
        self.abandon()
        self._association.init_refused(self._refusal, now)

    def _retry(self, now: float) -> None:
        """RFC 7296, 2.6.1: the same SPI, nonce and offer; the cookie stays in."""
        if self._retries == self._context.limits.init_retries:
            self._association.counters.limited += 1
            return
        self._retries += 1
        self._retransmission.stop()
        self._retransmission = self._send(now)

    # --- the answer --------------------------------------------------------------------------

    def receive(self, datagram: Datagram, header: Header, now: float) -> None:
        """A message that claims to be the answer."""
        if Path.back(datagram) != self.path or header.message_id:
            self._association.counters.unexpected += 1
            return
        try:
            self._take(Message.decode(datagram.data), datagram, now)
        except PeerError:
            # It may be forged: the true answer may still come (RFC 7296, 2.4, 2.21.1).
            self._association.counters.malformed += 1

    def _take(self, message: Message, datagram: Datagram, now: float) -> None:
        _tell(self._association, message.payloads, sent=False, response=True)
        cookie = message.notify(NotifyType.COOKIE)
        wrong_group = message.notify(NotifyType.INVALID_KE_PAYLOAD)
        if message.find(SaPayload) is not None:
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
        if len(data) != 2 or group not in groups or group == self._exchange.group:
            raise MalformedMessage('INVALID_KE_PAYLOAD that names none of our other groups')
        self._exchange = KeyExchange.generate(group)
        self._retry(now)

    def _note_refusal(self, message: Message, now: float) -> None:
        errors = [n for n in message.all(NotifyPayload) if n.notify_type < FIRST_STATUS_NOTIFY]
        if not errors:
            raise MalformedMessage('neither an SA nor an error')
        self._refuse(errors[0].notify_type, now)

    def _refuse(self, notify: int, now: float) -> None:
        if self._refusal is None:
            self._retransmission.give_up_by(now + self._context.limits.unproven_refusal)
        self._refusal = notify

    def _complete(self, message: Message, datagram: Datagram, now: float) -> None:
        peer = self._association.peer
        spi_r = message.header.responder_spi
        if spi_r == _NO_SPI:
            raise MalformedMessage('responder SPI of zero')
        answer = message.require(SaPayload)
        choice = verify_ike_answer(self._offer, answer, peer.policy)
        ke = message.require(KeyExchangePayload)
        nonce = message.require(NoncePayload).data
        if ke.group != choice.suite.group or ke.group != self._exchange.group:
            raise InvalidAnswer('the KE payload is of another group than the chosen one')
        hashes = read_signature_hashes(message.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS))
        if message.notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED) is None:
            # RFC 6023, 3: without it the responder must not be sent an IKE_AUTH without a child.
            self._refuse(NotifyType.CHILDLESS_IKEV2_SUPPORTED, now)
            return
        shared = self._exchange.shared_secret(ke.data)
        self.abandon()
        self._association.attempt = None
        nat = on_path(message, datagram)
        origin = Origin(
            initiator=True,
            spi_i=self._spi,
            spi_r=spi_r,
            suite=choice.suite,
            ni=self._nonce,
            nr=nonce,
            begun=self._begun,
            profile=_speaks_profile(message),
            nat=nat,
        )
        path = self.path
        if nat:
            # RFC 7296, 2.23: everything from here on goes over the port for NAT traversal.
            path = Path(
                path.local, self._context.local_ports[1], path.remote, peer.remote_natt_port
            )
        handshake = Handshake(
            self._request, datagram.data, hashes, tuple(message.all(CertificateRequestPayload))
        )
        sa = _begin(self._association, origin, shared, path, handshake, State.AUTH_SENT, now)
        sa.queue(Authenticate(), now)


# --- the responder ------------------------------------------------------------------------------


def serve_ike_init(
    association: Association, datagram: Datagram, header: Header, now: float
) -> None:
    """A peer's IKE_SA_INIT request, from one of its addresses."""
    context = association.context
    counters = association.counters
    key = datagram.remote, sha256(datagram.data).digest()
    known = context.initials.get(key)
    if known is not None:
        # RFC 7296, 2.1: by the whole packet. Once IKE_AUTH has come, it is ignored.
        counters.repeated += 1
        if known.state == State.HALF_OPEN and known.handshake is not None:
            context.send(Path.back(datagram), (known.handshake.response,))
        return
    try:
        message = Message.decode(datagram.data)
        nonce = message.require(NoncePayload).data
        if not _may_go_on(association, message, nonce, datagram, now):
            return
        _tell(association, message.payloads, sent=False, response=False)
        context.initials[key] = _answer_init(association, message, nonce, datagram, now)
    except (MalformedMessage, InvalidKeyExchange):
        counters.malformed += 1
    except PeerError as error:
        if isinstance(error, UnsupportedCriticalPayload):
            counters.malformed += 1
        if error.notify is not None:
            counters.refused += 1
            notify = NotifyPayload(error.notify, error.notify_data)
            _answer_unprotected(association, header, notify, datagram, now)


def _may_go_on(
    association: Association, message: Message, nonce: bytes, datagram: Datagram, now: float
) -> bool:
    """Nothing is kept and nothing computed for an initiator before this says yes (2.6)."""
    context = association.context
    limits = context.limits
    half_open = association.half_open
    if half_open >= limits.half_open_most:
        association.counters.limited += 1
        return False
    if half_open < limits.half_open_before_cookies and context.half_open < limits.half_open_total:
        return True
    spi = message.header.initiator_spi
    cookie = message.notify(NotifyType.COOKIE)
    if cookie and context.cookies.knows(cookie.data, spi, nonce, datagram.remote, now):
        return True
    association.counters.limited += 1
    fresh = context.cookies.make(spi, nonce, datagram.remote, now)
    notify = NotifyPayload(NotifyType.COOKIE, fresh)
    _answer_unprotected(association, message.header, notify, datagram, now)
    return False


def _answer_init(
    association: Association, message: Message, nonce: bytes, datagram: Datagram, now: float
) -> IkeSa:
    context = association.context
    peer = association.peer
    ke = message.require(KeyExchangePayload)
    hashes = read_signature_hashes(message.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS))
    choice = select_ike(message.require(SaPayload), peer.policy, ke.group)
    if choice.suite.group != ke.group:
        raise WrongKeyExchangeGroup(choice.suite.group)
    public_value, shared = respond(ke.group, ke.data)
    spi_i, spi_r = message.header.initiator_spi, context.new_spi()
    our_nonce = context.random(NONCE_LENGTH)
    path = Path.back(datagram)
    payloads: list[Payload] = [
        choice.answer(),
        KeyExchangePayload(ke.group, public_value),
        NoncePayload(our_nonce),
        *_detection(spi_i, spi_r, path),
        *certificate_requests(peer.remote_credential),
        VendorIdPayload(VENDOR_ID),
        signature_hashes(),
        NotifyPayload(NotifyType.CHILDLESS_IKEV2_SUPPORTED),
    ]
    header = Header(spi_i, spi_r, ExchangeType.IKE_SA_INIT, 0, False, True)
    response = Message(header, tuple(payloads)).encode()
    origin = Origin(
        initiator=False,
        spi_i=spi_i,
        spi_r=spi_r,
        suite=choice.suite,
        ni=nonce,
        nr=our_nonce,
        begun=now,
        profile=_speaks_profile(message),
        nat=on_path(message, datagram),
    )
    handshake = Handshake(datagram.data, response, hashes)
    sa = _begin(association, origin, shared, path, handshake, State.HALF_OPEN, now)
    context.half_open += 1
    sa.at(now + context.limits.half_open_lifetime, lambda now: _expire(sa, now))
    _tell(association, payloads, sent=True, response=True)
    context.send(path, (response,))
    return sa


def _expire(sa: IkeSa, now: float) -> None:
    if sa.state == State.HALF_OPEN:
        sa.close(Cause.NO_ANSWER, now)


def answer_unknown_version(
    association: Association, datagram: Datagram, error: PeerError, now: float
) -> None:
    """INVALID_MAJOR_VERSION to a request of a newer version (RFC 7296, 1.5 and 2.5)."""
    data = datagram.data
    if len(data) < HEADER_LENGTH or data[19] & HeaderFlag.RESPONSE:
        return
    spi_i, spi_r = data[:SPI_LENGTH], data[SPI_LENGTH : 2 * SPI_LENGTH]
    message_id = int.from_bytes(data[20:24], 'big')
    header = Header(spi_i, spi_r, data[18], message_id, True, False)
    if error.notify is not None:
        notify = NotifyPayload(error.notify, error.notify_data)
        _answer_unprotected(association, header, notify, datagram, now)


# --- both ---------------------------------------------------------------------------------------


def _begin(
    association: Association,
    origin: Origin,
    shared: Secret,
    path: Path,
    handshake: Handshake,
    state: State,
    now: float,
) -> IkeSa:
    suite: IkeSuite = origin.suite
    seed = skeyseed(suite.prf, origin.ni, origin.nr, shared)
    keys = derive_ike_keys(
        suite.encryption, suite.prf, seed, origin.ni, origin.nr, origin.spi_i, origin.spi_r
    )
    shared.wipe()
    seed.wipe()
    sa = IkeSa(
        association,
        origin,
        keys,
        path,
        state,
        # IKE_AUTH has Message ID 1; the responder's own requests begin at 0 (RFC 7296, 2.2).
        next_id=1 if origin.initiator else 0,
        expected_id=0 if origin.initiator else 1,
        now=now,
    )
    sa.handshake = handshake
    association.sas.append(sa)
    return sa


def _answer_unprotected(
    association: Association,
    header: Header,
    notify: NotifyPayload,
    datagram: Datagram,
    now: float,
) -> None:
    """An error or a cookie, to where the request came from; the responder SPI as it was."""
    if not association.unprotected_errors.allow(now):
        association.counters.limited += 1
        return
    answer = Header(
        header.initiator_spi,
        header.responder_spi,
        header.exchange_type,
        header.message_id,
        initiator=False,
        response=True,
    )
    if header.exchange_type == ExchangeType.IKE_SA_INIT:
        _tell(association, [notify], sent=True, response=True)
    association.context.send(Path.back(datagram), (Message(answer, (notify,)).encode(),))


def _detection(spi_i: bytes, spi_r: bytes, path: Path) -> tuple[NotifyPayload, NotifyPayload]:
    return detection(spi_i, spi_r, (path.local, path.local_port), (path.remote, path.remote_port))


def _speaks_profile(message: Message) -> bool:
    return any(vendor.vendor_id == VENDOR_ID for vendor in message.all(VendorIdPayload))


def _tell(
    association: Association,
    payloads: tuple[Payload, ...] | list[Payload],
    *,
    sent: bool,
    response: bool,
) -> None:
    name = ExchangeType.IKE_SA_INIT.name
    association.tell(IkeMessage(association.peer.name, name, sent, response, describe(payloads)))

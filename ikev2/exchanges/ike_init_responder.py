"""IKE_SA_INIT as responder (RFC 7296, 1.2, 2.1, 2.6, 2.7, 2.21.1).

Called for addresses of configured peers only (endpoint.py). Before the cookie, if one is needed,
nothing is kept and nothing costly is computed.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from ikev2.authentication.announcements import announce
from ikev2.authentication.auth import certificate_requests, read_signature_hashes, signature_hashes
from ikev2.constants import VENDOR_ID, ExchangeType, NotifyType
from ikev2.context import NONCE_LENGTH, Path
from ikev2.crypto.key_exchange import respond
from ikev2.crypto.prf import check_nonce
from ikev2.errors import (
    InvalidKeyExchange,
    MalformedMessage,
    PeerError,
    UnsupportedCriticalPayload,
    WrongKeyExchangeGroup,
)
from ikev2.events import Cause, Datagram
from ikev2.exchanges.ike_init import (
    begin,
    fragments,
    intermediate,
    nat_detection,
    speaks_profile,
    tell,
)
from ikev2.exchanges.nat import on_path
from ikev2.exchanges.unprotected import answer_with, answer_with_error
from ikev2.proposals.ike import IkeChoice, select_ike
from ikev2.sa.ike_sa import IkeSa
from ikev2.sa.origin import Handshake, Origin
from ikev2.sa.transitions import State
from ikev2.wire.message import Header, Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import (
    KeyExchangePayload,
    NoncePayload,
    NotifyPayload,
    VendorIdPayload,
)
from ikev2.wire.payloads_sa import SaPayload

if TYPE_CHECKING:
    from ikev2.association import Association


_LONGEST_ANSWER = 700
"""Octets; an answer with Curve25519 and the CAs of a CERTREQ is shorter. With longer public values
the request is longer too."""


def serve_ike_init(
    association: Association, datagram: Datagram, header: Header, now: float
) -> None:
    """Serve a peer's IKE_SA_INIT request, from one of its addresses."""
    context = association.context
    counters = association.counters
    # With our own address: a copy to another one must not take the place of the original there,
    # where another peer may be configured.
    key = datagram.local, datagram.remote, sha256(datagram.data).digest()
    known = context.initials.get(key)
    if known is not None:
        # RFC 7296, 2.1: compared by the whole packet. After IKE_AUTH, the request is ignored.
        counters.repeated += 1
        handshake = known.handshake if known.state == State.HALF_OPEN else None
        if handshake is not None and known.repetitions.allow(now):
            context.send(Path.back(datagram), (handshake.response,))
        return
    try:
        message = Message.decode(datagram.data)
        nonce = message.require(NoncePayload).data
        cookie = _has_cookie(association, message, nonce, datagram, now)
        if not _may_go_on(association, now, cookie=cookie):
            counters.limited += 1
            if not cookie:
                _ask_for_cookie(association, message, nonce, datagram, now)
            return
        tell(association, message.payloads, now, sent=False, response=False)
        with association.unproven_work.measured(now):
            sa = _answer_init(association, message, nonce, datagram, now, cookie=cookie)
        if sa is None:
            _ask_for_cookie(association, message, nonce, datagram, now)
            return
        sa.initial = key
        context.initials[key] = sa
        association.unproven_work.make_room(now)
    except (MalformedMessage, InvalidKeyExchange):
        counters.malformed += 1
    except PeerError as error:
        if isinstance(error, UnsupportedCriticalPayload):
            counters.malformed += 1
        if error.notify is not None:
            counters.refused += 1
            notify = NotifyPayload(error.notify, error.notify_data)
            if isinstance(error, WrongKeyExchangeGroup):
                # INVALID_KE_PAYLOAD is part of a good exchange, like a cookie, and must not be
                # limited like an error.
                answer_with(association, header, notify, datagram, now)
            else:
                answer_with_error(association, header, notify, datagram, now)


def _has_cookie(
    association: Association, message: Message, nonce: bytes, datagram: Datagram, now: float
) -> bool:
    cookie = message.notify(NotifyType.COOKIE)
    spi, cookies = message.header.initiator_spi, association.context.cookies
    return bool(cookie and cookies.knows(cookie.data, spi, nonce, datagram.remote, now))


def _may_go_on(association: Association, now: float, *, cookie: bool) -> bool:
    """Return True if an initiator may cost us anything: memory, or a key exchange (2.6)."""
    context, limits = association.context, association.context.limits
    # Key exchanges that fail leave no half-open IKE SA, and cost as much: the CPU time counts too.
    return association.unproven_work.may_begin(now, cookie=cookie) and (
        cookie
        or (
            len(association.unproven_work.half_open) < limits.half_open_before_cookies
            and context.half_open < limits.half_open_total
        )
    )


def _ask_for_cookie(
    association: Association, message: Message, nonce: bytes, datagram: Datagram, now: float
) -> None:
    header = message.header
    fresh = association.context.cookies.make(header.initiator_spi, nonce, datagram.remote, now)
    # Not among the errors that are limited: a flood must not keep the cookie from the true peer.
    notify = NotifyPayload(NotifyType.COOKIE, fresh)
    answer_with(association, header, notify, datagram, now)


def _answer_init(
    association: Association,
    message: Message,
    nonce: bytes,
    datagram: Datagram,
    now: float,
    *,
    cookie: bool,
) -> IkeSa | None:
    """Return the new IKE SA; None if a cookie has to come first. Raises PeerError."""
    context = association.context
    peer = association.peer
    ke = message.require(KeyExchangePayload)
    hashes = read_signature_hashes(message.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS))
    choice = select_ike(
        message.require(SaPayload), peer.policy, ke.group, intermediate=intermediate(message)
    )
    if choice.suite.group != ke.group:
        raise WrongKeyExchangeGroup(choice.suite.group)
    check_nonce(choice.suite.prf, nonce)
    header = Header(
        message.header.initiator_spi, context.new_spi(), ExchangeType.IKE_SA_INIT, 0, False, True
    )
    path = Path.back(datagram)
    our_nonce = context.random(NONCE_LENGTH)
    payloads = _answer(association, message, choice, header, our_nonce, path)
    largest = context.limits.cookie_answer * len(datagram.data)
    if not cookie and largest < _LONGEST_ANSWER and len(_encoded(header, payloads, ke)) > largest:
        return None
    public_value, shared = respond(ke.group, ke.data)
    response = _encoded(header, payloads, KeyExchangePayload(ke.group, public_value))
    origin = Origin(
        initiator=False,
        spi_i=header.initiator_spi,
        spi_r=header.responder_spi,
        suite=choice.suite,
        ni=nonce,
        nr=our_nonce,
        begun=now,
        profile=speaks_profile(message),
        nat=on_path(message, datagram),
        fragmentation=fragments(message),
    )
    handshake = Handshake(
        datagram.data,
        response,
        hashes,
        ppk=peer.ppk is not None and message.notify(NotifyType.USE_PPK) is not None,
        additional_left=list(choice.suite.additional),
    )
    sa = begin(association, origin, shared, path, handshake, State.HALF_OPEN, now)
    context.waiting[sa] = None
    sa.at(now + context.limits.half_open_lifetime, lambda now: _expire(sa, now))
    tell(association, payloads, now, sent=True, response=True)
    context.send(path, (response,))
    return sa


def _encoded(header: Header, payloads: list[Payload], ke: KeyExchangePayload) -> bytes:
    """Return the answer with a KE payload; for its length, the peer's KE payload stands for
    ours.
    """
    payloads[1:2] = [ke]
    return Message(header, tuple(payloads)).encode()


def _answer(
    association: Association,
    message: Message,
    choice: IkeChoice,
    header: Header,
    our_nonce: bytes,
    path: Path,
) -> list[Payload]:
    """Return the payloads of the answer; the second one is a placeholder for KE."""
    peer = association.peer
    payloads: list[Payload] = [
        choice.answer(),
        NoncePayload(our_nonce),  # replaced by KE
        NoncePayload(our_nonce),
        *nat_detection(header.initiator_spi, header.responder_spi, path),
        *certificate_requests(peer.remote_credential),
        VendorIdPayload(VENDOR_ID),
        signature_hashes(),
        NotifyPayload(NotifyType.CHILDLESS_IKEV2_SUPPORTED),
        announce(peer.remote_credential),
    ]
    if fragments(message):
        payloads.append(NotifyPayload(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
    if choice.suite.additional:
        payloads.append(NotifyPayload(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
    if peer.ppk is not None and message.notify(NotifyType.USE_PPK) is not None:
        payloads.append(NotifyPayload(NotifyType.USE_PPK))
    return payloads


def _expire(sa: IkeSa, now: float) -> None:
    if sa.state == State.HALF_OPEN:
        sa.close(Cause.NO_ANSWER, now)

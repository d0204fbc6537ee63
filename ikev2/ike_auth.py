"""IKE_AUTH without a child in both roles (RFC 7296, 1.2, 2.15, 2.21.2; RFC 6023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ikev2.auth import certificate_requests, certificates, make_auth, signed_octets, verify_auth
from ikev2.constants import FIRST_STATUS_NOTIFY, ExchangeType, NotifyType
from ikev2.errors import AuthenticationFailed, MalformedMessage, PeerError
from ikev2.events import Cause
from ikev2.exchange import Exchange
from ikev2.identity import Identity
from ikev2.informational import AuthenticationRefused
from ikev2.message import Message
from ikev2.payload import Payload
from ikev2.payloads import (
    AuthPayload,
    CertificatePayload,
    CertificateRequestPayload,
    IdentificationPayload,
    IdiPayload,
    IdrPayload,
    NotifyPayload,
)
from ikev2.payloads_sa import SaPayload
from ikev2.rp_responder import serve_first_rp_sa
from ikev2.transitions import Happening, State
from ikev2.words import notify_name

if TYPE_CHECKING:
    from ikev2.ike_sa import IkeSa


class UnknownIdentity(AuthenticationFailed):
    """The peer claims another identity than the configured one."""


class Authenticate(Exchange):
    """The initiator's side."""

    exchange_type: ClassVar[ExchangeType] = ExchangeType.IKE_AUTH

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        peer = sa.association.peer
        identification = peer.local_id.as_idi()
        requests = sa.handshake.certificate_requests if sa.handshake else ()
        try:
            auth = _our_auth(sa, identification)
        except AuthenticationFailed as error:
            sa.close(Cause.AUTHENTICATION_FAILED, now, str(error))
            return None
        return [
            identification,
            *certificates(peer.credential, requests),
            *_initial_contact(sa),
            *certificate_requests(peer.remote_credential),
            peer.remote_id.as_idr(),
            auth,
        ]

    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        auth = message.find(AuthPayload)
        if auth is None:
            self._refused(sa, message, now)
            return
        _verify(sa, message.require(IdrPayload), auth, message, now)
        initial_contact = _greeted(sa, message)
        sa.association.established(sa, now, initial_contact=initial_contact)

    def _refused(self, sa: IkeSa, message: Message, now: float) -> None:
        """The responder's MAC was good, but who it is remains unproven (RFC 7296, 1.2)."""
        errors = [n for n in message.all(NotifyPayload) if n.notify_type < FIRST_STATUS_NOTIFY]
        if not errors:
            raise MalformedMessage('IKE_AUTH answer with neither AUTH nor an error')
        if errors[0].notify_type == NotifyType.AUTHENTICATION_FAILED:
            text = 'the peer refused our identity or our proof of it'
            sa.close(Cause.AUTHENTICATION_FAILED, now, text)
            return
        name = notify_name(errors[0].notify_type)
        sa.close(Cause.REFUSED, now, f'the peer answered {name}')

    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        cause = _cause(error)
        if not isinstance(error, AuthenticationFailed):
            sa.close(cause, now, str(error))
            return
        # The responder believes that the IKE SA is up: tell it (RFC 7296, 2.21.2).
        sa.association.counters.refused_auth += 1
        sa.happen(Happening.DELETE_SENT)
        sa.queue(AuthenticationRefused(), now)
        sa.association.unproven(cause, str(error), now)

    def lost(self, cause: Cause, text: str, now: float) -> None:
        """The association tells about it."""


def serve_ike_auth(sa: IkeSa, message: Message, now: float) -> None:
    """The responder's side. Raises PeerError for what ends the IKE SA."""
    peer = sa.association.peer
    identification = message.require(IdiPayload)
    auth = message.find(AuthPayload)
    try:
        if auth is None:
            raise AuthenticationFailed('the peer wants EAP, which is not configured')
        _verify(sa, identification, auth, message, now)
        our_id = peer.local_id.as_idr()
        our_auth = _our_auth(sa, our_id)
    except AuthenticationFailed as error:
        sa.refuse_with(NotifyType.AUTHENTICATION_FAILED, now, cause=_cause(error), text=str(error))
        return
    requests = tuple(message.all(CertificateRequestPayload))
    answer: list[Payload] = [
        our_id,
        *certificates(peer.credential, requests),
        our_auth,
        *_initial_contact(sa),
    ]
    initial_contact = _greeted(sa, message)

    def finish(child: Sequence[Payload], now: float) -> None:
        if sa.state == State.CLOSED:
            return
        sa.answer([*answer, *child], now)
        sa.association.established(sa, now, initial_contact=initial_contact)

    if message.find(SaPayload) is None:
        finish((), now)
    else:
        serve_first_rp_sa(sa, message, finish, now)


def _greeted(sa: IkeSa, message: Message) -> bool:
    if message.notify(NotifyType.INITIAL_CONTACT) is None:
        return False
    sa.association.greeted(sa)
    return True


def _initial_contact(sa: IkeSa) -> tuple[NotifyPayload, ...]:
    """Only from a side that has no MKT and no other finished IKE SA with this identity."""
    association = sa.association
    if association.context.has_mkts(association.peer.name):
        return ()
    if any(other.finished for other in association.sas if other is not sa):
        return ()
    return (NotifyPayload(NotifyType.INITIAL_CONTACT),)


def _our_auth(sa: IkeSa, identification: IdentificationPayload) -> AuthPayload:
    """Raises AuthenticationFailed if the peer can't verify what our credential makes."""
    if sa.handshake is None:
        raise ValueError('IKE_AUTH without IKE_SA_INIT')
    origin = sa.origin
    if origin.initiator:
        message, nonce, sk_p = sa.handshake.request, origin.nr, sa.keys.sk_pi
    else:
        message, nonce, sk_p = sa.handshake.response, origin.ni, sa.keys.sk_pr
    octets = signed_octets(origin.suite.prf, message, nonce, sk_p, identification)
    credential = sa.association.peer.credential
    return make_auth(credential, origin.suite.prf, octets, sa.handshake.peer_hashes)


def _verify(
    sa: IkeSa,
    identification: IdentificationPayload,
    auth: AuthPayload,
    message: Message,
    now: float,
) -> None:
    """The peer is who it must be and has proven it. Raises AuthenticationFailed."""
    if sa.handshake is None:
        raise ValueError('IKE_AUTH without IKE_SA_INIT')
    peer = sa.association.peer
    claimed = Identity.of(identification)
    if claimed != peer.remote_id:
        raise UnknownIdentity(f'the peer says that it is {claimed}, not {peer.remote_id}')
    origin = sa.origin
    if origin.initiator:
        signed, nonce, sk_p = sa.handshake.response, origin.ni, sa.keys.sk_pr
    else:
        signed, nonce, sk_p = sa.handshake.request, origin.nr, sa.keys.sk_pi
    octets = signed_octets(origin.suite.prf, signed, nonce, sk_p, identification)
    received = tuple(message.all(CertificatePayload))
    wall = sa.association.context.wall_clock()
    until = verify_auth(
        peer.remote_credential,
        origin.suite.prf,
        octets,
        auth,
        received,
        peer_hashes=sa.handshake.peer_hashes,
        identity=claimed,
        at=wall,
    )
    sa.proven_until = None if until is None else now + until - wall


def _cause(error: PeerError) -> Cause:
    if isinstance(error, UnknownIdentity):
        return Cause.UNKNOWN_IDENTITY
    if isinstance(error, AuthenticationFailed):
        return Cause.AUTHENTICATION_FAILED
    return Cause.MALFORMED

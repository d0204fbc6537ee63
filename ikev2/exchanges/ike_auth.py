"""IKE_AUTH without a child in both roles (RFC 7296, 1.2, 2.15, 2.21.2; RFC 6023).

With a PPK there are two sets of keys until both sides have told whether they use it (RFC 8784, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ikev2.authentication.announcements import announce, read_announcements
from ikev2.authentication.auth import (
    certificate_requests,
    certificates,
    make_auth,
    signed_octets,
    verify_auth,
)
from ikev2.authentication.credentials import CertifiedKey
from ikev2.authentication.identity import Identity
from ikev2.authentication.ppk import Use, responder_uses
from ikev2.authentication.proof import Proof, sent_certificates
from ikev2.constants import ExchangeType, NotifyType
from ikev2.crypto.keys import IkeKeys
from ikev2.errors import (
    AuthenticationFailed,
    ContradictoryAnswer,
    FailureText,
    MalformedMessage,
    PeerError,
    ProofFault,
    UnknownIdentity,
)
from ikev2.events import Cause
from ikev2.exchanges.informational import AuthenticationRefused, Liveness
from ikev2.exchanges.rp_responder import serve_first_rp_sa
from ikev2.sa.exchange import Exchange
from ikev2.sa.origin import Handshake
from ikev2.sa.transitions import Happening, State
from ikev2.wire.message import Message
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import (
    AuthPayload,
    CertificatePayload,
    CertificateRequestPayload,
    IdentificationPayload,
    IdiPayload,
    IdrPayload,
    NotifyPayload,
)
from ikev2.wire.payloads_sa import SaPayload
from ikev2.wire.words import notify_name

if TYPE_CHECKING:
    from ikev2.sa.ike_sa import IkeSa


class Authenticate(Exchange):
    """IKE_AUTH as initiator."""

    exchange_type: ClassVar[ExchangeType] = ExchangeType.IKE_AUTH

    def __init__(self) -> None:
        self._mixed: IkeKeys | None = None
        """The keys with the PPK, if we have offered to use it."""

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        peer, handshake = sa.association.peer, _handshake(sa)
        identification = peer.local_id.as_idi()
        announced = handshake.announced
        ppk: list[Payload] = []
        try:
            if peer.ppk is not None and handshake.ppk:
                self._mixed = peer.ppk.mixed(sa.origin.suite.prf, sa.keys)
                ppk.append(peer.ppk.notify())
                if not peer.ppk.required:
                    without = _our_auth(sa, identification, sa.keys, announced)
                    ppk.append(NotifyPayload(NotifyType.NO_PPK_AUTH, without.data))
            auth = _our_auth(sa, identification, self._mixed or sa.keys, announced)
        except AuthenticationFailed as error:
            self._forget()
            sa.close(Cause.AUTHENTICATION_FAILED, now, error.text)
            return None
        return [
            identification,
            *certificates(peer.credential, handshake.certificate_requests),
            *_initial_contact(sa),
            *certificate_requests(peer.remote_credential),
            peer.remote_id.as_idr(),
            auth,
            *ppk,
            *([] if announced is None else [announce(peer.remote_credential)]),
        ]

    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        auth = message.find(AuthPayload)
        if auth is None:
            self._forget()
            self._refused(sa, message, now)
            return
        keys = self._keys(sa, message)
        _verify(sa, message.require(IdrPayload), auth, message, keys, now)
        _adopt(sa, keys)
        self._forget(adopted=keys)
        initial_contact = _take_initial_contact(sa, message)
        sa.association.established(sa, now, initial_contact=initial_contact)

    def _forget(self, adopted: IkeKeys | None = None) -> None:
        """Wipe the keys with the PPK, unless they have become the IKE SA's."""
        mixed, self._mixed = self._mixed, None
        if mixed is not None and mixed is not adopted:
            _wipe_mixed(mixed)

    def _keys(self, sa: IkeSa, message: Message) -> IkeKeys:
        """Return the keys with the PPK if the responder used it. Raises AuthenticationFailed."""
        ppk = sa.association.peer.ppk
        if self._mixed is not None and message.notify(NotifyType.PPK_IDENTITY) is not None:
            return self._mixed
        if ppk is not None and ppk.required:
            raise AuthenticationFailed(
                'the peer did not use the PPK, which is required', ProofFault.PPK
            )
        return sa.keys

    def _refused(self, sa: IkeSa, message: Message, now: float) -> None:
        """Handle an answer without AUTH: its integrity is good, but its sender unproven (RFC 7296,
        1.2).
        """
        errors = message.errors
        if not errors:
            raise MalformedMessage('IKE_AUTH answer with neither AUTH nor an error')
        if errors[0].notify_type == NotifyType.AUTHENTICATION_FAILED:
            text = 'the peer refused our identity or our proof of it'
            credential = sa.association.peer.credential
            if isinstance(credential, CertifiedKey):
                text += credential.excuse(sa.association.context.wall_clock())
            sa.close(Cause.AUTHENTICATION_FAILED, now, FailureText(text, ProofFault.REFUSED_US))
            return
        name = notify_name(errors[0].notify_type)
        sa.close(Cause.REFUSED, now, f'the peer answered {name}')

    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        self._forget()
        cause = _cause(error)
        if not isinstance(error, AuthenticationFailed | ContradictoryAnswer):
            sa.close(cause, now, error.text)
            return
        # The responder believes that the IKE SA is up: report the refusal (RFC 7296, 2.21.2).
        sa.association.counters.refused_auth += 1
        sa.happen(Happening.REFUSAL_SENT)
        sa.queue(AuthenticationRefused(), now)
        sa.association.unproven(cause, error.text, now)

    def lost(self, cause: Cause, text: str, now: float) -> None:
        """Wipe keys; the association reports the failure."""
        self._forget()


def serve_ike_auth(sa: IkeSa, message: Message, now: float) -> None:
    """Serve IKE_AUTH as responder. Raises PeerError for a fault that ends the IKE SA."""
    peer = sa.association.peer
    if _handshake(sa).additional_left:
        raise MalformedMessage('IKE_AUTH before the additional key exchanges')
    identification = message.require(IdiPayload)
    auth = message.find(AuthPayload)
    announced = read_announcements(message.notify(NotifyType.SUPPORTED_AUTH_METHODS))
    keys = sa.keys
    try:
        if auth is None:
            raise AuthenticationFailed(
                'the peer wants EAP, which is not configured', ProofFault.METHOD
            )
        keys, auth = _keys_and_auth(sa, message, auth)
        _verify(sa, identification, auth, message, keys, now)
        our_id = peer.local_id.as_idr()
        our_auth = _our_auth(sa, our_id, keys, announced)
    except PeerError as error:
        if keys is not sa.keys:
            _wipe_mixed(keys)
        if not isinstance(error, AuthenticationFailed):
            raise
        sa.refuse_with(NotifyType.AUTHENTICATION_FAILED, now, cause=_cause(error), text=error.text)
        return
    requests = tuple(message.all(CertificateRequestPayload))
    answer: list[Payload] = [
        our_id,
        *certificates(peer.credential, requests),
        our_auth,
        *(claim := _initial_contact(sa)),
    ]
    if keys is not sa.keys:
        answer.append(NotifyPayload(NotifyType.PPK_IDENTITY))
    _adopt(sa, keys)
    initial_contact = _take_initial_contact(sa, message)

    def finish(child: Sequence[Payload], now: float) -> None:
        if sa.state == State.CLOSED:
            return
        sa.answer([*answer, *child], now)
        given_up = _given_up(sa) if claim else ()
        sa.association.established(sa, now, initial_contact=initial_contact)
        for other in given_up:
            # A peer that has the older IKE SA keeps it when an attacker only probes in its name.
            other.queue(Liveness(), now)

    if message.find(SaPayload) is None:
        finish((), now)
    else:
        serve_first_rp_sa(sa, message, finish, now)


def _keys_and_auth(sa: IkeSa, message: Message, auth: AuthPayload) -> tuple[IkeKeys, AuthPayload]:
    """Return the keys of the peer's AUTH, and which of its two AUTH payloads counts (RFC 8784, 3).

    Raises AuthenticationFailed.
    """
    ppk = sa.association.peer.ppk
    fallback = message.notify(NotifyType.NO_PPK_AUTH)
    named = message.notify(NotifyType.PPK_IDENTITY)
    use = responder_uses(ppk, negotiated=_handshake(sa).ppk, identity=named, no_ppk_auth=fallback)
    if use is Use.WITH and ppk is not None:
        return ppk.mixed(sa.origin.suite.prf, sa.keys), auth
    if _handshake(sa).ppk and named is not None and fallback is not None:
        auth = AuthPayload(auth.method, fallback.data)
    return sa.keys, auth


def _adopt(sa: IkeSa, keys: IkeKeys) -> None:
    """Use these keys from now on, and wipe the keys without the PPK if these are with it."""
    if keys is not sa.keys:
        _wipe_mixed(sa.keys)
        sa.keys = keys


def _wipe_mixed(keys: IkeKeys) -> None:
    """Wipe the three keys that differ with a PPK: the other four are in both sets."""
    for secret in (keys.sk_d, keys.sk_pi, keys.sk_pr):
        secret.wipe()


def _take_initial_contact(sa: IkeSa, message: Message) -> bool:
    if message.notify(NotifyType.INITIAL_CONTACT) is None:
        return False
    sa.association.initial_contact_received(sa)
    return True


def _initial_contact(sa: IkeSa) -> tuple[NotifyPayload, ...]:
    """Return INITIAL_CONTACT if we have no MKT and no other finished IKE SA with this identity."""
    association = sa.association
    if association.context.has_mkts(association.peer.name):
        return ()
    given_up = _given_up(sa)
    if any(one.finished and one is not sa and one not in given_up for one in association.sas):
        return ()
    return (NotifyPayload(NotifyType.INITIAL_CONTACT),)


def _given_up(sa: IkeSa) -> list[IkeSa]:
    """Return the peer's earlier IKE SAs under which it never sent a request.

    Our IKE_AUTH answer, with its INITIAL_CONTACT, may have been lost.
    """
    if sa.origin.initiator:
        return []
    return [
        other
        for other in sa.association.sas
        if other.finished and not other.confirmed and other.authenticated < sa.origin.begun
    ]


def _our_auth(
    sa: IkeSa,
    identification: IdentificationPayload,
    keys: IkeKeys,
    announced: Sequence[bytes] | None,
) -> AuthPayload:
    """Return our AUTH payload.

    Raises AuthenticationFailed if the peer can't verify our credential.
    """
    octets = _signed(sa, identification, keys, by_initiator=sa.origin.initiator)
    return make_auth(
        sa.association.peer.credential,
        sa.origin.suite.prf,
        octets,
        _handshake(sa).peer_hashes,
        announced or (),
    )


def _signed(
    sa: IkeSa, identification: IdentificationPayload, keys: IkeKeys, *, by_initiator: bool
) -> bytes:
    """Return the octets that the AUTH of one side covers."""
    origin, handshake = sa.origin, _handshake(sa)
    if by_initiator:
        message, nonce, sk_p = handshake.request, origin.nr, keys.sk_pi
    else:
        message, nonce, sk_p = handshake.response, origin.ni, keys.sk_pr
    intermediate = handshake.int_auth.octets
    return signed_octets(origin.suite.prf, message, nonce, sk_p, identification, intermediate)


def _handshake(sa: IkeSa) -> Handshake:
    if sa.handshake is None:
        raise ValueError('IKE_AUTH without IKE_SA_INIT')
    return sa.handshake


def _verify(
    sa: IkeSa,
    identification: IdentificationPayload,
    auth: AuthPayload,
    message: Message,
    keys: IkeKeys,
    now: float,
) -> None:
    """Check the peer's identity and its proof. Raises AuthenticationFailed."""
    peer = sa.association.peer
    claimed = Identity.of(identification)
    if claimed != peer.remote_id:
        raise UnknownIdentity(f'the peer says that it is {claimed.brief}, not {peer.remote_id}')
    octets = _signed(sa, identification, keys, by_initiator=not sa.origin.initiator)
    received = tuple(message.all(CertificatePayload))
    wall = sa.association.context.wall_clock()
    until = verify_auth(
        peer.remote_credential,
        sa.origin.suite.prf,
        octets,
        auth,
        received,
        peer_hashes=_handshake(sa).peer_hashes,
        identity=claimed,
        at=wall,
    )
    sent = sent_certificates(peer.remote_credential, received)
    sa.proof = Proof(claimed, now, sent, wall, until)


def _cause(error: PeerError) -> Cause:
    if isinstance(error, UnknownIdentity):
        return Cause.UNKNOWN_IDENTITY
    if isinstance(error, AuthenticationFailed):
        return Cause.AUTHENTICATION_FAILED
    if isinstance(error, ContradictoryAnswer):
        return Cause.REFUSED
    return Cause.MALFORMED

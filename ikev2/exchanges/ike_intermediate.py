"""IKE_INTERMEDIATE in both roles: key exchanges before IKE_AUTH (RFC 9242; RFC 9370, 2.2.2).

One exchange for each method of the suite, in order. Each is protected by the previous keys and
changes all seven. The peer is not authenticated yet: any fault ends the IKE SA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ikev2.constants import ExchangeType, PayloadType
from ikev2.crypto.key_exchange import KeyExchange, respond
from ikev2.crypto.keys import derive_ike_keys, skeyseed_rekey
from ikev2.errors import InvalidKeyExchange, MalformedMessage, PeerError
from ikev2.events import Cause
from ikev2.sa.exchange import Exchange
from ikev2.sa.intermediate import authenticated_octets
from ikev2.sa.origin import Handshake
from ikev2.wire.message import HEADER_LENGTH, Header, Message, encode_chain
from ikev2.wire.payload import GENERIC_HEADER_LENGTH, Payload, generic_header
from ikev2.wire.payloads import KeyExchangePayload
from ikev2.wire.words import notify_name
from keymaterial import Secret

if TYPE_CHECKING:
    from ikev2.sa.ike_sa import IkeSa


class Intermediate(Exchange):
    """The initiator's side of the next additional key exchange."""

    exchange_type: ClassVar[ExchangeType] = ExchangeType.IKE_INTERMEDIATE

    def __init__(self) -> None:
        self._exchange: KeyExchange | None = None
        self._payloads: list[Payload] = []

    def request(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        self._exchange = KeyExchange.generate(_handshake(sa).additional_left[0])
        self._payloads = [KeyExchangePayload(self._exchange.group, self._exchange.public_value)]
        return self._payloads

    def answered(self, sa: IkeSa, message: Message, now: float) -> None:
        ke = message.find(KeyExchangePayload)
        if ke is None:
            _refused(sa, message, now)
            return
        exchange = self._exchange
        if exchange is None or ke.group != exchange.group:
            raise MalformedMessage('the KE payload is of another method than the chosen one')
        shared = exchange.shared_secret(ke.data)
        request = _clear(sa, message.header.message_id, self._payloads, response=False)
        _advance(sa, request, message.clear, shared)

    def broken(self, sa: IkeSa, error: PeerError, now: float) -> None:
        sa.close(Cause.MALFORMED, now, str(error))

    def lost(self, cause: Cause, text: str, now: float) -> None:
        """Do nothing: the association reports the failure."""


def _refused(sa: IkeSa, message: Message, now: float) -> None:
    errors = message.errors
    if not errors:
        raise MalformedMessage('IKE_INTERMEDIATE answer with neither KE nor an error')
    sa.close(Cause.REFUSED, now, f'the peer answered {notify_name(errors[0].notify_type)}')


def serve_intermediate(sa: IkeSa, message: Message, now: float) -> None:
    """Serve a request as responder. Raises PeerError for a fault that ends the IKE SA."""
    left = _handshake(sa).additional_left
    if not left:
        raise MalformedMessage('IKE_INTERMEDIATE where none was negotiated')
    ke = message.require(KeyExchangePayload)
    if ke.group != left[0]:
        raise InvalidKeyExchange('the KE payload is of another method than the chosen one')
    public_value, shared = respond(ke.group, ke.data)
    answer: list[Payload] = [KeyExchangePayload(ke.group, public_value)]
    response = _clear(sa, message.header.message_id, answer, response=True)
    sa.answer(answer, now)
    _advance(sa, message.clear, response, shared)


def _advance(sa: IkeSa, request: bytes, response: bytes, shared: Secret) -> None:
    """Add both messages to the octets that AUTH covers, and the secret to the keys (RFC 9370,
    2.2.2).
    """
    origin, handshake, old = sa.origin, _handshake(sa), sa.keys
    prf = origin.suite.prf
    handshake.int_auth = handshake.int_auth.request(prf, old.sk_pi, request).response(
        prf, old.sk_pr, response
    )
    handshake.additional_left.pop(0)
    seed = skeyseed_rekey(prf, old.sk_d, shared, origin.ni, origin.nr)
    keys = derive_ike_keys(
        origin.suite.encryption, prf, seed, origin.ni, origin.nr, origin.spi_i, origin.spi_r
    )
    shared.wipe()
    seed.wipe()
    sa.change_keys(keys)


def _clear(sa: IkeSa, message_id: int, payloads: Sequence[Payload], *, response: bool) -> bytes:
    """Return IntAuth_A | IntAuth_P of a message of ours."""
    origin = sa.origin
    header = Header(
        origin.spi_i,
        origin.spi_r,
        ExchangeType.IKE_INTERMEDIATE,
        message_id,
        origin.initiator,
        response,
    )
    first, inner = encode_chain(payloads)
    length = HEADER_LENGTH + GENERIC_HEADER_LENGTH + len(inner)
    associated = header.encode(PayloadType.SK, length) + generic_header(first, len(inner))
    return authenticated_octets(associated, inner)


def _handshake(sa: IkeSa) -> Handshake:
    if sa.handshake is None:
        raise ValueError('IKE_INTERMEDIATE outside of a handshake')
    return sa.handshake

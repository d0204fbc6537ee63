"""Messages without protection: errors about messages that no IKE SA claims, and hints.

RFC 7296, 1.5, 2.4, 2.5, 2.21.1 and 2.21.4. An answer is sent to a request only, once, to a peer's
address, and is hardly longer than the request; no received hint changes the state of an IKE SA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikev2.constants import ExchangeType, HeaderFlag, NotifyType, PayloadType
from ikev2.context import Path
from ikev2.errors import PeerError
from ikev2.events import Datagram
from ikev2.exchanges.ike_init import tell
from ikev2.sa.transitions import State
from ikev2.wire.message import HEADER_LENGTH, SPI_LENGTH, Header, Message
from ikev2.wire.payloads import NotifyPayload

if TYPE_CHECKING:
    from ikev2.association import Association
    from ikev2.sa.ike_sa import IkeSa

_SHORT = 40
"""Octets of an answer that is sent whatever the length of the request, which may be a header
alone."""
_NEXT_PAYLOAD, _EXCHANGE_TYPE, _FLAGS, _MESSAGE_ID = 16, 18, 19, slice(20, 24)


def answer_unknown_version(
    association: Association, datagram: Datagram, error: PeerError, now: float
) -> None:
    """Answer INVALID_MAJOR_VERSION to a request of a newer version (RFC 7296, 1.5 and 2.5)."""
    data = datagram.data
    if len(data) < HEADER_LENGTH or data[_FLAGS] & HeaderFlag.RESPONSE:
        return
    spi_i, spi_r = data[:SPI_LENGTH], data[SPI_LENGTH : 2 * SPI_LENGTH]
    message_id = int.from_bytes(data[_MESSAGE_ID], 'big')
    initiator = bool(data[_FLAGS] & HeaderFlag.INITIATOR)
    header = Header(spi_i, spi_r, data[_EXCHANGE_TYPE], message_id, initiator, False)
    if error.notify is not None:
        notify = NotifyPayload(error.notify, error.notify_data)
        answer_with_error(association, header, notify, datagram, now)


def answer_unknown_spi(
    association: Association, datagram: Datagram, header: Header, now: float
) -> None:
    """Answer INVALID_IKE_SPI to a request that no IKE SA of ours claims (RFC 7296, 2.21.4)."""
    if header.response or header.exchange_type not in _PROTECTED:
        return
    notify = NotifyPayload(NotifyType.INVALID_IKE_SPI)
    answer_with_error(association, header, notify, datagram, now)


def is_unprotected(datagram: Datagram) -> bool:
    """Return True if the message begins with a Notify payload."""
    return datagram.data[_NEXT_PAYLOAD] == PayloadType.NOTIFY


def take_hint(sa: IkeSa, datagram: Datagram, now: float) -> None:
    """Handle INVALID_IKE_SPI for an IKE SA of ours: the peer may have lost it, or the hint is
    forged.

    Check liveness of all IKE SAs with that peer, but not often (RFC 7296, 2.4, 2.21.4).
    """
    association = sa.association
    association.counters.not_authentic += 1
    try:
        message = Message.decode(datagram.data)
    except PeerError:
        return
    if message.header.response and message.notify(NotifyType.INVALID_IKE_SPI) is not None:
        if association.attempt is not None and sa.state == State.AUTH_SENT:
            association.attempt.doubt()
        association.check_liveness_after_hint(now)


def answer_with_error(
    association: Association,
    header: Header,
    notify: NotifyPayload,
    datagram: Datagram,
    now: float,
) -> None:
    """Answer with an error, unless there were too many."""
    if association.unprotected_errors.allow(now):
        answer_with(association, header, notify, datagram, now)
    else:
        association.counters.limited += 1


def answer_with(
    association: Association,
    header: Header,
    notify: NotifyPayload,
    datagram: Datagram,
    now: float,
) -> None:
    """Answer to the source of the request, with its SPIs (RFC 7296, 2.21.4)."""
    answer = Header(
        header.initiator_spi,
        header.responder_spi,
        header.exchange_type,
        header.message_id,
        initiator=not header.initiator,
        response=True,
    )
    octets = Message(answer, (notify,)).encode()
    if len(octets) > max(len(datagram.data), _SHORT):
        # No amplification: a forged source address must gain nothing.
        association.counters.limited += 1
        return
    if header.exchange_type == ExchangeType.IKE_SA_INIT:
        tell(association, [notify], now, sent=True, response=True)
    association.context.send(Path.back(datagram), (octets,))


_PROTECTED = frozenset(
    {
        ExchangeType.IKE_AUTH,
        ExchangeType.CREATE_CHILD_SA,
        ExchangeType.INFORMATIONAL,
        ExchangeType.IKE_INTERMEDIATE,
        ExchangeType.IKE_FOLLOWUP_KE,
    }
)

"""Descriptions of messages for an operator's timeline: no secrets, no octets of keys or nonces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ikev2.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from ikev2.errors import TrafficSelectorsUnacceptable
from ikev2.wire.payload import Payload
from ikev2.wire.payloads import DeletePayload, NotifyPayload
from ikev2.wire.payloads_sa import SaPayload
from ikev2.wire.payloads_ts import TrafficSelectorsPayload

_PAYLOADS: Final[dict[int, str]] = {
    **{kind: kind.name for kind in PayloadType},
    PayloadType.IDI: 'IDi',
    PayloadType.IDR: 'IDr',
    PayloadType.NONCE: 'Nonce',
    PayloadType.VENDOR_ID: 'V',
    PayloadType.TSI: 'TSi',
    PayloadType.TSR: 'TSr',
}
_EXCHANGES: Final[dict[int, str]] = {kind: kind.name for kind in ExchangeType}
_NOTIFIES: Final[dict[int, str]] = {kind: kind.name for kind in NotifyType}
_PROTOCOLS: Final[dict[int, str]] = {kind: kind.name for kind in ProtocolId}


def describe(payloads: Sequence[Payload]) -> str:
    """Return the payloads by the names of RFC 7296, 1.2, with the contents that help an
    operator.
    """
    return ', '.join(map(_describe, payloads))


def exchange_name(exchange_type: int) -> str:
    """Return the name of an exchange, or its number if unknown."""
    return _EXCHANGES.get(exchange_type) or f'exchange {exchange_type}'


def notify_name(notify_type: int) -> str:
    """Return the name of a notify, or its number if unknown."""
    return _NOTIFIES.get(notify_type) or f'notify {notify_type}'


def _describe(payload: Payload) -> str:
    words = _WORDS.get(payload.payload_type)
    if words is not None:
        return words(payload)
    return _PAYLOADS.get(payload.payload_type) or f'payload {payload.payload_type}'


def _notify(payload: NotifyPayload) -> str:
    spi = f' {payload.spi.hex()}' if payload.spi else ''
    return f'N({notify_name(payload.notify_type)}{spi})'


def _delete(payload: DeletePayload) -> str:
    spis = ' '.join(['', *(spi.hex() for spi in payload.spis)])
    return f'D({_protocol(payload.protocol)}{spis})'


def _sa(payload: SaPayload) -> str:
    return f'SA({_protocol(payload.proposals[0].protocol)})'


def _selectors(payload: TrafficSelectorsPayload) -> str:
    name = _PAYLOADS[payload.payload_type]
    try:
        single = payload.single()
    except TrafficSelectorsUnacceptable:
        return f'{name}(...)'
    return f'{name}({single.address} {single.port})'


_WORDS: Final[dict[int, Callable[[Any], str]]] = {
    PayloadType.NOTIFY: _notify,
    PayloadType.DELETE: _delete,
    PayloadType.SA: _sa,
    PayloadType.TSI: _selectors,
    PayloadType.TSR: _selectors,
}


def _protocol(protocol: int) -> str:
    return _PROTOCOLS.get(protocol) or f'protocol {protocol}'

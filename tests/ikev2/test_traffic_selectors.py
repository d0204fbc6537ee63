"""TSi and TSr of a routing-protocol SA: exactly one TCP address and port (RFC 7296, 3.13)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.constants import NotifyType
from ikev2.errors import MalformedMessage, TrafficSelectorsUnacceptable
from ikev2.events import Selector
from ikev2.wire.payloads_ts import TrafficSelector, TsiPayload, TsrPayload, UnknownTrafficSelector

SELECTOR = Selector(ip_address('192.0.2.1'), 40001)
PAYLOAD = TsiPayload.of(SELECTOR)
(ONE,) = PAYLOAD.selectors


def test_ipv4_selector_matches_octet_by_octet() -> None:
    assert PAYLOAD.encode_body() == bytes.fromhex(
        '01 000000  07 06 0010  9c41 9c41  c0000201 c0000201'
    )


def test_ipv6_selector_matches_octet_by_octet() -> None:
    payload = TsrPayload.of(Selector(ip_address('2001:db8::1'), 179))
    address = '20010db8000000000000000000000001'
    assert payload.encode_body() == bytes.fromhex(
        '01 000000  08 06 0028  00b3 00b3' + address + address
    )


@given(st.ip_addresses(), st.integers(1, 65535))
def test_selector_round_trip_gives_same_end(address: object, port: int) -> None:
    selector = Selector(address, port)  # type: ignore[arg-type]
    assert TsiPayload.decode_body(TsiPayload.of(selector).encode_body()).single() == selector


def unacceptable() -> dict[str, TsiPayload]:
    assert isinstance(ONE, TrafficSelector)
    return {
        'two selectors': TsiPayload((ONE, ONE)),
        'UDP': TsiPayload((replace(ONE, protocol=17),)),
        'any protocol': TsiPayload((replace(ONE, protocol=0),)),
        'a range of ports': TsiPayload((replace(ONE, end_port=40002),)),
        'any port': TsiPayload((replace(ONE, start_port=0, end_port=65535),)),
        'port 0': TsiPayload((replace(ONE, start_port=0, end_port=0),)),
        'OPAQUE ports': TsiPayload((replace(ONE, start_port=65535, end_port=0),)),
        'a range of addresses': TsiPayload((replace(ONE, end_address=b'\xc0\0\2\2'),)),
        'an unknown type': TsiPayload((UnknownTrafficSelector(9, 6, bytes(12)),)),
    }


@pytest.mark.parametrize('what', unacceptable())
def test_single_refuses_anything_else(what: str) -> None:
    payload = unacceptable()[what]
    assert TsiPayload.decode_body(payload.encode_body()) == payload
    with pytest.raises(TrafficSelectorsUnacceptable) as caught:
        payload.single()
    assert caught.value.notify == NotifyType.TS_UNACCEPTABLE


@pytest.mark.parametrize(
    'body',
    [
        '00 000000',  # no selector
        '02 000000 07 06 0010 9c41 9c41 c0000201 c0000201',  # fewer than announced
        '01 000000 07 06 0010 9c41 9c41 c0000201 c0000201 00',  # an octet too many
        '01 000000 07 06 000f 9c41 9c41 c0000201 c00002',  # a length that isn't its type's
        '01 000000 07 06 0011 9c41 9c41 c0000201 c0000201 00',
        '01 000000 08 06 0010 9c41 9c41 c0000201 c0000201',
        '01 000000 07 06 0003',
        '01 000000 09 06 0003',
        '01 0000',
    ],
)
def test_ts_payload_is_malformed_when_counts_disagree(body: str) -> None:
    with pytest.raises(MalformedMessage):
        TsiPayload.decode_body(bytes.fromhex(body))


@pytest.mark.parametrize(('start', 'end'), [(4, 16), (5, 5), (0, 0)])
def test_selector_refuses_two_address_families(start: int, end: int) -> None:
    with pytest.raises(ValueError, match='4 or of 16'):
        TrafficSelector(6, 1, 1, bytes(start), bytes(end))

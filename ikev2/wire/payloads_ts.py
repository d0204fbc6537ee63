"""The TSi and TSr payloads (RFC 7296, 3.13), and the one form of them that an RP SA uses.

An RP SA protects one TCP connection: each payload holds exactly one selector with protocol TCP,
one address and one port. There is no narrowing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import ClassVar, Self

from ikev2.constants import IpProtocol, PayloadType, TrafficSelectorType
from ikev2.errors import MalformedMessage, TrafficSelectorsUnacceptable
from ikev2.wire.payload import KnownPayload
from ikev2.wire.reader import Reader

_ADDRESS_LENGTH: dict[int, int] = {
    TrafficSelectorType.IPV4_ADDR_RANGE: 4,
    TrafficSelectorType.IPV6_ADDR_RANGE: 16,
}
_TS = Struct('>B3x')
_SELECTOR = Struct('>BBH')
_PORTS = Struct('>HH')


@dataclass(frozen=True, slots=True)
class Selector:
    """A traffic selector of an RP SA: TCP, one address, one port."""

    address: IPv4Address | IPv6Address
    port: int


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """A traffic selector (RFC 7296, 3.13.1): protocol, port range, address range.

    The start may exceed the end (65535 to 0 is OPAQUE), so their order is not checked.
    """

    protocol: int
    start_port: int
    end_port: int
    start_address: bytes
    end_address: bytes

    def __post_init__(self) -> None:
        if len(self.start_address) != len(self.end_address) or len(self.start_address) not in (
            4,
            16,
        ):
            raise ValueError('a traffic selector has two addresses of 4 or of 16 octets')

    @property
    def ts_type(self) -> TrafficSelectorType:
        """Return the selector type, which follows from the length of the addresses."""
        if len(self.start_address) == 4:
            return TrafficSelectorType.IPV4_ADDR_RANGE
        return TrafficSelectorType.IPV6_ADDR_RANGE

    def encode(self) -> bytes:
        """Return the selector's octets."""
        length = _SELECTOR.size + _PORTS.size + 2 * len(self.start_address)
        return (
            _SELECTOR.pack(self.ts_type, self.protocol, length)
            + _PORTS.pack(self.start_port, self.end_port)
            + self.start_address
            + self.end_address
        )


@dataclass(frozen=True, slots=True)
class UnknownTrafficSelector:
    """A selector of an unknown type; never acceptable (RFC 7296, 2.9)."""

    ts_type: int
    protocol: int
    data: bytes

    def encode(self) -> bytes:
        """Return the selector's octets."""
        length = _SELECTOR.size + len(self.data)
        return _SELECTOR.pack(self.ts_type, self.protocol, length) + self.data


@dataclass(frozen=True, slots=True)
class TrafficSelectorsPayload(KnownPayload):
    """TSi or TSr: one or more selectors."""

    selectors: tuple[TrafficSelector | UnknownTrafficSelector, ...]

    @classmethod
    def of(cls, selector: Selector) -> Self:
        """Return the payload for one end of one TCP connection."""
        address = selector.address.packed
        port = selector.port
        return cls((TrafficSelector(IpProtocol.TCP, port, port, address, address),))

    def single(self) -> Selector:
        """Return the only address and port.

        Raises TrafficSelectorsUnacceptable if the payload holds anything else.
        """
        if len(self.selectors) != 1:
            raise TrafficSelectorsUnacceptable(f'{len(self.selectors)} selectors instead of one')
        found = self.selectors[0]
        if isinstance(found, UnknownTrafficSelector):
            raise TrafficSelectorsUnacceptable(f'selector type {found.ts_type} is unknown')
        if found.protocol != IpProtocol.TCP:
            raise TrafficSelectorsUnacceptable(f'protocol {found.protocol} is not TCP')
        if found.start_address != found.end_address:
            raise TrafficSelectorsUnacceptable('a range of addresses')
        if found.start_port != found.end_port or not found.start_port:
            raise TrafficSelectorsUnacceptable(
                f'ports {found.start_port} to {found.end_port} are not one port'
            )
        return Selector(ip_address(found.start_address), found.start_port)

    def encode_body(self) -> bytes:
        selectors = b''.join(selector.encode() for selector in self.selectors)
        return _TS.pack(len(self.selectors)) + selectors

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        reader = Reader(body, 'TS payload')
        (count,) = reader.unpack(_TS)
        if not count:
            raise MalformedMessage('TS payload without a selector')
        selectors = tuple(_read_selector(reader) for _ in range(count))
        reader.expect_end()
        return cls(selectors)


@dataclass(frozen=True, slots=True)
class TsiPayload(TrafficSelectorsPayload):
    """TSi: the address and port of the exchange's initiator."""

    payload_type: ClassVar[int] = PayloadType.TSI


@dataclass(frozen=True, slots=True)
class TsrPayload(TrafficSelectorsPayload):
    """TSr: the address and port of the exchange's responder."""

    payload_type: ClassVar[int] = PayloadType.TSR


def _read_selector(reader: Reader) -> TrafficSelector | UnknownTrafficSelector:
    ts_type, protocol, length = reader.unpack(_SELECTOR)
    data = reader.take(length - _SELECTOR.size)
    address_length = _ADDRESS_LENGTH.get(ts_type)
    if address_length is None:
        return UnknownTrafficSelector(ts_type, protocol, data)
    inner = Reader(data, 'traffic selector')
    start_port, end_port = inner.unpack(_PORTS)
    start_address = inner.take(address_length)
    end_address = inner.take(address_length)
    inner.expect_end()
    return TrafficSelector(protocol, start_port, end_port, start_address, end_address)

"""The evidence of a demo: decoded captures, keys, timeline.

Reads only; `checks` has the conditions that it must meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from dpkt import ip as dpkt_ip
from dpkt import ip6 as dpkt_ip6
from dpkt import udp as dpkt_udp

from gatekeeper.reporting.events import EventName, OperatorEvent
from ikev2.constants import ExchangeType
from ikev2.errors import PeerError
from ikev2.wire.message import SPI_LENGTH, Header
from lab.demo import timeline
from lab.demo.places import KEYS, REFUSED, TIMELINE, WIRE
from tcpao.verification.capture import Packet, read_packets
from tcpao.verification.known_keys import KnownKey, read_known_keys
from tcpao.verification.report import Report, verify_capture
from tcpao.verification.segment import Segment, parse_ip

IKE_PORTS = (500, 4500)
_MARKER = bytes(4)


@dataclass(frozen=True, slots=True)
class TcpPacket:
    """A TCP segment of a capture."""

    time: float
    segment: Segment


@dataclass(frozen=True, slots=True)
class IkePacket:
    """An IKE message of a capture: its header only."""

    time: float
    source: str
    header: Header

    @property
    def begins(self) -> bool:
        """Return True for a request of IKE_SA_INIT."""
        fresh = self.header.responder_spi == bytes(SPI_LENGTH)
        return self.is_a(ExchangeType.IKE_SA_INIT) and fresh and not self.header.response

    def is_a(self, exchange: ExchangeType) -> bool:
        """Return True for a message of that exchange."""
        return self.header.exchange_type == exchange


@dataclass(frozen=True, slots=True)
class Evidence:
    """All evidence in the folder."""

    folder: Path
    wire: list[Packet]
    refused: list[Packet]
    keys: list[KnownKey]
    report: Report
    events: list[OperatorEvent]

    @staticmethod
    def read(folder: Path) -> Evidence:
        """Read the folder. Raises CaptureError, KeyFileError, KnownKeyError or OSError."""
        keys = read_known_keys(folder / KEYS)
        lines = (folder / TIMELINE).read_text().splitlines()
        return Evidence(
            folder=folder,
            wire=list(read_packets(folder / WIRE)),
            refused=list(read_packets(folder / REFUSED)),
            keys=keys,
            report=verify_capture(folder / WIRE, keys),
            events=[event for event in map(timeline.parse, lines) if event is not None],
        )

    def named(self, name: EventName, router: str | None = None) -> list[OperatorEvent]:
        """Return the events of that name, in order of time."""
        return [e for e in self.events if e.event is name and router in (None, e.router)]


def tcp(packets: list[Packet]) -> list[TcpPacket]:
    """Return the TCP segments among the packets. Raises MalformedSegmentError."""
    parsed = ((packet.time, parse_ip(packet.octets)) for packet in packets)
    return [TcpPacket(time, segment) for time, segment in parsed if segment is not None]


def ike(packets: list[Packet]) -> Iterator[IkePacket]:
    """Yield the IKE messages among the packets."""
    for packet in packets:
        version_6 = packet.octets[0] >> 4 == 6
        outer = dpkt_ip6.IP6(packet.octets) if version_6 else dpkt_ip.IP(packet.octets)
        datagram = outer.data
        if not isinstance(datagram, dpkt_udp.UDP) or datagram.dport not in IKE_PORTS:
            continue
        try:
            header = Header.decode(bytes(datagram.data).removeprefix(_MARKER))
        except PeerError:
            continue
        yield IkePacket(packet.time, str(ip_address(outer.src)), header)

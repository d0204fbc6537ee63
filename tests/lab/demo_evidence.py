"""Evidence as a demo that went well leaves it, small and made up, for tests to spoil."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import dpkt

from gatekeeper.reporting.events import EventName, OperatorEvent
from ikev2.constants import ExchangeType
from ikev2.wire.message import Header
from lab.demo.checks import ATTACKS
from lab.demo.places import (
    ALGORITHMS,
    IMPOSTOR,
    IMPOSTOR_PORTS,
    KEYS,
    PORTS,
    PREFIXES,
    R1,
    R2,
    REFUSED,
    TIMELINE,
    WIRE,
)
from lab.demo.timeline import write
from tcpao.verification.capture import LinkType
from tcpao.verification.segment import Flag
from tests.tcpao.wire import ENDS, Key, Talk

Timed = tuple[float, bytes]

HERE, THERE = (ip_address(one) for one in (R1, R2))
# Seconds: what happens when.
START, IKE, SYN, ROUTED, REKEY, REMOVED, CLOSED = 0.0, 1.0, 2.0, 3.0, 7.0, 15.0, 16.0
END = 18.0


def udp(source: str, target: str, payload: bytes) -> bytes:
    datagram = dpkt.udp.UDP(sport=500, dport=500, data=payload, ulen=8 + len(payload))
    return bytes(
        dpkt.ip.IP(
            src=IPv4Address(source).packed,
            dst=IPv4Address(target).packed,
            p=dpkt.ip.IP_PROTO_UDP,
            len=20 + len(datagram),
            data=datagram,
        )
    )


def ike(
    exchange: ExchangeType, number: int, *, response: bool, source: str = R1, spi: bytes = b'\x01'
) -> bytes:
    fresh = exchange is ExchangeType.IKE_SA_INIT and not response
    header = Header(
        initiator_spi=spi * 8,
        responder_spi=bytes(8) if fresh else b'\x02' * 8,
        exchange_type=exchange,
        message_id=number,
        initiator=source == R1,
        response=response,
    )
    return udp(source, R2 if source == R1 else R1, header.encode(0, 28))


@dataclass
class Demo:
    """Evidence that a test may change before `leave` writes it."""

    wire: list[Timed] = field(default_factory=list)
    refused: list[Timed] = field(default_factory=list)
    keys: list[dict[str, object]] = field(default_factory=list)
    events: list[OperatorEvent] = field(default_factory=list)
    logs: dict[str, bytes] = field(default_factory=dict)

    def leave(self, folder: Path) -> Path:
        for name, packets in ((WIRE, self.wire), (REFUSED, self.refused)):
            with (folder / name).open('wb') as file:
                writer = dpkt.pcap.Writer(file, linktype=LinkType.RAW)
                for time, packet in sorted(packets, key=lambda timed: timed[0]):
                    writer.writepkt(packet, ts=time)
        (folder / KEYS).write_text(json.dumps(self.keys))
        (folder / KEYS).chmod(0o600)
        write(folder / TIMELINE, self.events)
        for name, octets in self.logs.items():
            (folder / name).write_bytes(octets)
        return folder

    def note(
        self, time: float, router: str, session: str | None, name: EventName, **details: object
    ) -> None:
        self.events.append(OperatorEvent(time, router, session, name, details))  # type: ignore[arg-type]

    def drop(self, name: EventName, router: str, session: str) -> None:
        self.events = [
            e for e in self.events if (e.event, e.router, e.session) != (name, router, session)
        ]

    def change(self, name: EventName, **details: str | int | float | bool) -> None:
        """Details of every event of that name that has them."""
        for event in self.events:
            if event.event is name and details.keys() <= event.details.keys():
                event.details.update(details)


def good() -> Demo:
    """Two sessions, a rekey of each, seven impostors; everything as it should be."""
    demo = Demo(logs={'r1.log': b'loaded new configuration successfully\n'})
    exchanges = (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH)
    for number, exchange in enumerate((*exchanges, *[ExchangeType.CREATE_CHILD_SA] * len(PORTS))):
        at = IKE + number / 10
        demo.wire.append((at, ike(exchange, number, response=False)))
        demo.wire.append((at + 0.01, ike(exchange, number, response=True, source=R2)))
    demo.note(IKE, 'r1', None, EventName.IKE_INIT, sent=True, response=False, detail='')
    for number, session in enumerate(PORTS):
        session_of(demo, session, first_id=10 * number + 1)
    strangers(demo)
    for router in ('r1', 'r2'):
        closed = {'reason': f'{WIRE} is closed', 'captured_from': START, 'packets': 1}
        demo.note(CLOSED, router, None, EventName.END, **closed)
        demo.note(END, router, None, EventName.END, reason='the demo ends')
    return demo


def session_of(demo: Demo, session: str, first_id: int) -> None:
    """One session's packets, keys and events."""
    algorithm = ALGORITHMS[session]
    length = 20 if algorithm == 'hmac-sha-1-96' else 16
    first, second = (
        Key(number, number + 100, bytes((number,)) * length, algorithm)
        for number in (first_id, first_id + 1)
    )
    talk = Talk(client_port=PORTS[session], key=first).open().say(True).say(False)
    early = list(talk.packets)
    talk.key = second
    talk.say(True).say(False)
    syn = SYN + first_id / 1000
    demo.wire += [(syn + n / 100, packet) for n, packet in enumerate(early)]
    demo.wire += [(REKEY + 1 + n, packet) for n, packet in enumerate(talk.packets[len(early) :])]
    for key in (first, second):
        row = key.known(session=session, local=f'{R1}:{PORTS[session]}', remote=f'{R2}:179')
        demo.keys.append(row | {'send_id': key.send_id, 'recv_id': key.recv_id})
    ids = {'key_id': first.send_id, 'rnext_key_id': first.recv_id}
    demo.note(syn, 'r1', session, EventName.SYN, captured=True, pair='', mac='', **ids)
    for router in ('r1', 'r2'):
        for time, name in (
            (syn - 0.5, EventName.CHILD_SA),
            (syn + 0.1, EventName.ESTABLISHED),
            (REKEY, EventName.REKEY_STARTED),
            (REKEY + 0.5, EventName.RNEXT_MOVED),
            (REMOVED, EventName.MKT_REMOVED),
        ):
            demo.note(time, router, session, name)
        for time in (syn - 0.4, REKEY + 0.1):
            demo.note(time, router, session, EventName.MKT_INSTALLED, backend='userspace')
    for last in (CLOSED, END):
        details = {'prefix': PREFIXES[session], 'samples': 130, 'present': 130, 'resets': 0}
        times = {'first': ROUTED, 'last': last, 'longest_gap': 0.2, 'uptime': last - syn}
        demo.note(last, 'r2', session, EventName.ROUTE, **details, **times)


def strangers(demo: Demo) -> None:
    """The impostors' packets and outcomes."""
    client = Talk(client_port=50000, key=None)
    client.client = ip_address(IMPOSTOR)
    client.open().say(True, b'OPEN')
    client.segment(False, Flag.RST | Flag.ACK)
    demo.refused += [(5 + n / 100, packet) for n, packet in enumerate(client.packets)]
    for number, port in enumerate(IMPOSTOR_PORTS):
        syn = Talk(client_port=port, key=None)
        syn.segment(True, Flag.SYN)
        demo.refused.append((CLOSED + 0.5 + number / 100, syn.packets[0]))
    begin = ike(ExchangeType.IKE_SA_INIT, 0, response=False, spi=b'\x03')
    demo.refused.append((CLOSED + 0.6, begin))
    for number in range(ATTACKS):
        outcome = {'impostor': f'number {number}', 'outcome': 'nothing', 'refused': True}
        demo.note(CLOSED + 1, 'r2', None, EventName.REFUSED, **outcome)


def from_r2(port: int, flags: Flag, payload: bytes = b'') -> bytes:
    """An unsigned segment from r2's BGP port."""
    talk = Talk(client_port=port, key=None)
    assert (talk.client, talk.server) == ENDS[4] == (HERE, THERE)
    return talk.segment(False, flags, payload)

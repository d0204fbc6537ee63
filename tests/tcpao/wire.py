"""Builds signed TCP segments and captures of them, for the tests of the verification."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dpkt

from keymaterial import Secret
from tcpao.kdf import context, derive_traffic_key
from tcpao.mkt import ALGORITHMS, IPAddress
from tcpao.verification.capture import LinkType
from tcpao.verification.mac import full_mac, mac_input
from tcpao.verification.segment import Flag, parse_ip

SPACE = 1 << 32
ENDS: dict[int, tuple[IPAddress, IPAddress]] = {
    4: (ip_address('10.0.0.1'), ip_address('10.0.0.2')),
    6: (ip_address('fd00::1'), ip_address('fd00::2')),
}
SYN_OPTIONS = b'\x02\x04\x05\xb4\x04\x02\x01\x01'
TIMESTAMP = b'\x01\x01\x08\x0a' + bytes(8)


@dataclass
class Key:
    """An MKT as the client has it."""

    send_id: int
    recv_id: int
    secret: bytes = b'master key'
    algorithm: str = 'hmac-sha-1-96'
    tcp_options: bool = True

    def known(self, **more: Any) -> dict[str, Any]:
        """Return an object of keys.json, with nothing but what must be there and `more`."""
        return {'algorithm': self.algorithm, 'master_key': self.secret.hex(), **more}


@dataclass(frozen=True)
class Mistake:
    """Mistakes that another implementation may make in a MAC."""

    other_direction: bool = False
    sne: int | None = None
    syn_key: bool = False
    mac_length: int | None = None


@dataclass
class Talk:
    """One connection; every call appends a packet and moves its own idea of the state."""

    version: int = 4
    client_port: int = 40001
    server_port: int = 179
    client_isn: int = 1000
    server_isn: int = 2000
    key: Key | None = field(default_factory=lambda: Key(1, 2))
    packets: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client, self.server = ENDS[self.version]
        self.sent = {True: self.client_isn, False: self.server_isn}

    def open(self) -> Talk:
        self.segment(True, Flag.SYN, options=SYN_OPTIONS)
        self.segment(False, Flag.SYN | Flag.ACK, options=SYN_OPTIONS)
        self.segment(True, Flag.ACK)
        return self

    def say(self, from_client: bool, payload: bytes = b'route') -> Talk:
        self.segment(from_client, Flag.ACK | Flag.PSH, payload)
        return self

    def segment(
        self,
        from_client: bool,
        flags: Flag,
        payload: bytes = b'',
        *,
        key: Key | None = None,
        options: bytes = TIMESTAMP,
        sequence: int | None = None,
        unsigned: bool = False,
        mistake: Mistake | None = None,
    ) -> bytes:
        """`sequence` is a 64-bit number; None for what is next, and then the state moves on."""
        number = self.sent[from_client] if sequence is None else sequence
        length = len(payload) + bool(flags & Flag.SYN) + bool(flags & Flag.FIN)
        if sequence is None:
            self.sent[from_client] += length
        ports = (self.client_port, self.server_port)
        addresses = (self.client, self.server)
        if not from_client:
            ports, addresses = ports[::-1], addresses[::-1]
        signing = None if unsigned else key or self.key
        if signing is not None:
            mac_length = ALGORITHMS[signing.algorithm].mac_length
            if mistake is not None and mistake.mac_length is not None:
                mac_length = mistake.mac_length
            ids = (signing.send_id, signing.recv_id)
            ids = ids if from_client else ids[::-1]
            options += struct.pack('!4B', 29, 4 + mac_length, *ids) + bytes(mac_length)
        options += bytes(-len(options) % 4)
        acknowledgment = self.sent[not from_client] % SPACE if flags & Flag.ACK else 0
        header = struct.pack(
            '!HHIIBBHHH',
            *ports,
            number % SPACE,
            acknowledgment,
            (5 + len(options) // 4) << 4,
            flags,
            512,
            0xBEEF,
            0,
        )
        tcp = bytearray(header + options + payload)
        if signing is not None:
            self._sign(tcp, signing, addresses, ports, from_client, number, mistake or Mistake())
        packet = ip_packet(*addresses, bytes(tcp))
        self.packets.append(packet)
        return packet

    def _sign(
        self,
        tcp: bytearray,
        key: Key,
        addresses: tuple[IPAddress, IPAddress],
        ports: tuple[int, int],
        from_client: bool,
        number: int,
        mistake: Mistake,
    ) -> None:
        segment = parse_ip(ip_packet(*addresses, bytes(tcp)))
        assert segment is not None
        option = segment.ao_option()
        assert option is not None
        isns = (self.client_isn, self.server_isn)
        source, destination = isns if from_client else isns[::-1]
        if segment.is_opening or mistake.syn_key:
            destination = 0
        algorithm = ALGORITHMS[key.algorithm]
        here = (addresses[0], ports[0], source)
        there = (addresses[1], ports[1], destination)
        if mistake.other_direction:
            here, there = there, here
        traffic_key = derive_traffic_key(
            algorithm,
            Secret(key.secret),
            context(here[0], there[0], here[1], there[1], here[2], there[2]),
        )
        sne = number // SPACE if mistake.sne is None else mistake.sne
        message = mac_input(segment, option, sne, tcp_options=key.tcp_options)
        mac = full_mac(algorithm, traffic_key, message)
        tcp[option.mac_offset : option.end] = mac[: len(option.mac)]


def ip_packet(source: IPAddress, destination: IPAddress, tcp: bytes) -> bytes:
    if source.version == 4:
        header = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0)
    else:
        header = struct.pack('!IHBB', 6 << 28, len(tcp), 6, 64)
    return header + source.packed + destination.packed + tcp


def write_pcap(path: Path, packets: list[bytes], link: LinkType = LinkType.RAW) -> Path:
    """Packets a second apart from 1000 on."""
    with path.open('wb') as file:
        writer = dpkt.pcap.Writer(file, linktype=link)
        for number, packet in enumerate(packets):
            writer.writepkt(packet, ts=1000.0 + number)
    return path

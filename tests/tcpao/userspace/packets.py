"""Packets as a TCP makes them, and two TCPs in memory that only count: no I/O, no timers.

Not a TCP: it sends what it is told to, with the sequence numbers that are due, and remembers what
has come.
"""

from __future__ import annotations

import struct
from collections.abc import Set
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network

from keymaterial import Secret
from tcpao.key_socket import Key
from tcpao.mkt import ALGORITHMS, IPAddress, SocketPair
from tcpao.userspace.connections.keyring import StoredKey
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.connections.sockets_table import SocketName
from tcpao.userspace.wire.packet import full_checksum
from tcpao.verification.segment import Segment, parse_ip

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
SPACE = 1 << 32

MSS_1460 = b'\x02\x04\x05\xb4'
SACK_PERMITTED = b'\x04\x02'
TIMESTAMPS = b'\x08\x0a' + struct.pack('!II', 1234567, 7654321)
WINDOW_SCALE = b'\x01\x03\x03\x07'
SYN_OPTIONS = MSS_1460 + SACK_PERMITTED + TIMESTAMPS + WINDOW_SCALE
"""What a SYN of Linux carries: 20 octets."""
DATA_OPTIONS = b'\x01\x01' + TIMESTAMPS


def packet(
    pair: SocketPair,
    sequence: int,
    acknowledgment: int = 0,
    flags: int = ACK,
    options: bytes = b'',
    payload: bytes = b'',
    *,
    partial: bool = False,
    window: int = 502,
) -> bytes:
    """An IP packet from pair.local to pair.remote. `partial`: as Linux hands it to a network card,
    with only the pseudo-header's sum in the checksum field."""
    assert len(options) % 4 == 0
    offset = (20 + len(options)) // 4 << 4
    segment = (
        struct.pack(
            '!HHIIBBHHH',
            pair.local_port,
            pair.remote_port,
            sequence % SPACE,
            acknowledgment % SPACE,
            offset,
            flags,
            window,
            0,
            0,
        )
        + options
        + payload
    )
    if pair.local.version == 4:
        head = struct.pack(
            '!BBHHHBBH4s4s',
            0x45,
            0xC0,
            20 + len(segment),
            4711,
            0x4000,
            64,
            6,
            0,
            pair.local.packed,
            pair.remote.packed,
        )
        head = head[:10] + struct.pack('!H', checksum(head)) + head[12:]
    else:
        head = struct.pack(
            '!IHBB16s16s',
            0x6C00_0001,
            len(segment),
            6,
            64,
            pair.local.packed,
            pair.remote.packed,
        )
    octets = head + segment
    at = len(head) + 16
    if partial:
        pseudo = pair.local.packed + pair.remote.packed + struct.pack('!HH', 6, len(segment))
        value = checksum(pseudo) ^ 0xFFFF
    else:
        value = full_checksum(octets, len(head))
    return octets[:at] + struct.pack('!H', value) + octets[at + 2 :]


def checksum(octets: bytes) -> int:
    """RFC 1071, the slow way round: one word after the other."""
    octets += b'\0' * (len(octets) % 2)
    total: int = sum(struct.unpack(f'!{len(octets) // 2}H', octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def has_good_checksums(octets: bytes) -> bool:
    """True if every checksum and length of a packet is right."""
    version = octets[0] >> 4
    if version == 4:
        start = (octets[0] & 15) * 4
        if checksum(octets[:start]) or int.from_bytes(octets[2:4], 'big') != len(octets):
            return False
        addresses = octets[12:20]
    else:
        start, addresses = 40, octets[8:40]
        if int.from_bytes(octets[4:6], 'big') + 40 != len(octets):
            return False
    segment = octets[start:]
    return not checksum(addresses + struct.pack('!HH', 6, len(segment)) + segment)


def segment_of(octets: bytes) -> Segment:
    """Taken apart by the code that reads captures, not by the code under test."""
    segment = parse_ip(octets)
    assert segment is not None
    return segment


ADDRESSES: dict[int, tuple[IPAddress, IPAddress]] = {
    4: (ip_address('10.0.0.1'), ip_address('10.0.0.2')),
    6: (ip_address('fd00::1'), ip_address('fd00::2')),
}


def a_pair(version: int = 4, port: int = 40001) -> SocketPair:
    """The client's view."""
    client, server = ADDRESSES[version]
    return SocketPair(client, port, server, 179)


def stored(
    pair: SocketPair,
    ids: tuple[int, int] = (1, 2),
    *,
    secret: bytes = b'a secret',
    algorithm: str = 'hmac-sha-1-96',
    tcp_options: bool = True,
    any_port: bool = False,
) -> StoredKey:
    """A key as the end sees it that `pair` is the view of; `ids` are its SendID and RecvID."""
    return StoredKey(
        peer=ip_network(pair.remote),
        pair=None if any_port else pair,
        send_id=ids[0],
        recv_id=ids[1],
        algorithm=ALGORITHMS[algorithm],
        tcp_options=tcp_options,
        master_key=Secret(secret),
    )


def key_of(one: StoredKey) -> Key:
    """The same as the installer gives it."""
    return Key(
        one.peer,
        one.send_id,
        one.recv_id,
        one.algorithm,
        one.tcp_options,
        one.master_key,
        one.pair,
    )


def connection_name(pair: SocketPair, cookie: int) -> SocketName:
    """A socket that is or will be this connection."""
    return SocketName(
        cookie,
        pair.local,
        pair.local_port,
        frozenset({pair.local.version}),
        pair.remote,
        pair.remote_port,
    )


def listener_name(address: IPAddress, cookie: int, port: int = 179) -> SocketName:
    """A listening socket."""
    versions = frozenset({4, 6}) if address == IPv6Address('::') else frozenset({address.version})
    return SocketName(cookie, address, port, versions)


@dataclass
class End:
    """One TCP with its core."""

    core: PacketPath
    pair: SocketPair
    isn: int
    sent: int = 0
    """Octets of sequence space after the ISN that have been sent."""
    peer_isn: int | None = None
    got: int = 0
    seen: list[Segment] = field(default_factory=list)
    """What reached our TCP."""

    def make(
        self, flags: int = ACK, options: bytes = DATA_OPTIONS, payload: bytes = b'', back: int = 0
    ) -> bytes | None:
        """Send a segment, `back` octets before what is due; what the core makes of it."""
        sequence = self.isn + self.sent - back
        acknowledgment = (self.peer_isn or 0) + self.got if flags & ACK else 0
        made = packet(self.pair, sequence, acknowledgment, flags, options, payload)
        if not back:
            self.sent += len(payload) + bool(flags & SYN) + bool(flags & FIN)
        return self.core.outgoing(made)

    def take(self, octets: bytes | None) -> Segment | None:
        """A packet arrives; the segment that TCP sees, None if it sees none."""
        assert octets is not None, 'nothing was sent'
        passed = self.core.incoming(octets)
        if passed is None:
            return None
        segment = segment_of(passed)
        if self.peer_isn is None:
            self.peer_isn = segment.sequence
        self.got = max(self.got, (segment.sequence - self.peer_isn) % SPACE + segment.length)
        self.seen.append(segment)
        return segment


class TrustingOwners:
    """A kernel in which each socket pair is the expected socket's."""

    def has_pair(self, cookie: int, pair: SocketPair, interface: int) -> bool:
        return True

    def is_free_of_others(self, cookie: int, pair: SocketPair, interface: int) -> bool:
        return True

    def receives_syn(self, cookies: Set[int], pair: SocketPair, interface: int) -> bool:
        return True


TRUSTING = TrustingOwners()


def no_mtu(local: IPAddress, remote: IPAddress) -> int | None:
    """Return None, as if there were no route."""
    return None


def ends(
    version: int = 4,
    *,
    isns: tuple[int, int] = (1000, 5000),
    algorithm: str = 'hmac-sha-1-96',
    tcp_options: bool = True,
    cores: tuple[PacketPath, PacketPath] | None = None,
) -> tuple[End, End]:
    """A client and a server that have one key, before the SYN."""
    pair = a_pair(version)
    client_core, server_core = cores or (PacketPath(no_mtu, TRUSTING), PacketPath(no_mtu, TRUSTING))
    client, server = End(client_core, pair, isns[0]), End(server_core, pair.reversed(), isns[1])
    client_core.add(
        connection_name(pair, 1),
        stored(pair, algorithm=algorithm, tcp_options=tcp_options, secret=b'k' * 32),
        select=True,
        fresh=True,
    )
    server_core.add(
        listener_name(pair.remote, 2),
        stored(
            pair.reversed(), (2, 1), algorithm=algorithm, tcp_options=tcp_options, secret=b'k' * 32
        ),
        select=False,
        fresh=False,
    )
    return client, server


def shake_hands(client: End, server: End) -> None:
    """SYN, SYN-ACK, ACK."""
    assert server.take(client.make(SYN, SYN_OPTIONS))
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert server.take(client.make(ACK))


def connected(
    version: int = 4,
    *,
    isns: tuple[int, int] = (1000, 5000),
    algorithm: str = 'hmac-sha-1-96',
    tcp_options: bool = True,
) -> tuple[End, End]:
    """Two ends after their handshake; the server's socket is accepted (cookie 3)."""
    client, server = ends(version, isns=isns, algorithm=algorithm, tcp_options=tcp_options)
    shake_hands(client, server)
    assert server.core.read(connection_name(server.pair, 3)) is not None
    return client, server


def talk(one: End, other: End, octets: bytes = b'route') -> None:
    """Octets and their acknowledgment."""
    segment = other.take(one.make(PSH | ACK, payload=octets))
    assert segment is not None
    assert segment.payload == octets
    assert one.take(other.make(ACK)) is not None

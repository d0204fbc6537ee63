"""A recorded connection, played back after its end, with SYN cookies on.

With cookies the kernel takes both initial sequence numbers from a bare ACK, so a recorded ACK and
the data after it are taken for a new connection wherever their key is still on the listener.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import dpkt
import pytest

from gatekeeper.reporting.events import EventName
from keymaterial import Secret
from lab.demo.capture import Capture
from lab.impostors import inside
from tcpao.kernel.installer import LinuxSocket
from tcpao.key_socket import Key
from tcpao.mkt import ALGORITHMS
from tcpao.verification.capture import read_packets
from tcpao.verification.segment import Flag, Segment, parse_ip
from tests.e2e import pair
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2
from tests.e2e.router import PATIENCE, Router, within

pytestmark = pytest.mark.kernel

ALWAYS = 2
"""net.ipv4.tcp_syncookies: a cookie for every SYN."""
CONTROL_PORT = 1790
ETHERNET_HEADER = 14
SAID = b'something that was said once'
WAITING = 'waiting for the peer to ask for a key'


@pytest.fixture(scope='module')
def cookies(routers: Routers) -> Iterator[Routers]:
    """r2 answers every SYN with a cookie."""
    routers.r2.set('ipv4/tcp_syncookies', ALWAYS)
    yield routers
    routers.r2.set('ipv4/tcp_syncookies', 1)


@contextmanager
def recording(routers: Routers, folder: Path) -> Iterator[list[tuple[bytes, Segment]]]:
    """What r1 sends in TCP meanwhile: frames, and the segments in them."""
    capture = Capture(routers.r1.node, 'eth1', folder / 'recorded.pcap')
    recorded: list[tuple[bytes, Segment]] = []
    yield recorded
    capture.close()
    with capture.path.open('rb') as file:
        for _, frame in dpkt.pcap.Reader(file):
            ethertype = int.from_bytes(frame[12:ETHERNET_HEADER], 'big')
            if ethertype != dpkt.ethernet.ETH_TYPE_IP:
                continue
            segment = parse_ip(frame[ETHERNET_HEADER:])
            if segment is not None and str(segment.source) == R1:
                recorded.append((frame, segment))


def play(routers: Routers, frames: list[bytes]) -> None:
    """Put frames on the link, as r1 did."""
    with (
        inside(routers.r1.node.namespace),
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link,
    ):
        link.bind(('eth1', 0))
        for frame in frames:
            link.send(with_checksum(frame))


def with_checksum(frame: bytes) -> bytes:
    """A link between namespaces leaves TCP's checksum, which no MAC covers, to be computed; what
    comes from a packet socket must have it."""
    ethernet = dpkt.ethernet.Ethernet(frame)
    ethernet.data.sum = ethernet.data.data.sum = 0
    return bytes(ethernet)


def of_port(recorded: list[tuple[bytes, Segment]], port: int, target: int = 179) -> list[bytes]:
    """Frames of one connection, from the handshake's last ACK to before its end."""
    return [
        frame
        for frame, segment in recorded
        if (segment.source_port, segment.destination_port) == (port, target)
        and not segment.flags & (Flag.SYN | Flag.RST | Flag.FIN)
    ]


def cookies_taken(router: Router) -> int:
    return router.counter('SyncookiesRecv')


# --- the attack itself --------------------------------------------------------------------------


def under_key(sock: socket.socket, peer: str, *, select_it: bool) -> None:
    key = Key(
        peer=ip_network(peer),
        send_id=1,
        recv_id=1,
        algorithm=ALGORITHMS['hmac-sha-1-96'],
        tcp_options=True,
        master_key=Secret(bytes(range(20))),
    )
    LinuxSocket(sock).add(key, select=select_it)


def of_r2(key: dict[str, Any]) -> Key:
    """A row of a key table, whose ids are r1's, as r2 has it."""
    return Key(
        peer=ip_network(R1),
        send_id=key['recv_id'],
        recv_id=key['send_id'],
        algorithm=ALGORITHMS[key['algorithm']],
        tcp_options=key['tcp_options'],
        master_key=Secret(bytes.fromhex(key['master_key'])),
    )


def abort(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()


def accepted(listener: socket.socket) -> socket.socket | None:
    ready = select.select([listener], [], [], PATIENCE)[0]
    return listener.accept()[0] if ready else None


def test_a_key_that_stays_on_a_listener_lets_a_recorded_connection_in_again(
    cookies: Routers, tmp_path: Path
) -> None:
    """Without this, the test after it would show nothing."""
    with ExitStack() as stack:
        with inside(cookies.r2.node.namespace):
            listener = stack.enter_context(socket.socket())
            under_key(listener, R1, select_it=False)
            listener.bind((R2, CONTROL_PORT))
            listener.listen()
        with recording(cookies, tmp_path) as recorded:
            with inside(cookies.r1.node.namespace):
                client = stack.enter_context(socket.socket())
                under_key(client, R2, select_it=True)
                client.settimeout(PATIENCE)
                client.connect((R2, CONTROL_PORT))
            client.sendall(SAID)
            first = accepted(listener)
            assert first is not None
            assert first.recv(len(SAID), socket.MSG_WAITALL) == SAID
            port = client.getsockname()[1]
            abort(client)
            abort(first)
        play(cookies, of_port(recorded, port, CONTROL_PORT))
        again = accepted(listener)
        assert again is not None
        with again:
            again.settimeout(PATIENCE)
            assert again.recv(len(SAID), socket.MSG_WAITALL) == SAID


# --- the router ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recorded:
    """What r1 sent in both sessions, which are over; r2 still runs."""

    syns: list[bytes]
    after: list[bytes]
    """From the handshake's last ACK on."""
    said: dict[int, bytes]
    """The first octets of each session, by its port: the OPEN."""
    keys: list[dict[str, Any]]


@pytest.fixture(scope='module')
def sessions(cookies: Routers, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """r1 and r2 have both sessions, until r1 is killed."""
    r1, r2 = cookies.r1, cookies.r2
    pair.configure(cookies)
    with recording(cookies, tmp_path_factory.mktemp('sessions')) as recorded:
        pair.start(r2)
        pair.start(r1)
        pair.await_up(cookies)
        r1.kill()
        within(PATIENCE, lambda: not r2.connections(), lambda: r2.told('connections closed'))
    for session in pair.PORTS:
        # Its gatekeeper knows.
        r2.await_event(EventName.MKT_REMOVED, session)
    assert cookies_taken(r2) >= len(pair.PORTS), 'the sessions came up without cookies'
    said: dict[int, bytes] = {}
    for _, segment in recorded:
        if segment.payload:
            said.setdefault(segment.source_port, segment.payload)
    assert said.keys() == {*pair.PORTS.values()}
    return Recorded(
        syns=[frame for frame, segment in recorded if segment.is_opening],
        after=[frame for port in pair.PORTS.values() for frame in of_port(recorded, port)],
        said=said,
        keys=r2.key_list(),
    )


@pytest.mark.parametrize('with_syn', [False, True], ids=['from the ACK on', 'from the SYN on'])
def test_recorded_sessions_are_not_let_in_again(
    cookies: Routers, sessions: Recorded, tmp_path: Path, with_syn: bool
) -> None:
    r2 = cookies.r2
    frames = [*(sessions.syns if with_syn else []), *sessions.after]
    refused, taken = r2.counter('TCPAOKeyNotFound'), cookies_taken(r2)
    proven = len(r2.named(EventName.ESTABLISHED))
    wire = Capture(r2.node, 'eth1', tmp_path / 'replayed.pcap')
    play(cookies, frames)
    # No key of the listener's, which are deny keys, has an id that was on the wire.
    within(
        PATIENCE,
        lambda: r2.counter('TCPAOKeyNotFound') >= refused + len(frames),
        lambda: r2.told(f'{len(frames)} frames refused'),
    )
    wire.close()
    assert cookies_taken(r2) == taken
    assert not r2.connections()
    answers = [segment for segment in segments(wire.path) if str(segment.source) != R1]
    assert not answers
    # What a socket of r2's had accepted, it would have handed on before it answers this.
    assert {row['state'] for row in r2.show()} <= {'down', WAITING}
    assert len(r2.named(EventName.ESTABLISHED)) == proven


def segments(path: Path) -> Iterator[Segment]:
    for packet in read_packets(path):
        segment = parse_ip(packet.octets)
        if segment is not None:
            yield segment


def test_they_would_be_if_their_keys_were_still_there(cookies: Routers, sessions: Recorded) -> None:
    """The same frames, once r2 has gone and somebody careless listens in its place."""
    cookies.r2.kill()
    with ExitStack() as stack:
        with inside(cookies.r2.node.namespace):
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for key in sessions.keys:
                LinuxSocket(listener).add(of_r2(key), select=False)
            listener.bind((R2, 179))
            listener.listen()
        # A listener takes cookies once it has given out some: the SYNs see to that.
        play(cookies, [*sessions.syns, *sessions.after])
        heard = {}
        for _ in sessions.said:
            again = accepted(listener)
            assert again is not None
            # Closed, it would hold r1's port in FIN-WAIT-1 for two minutes: r1 knows nothing of it.
            stack.callback(abort, again)
            again.settimeout(PATIENCE)
            port = again.getpeername()[1]
            heard[port] = again.recv(len(sessions.said[port]), socket.MSG_WAITALL)
    assert heard == sessions.said

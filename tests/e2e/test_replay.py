"""A recorded connection, played back after its end, with SYN cookies on.

With cookies the kernel takes both initial sequence numbers from a bare ACK, so a recorded ACK and
the data after it are taken for a new connection wherever their key is still on the listener.
A router refuses every connection that was made so.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path

import dpkt
import pytest

from gatekeeper.reporting.events import EventName
from keymaterial import Secret
from lab.demo.capture import Capture
from lab.impostors import inside
from tcpao.kernel.installer import LinuxSocket
from tcpao.key_socket import Key
from tcpao.mkt import ALGORITHMS
from tcpao.verification.segment import Flag, Segment, parse_ip
from tests.e2e import keychains, pair
from tests.e2e.configurations import FAMILIES, ROUTES, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2
from tests.e2e.router import PATIENCE, Router

pytestmark = pytest.mark.kernel

ALWAYS = 2
"""net.ipv4.tcp_syncookies: a cookie for every SYN."""
CONTROL_PORT = 1790
ETHERNET_HEADER = 14
SAID = b'something that was said once'


@pytest.fixture(scope='module')
def cookies(routers: Routers) -> Iterator[Routers]:
    """r2 answers every SYN with a cookie."""
    routers.r2.set('ipv4/tcp_syncookies', ALWAYS)
    yield routers
    routers.r2.set('ipv4/tcp_syncookies', 1)


@contextmanager
def recording(routers: Routers, folder: Path) -> Iterator[list[tuple[bytes, Segment]]]:
    """Record what r1 sends in TCP meanwhile: frames, and the segments in them."""
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


def abort(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()


def accepted(listener: socket.socket) -> socket.socket | None:
    ready = select.select([listener], [], [], PATIENCE)[0]
    return listener.accept()[0] if ready else None


def test_recorded_connection_comes_in_when_its_key_stays(cookies: Routers, tmp_path: Path) -> None:
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


def with_keychains(routers: Routers) -> None:
    for router, local, remote in ((routers.r1, R1, R2), (routers.r2, R2, R1)):
        keychains.write_key(router, 1)
        passive = router is routers.r2
        router.configure(
            f'keychain core {{\n{keychains.key(router, 1)}}}\n'
            + neighbor(
                router.name,
                'r1' if passive else 'r2',
                local=local,
                remote=remote,
                protection='    ikev2 { keychain core; }\n',
                passive=passive,
                families=FAMILIES[:1],
                routes=ROUTES[router.name][:1],
            )
        )


@pytest.mark.parametrize('configure', [pair.configure, with_keychains], ids=['ike', 'keychain'])
def test_router_takes_no_session_when_it_came_by_a_cookie(
    cookies: Routers, tmp_path: Path, configure: Callable[[Routers], None]
) -> None:
    """Neither the peer's own nor a recorded one, for they look the same; both are told."""
    r1, r2 = cookies.r1, cookies.r2
    cookies.stop()
    r2.set('ipv4/tcp_syncookies', ALWAYS)
    configure(cookies)
    with recording(cookies, tmp_path) as recorded:
        pair.start(r2)
        r2.await_log('tcp_syncookies is 2')
        # ExaBGP listens before it has read its configuration.
        r2.await_log('loaded new configuration')
        pair.start(r1)
        r2.await_event(EventName.REFUSED, step='accept')
        r1.kill()
    frames = [frame for frame, segment in recorded if is_after_the_handshake(segment)]
    assert frames
    play(cookies, frames)
    # What a socket of r2's had accepted, it would have handed on before it answers this.
    assert {row['state'] for row in r2.show()} != {'in use'}
    assert not r2.named(EventName.ESTABLISHED)
    assert cookies_taken(r2)
    r2.set('ipv4/tcp_syncookies', 1)
    pair.start(r1)
    r2.await_event(EventName.ESTABLISHED)


def is_after_the_handshake(segment: Segment) -> bool:
    return segment.destination_port == 179 and not segment.flags & (Flag.SYN | Flag.RST | Flag.FIN)

"""The UDP adapter, over the loopback: markers, addresses, and what the kernel refuses."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

import ikev2.udp
from ikev2.constants import ExchangeType
from ikev2.events import Datagram
from ikev2.udp import UdpError, UdpSockets
from ikev2.wire.message import Header
from tests.tcpao.benches import namespace

HOME = ip_address('127.0.0.1')
OTHER = ip_address('127.0.0.2')
HOME6 = ip_address('::1')


def free_ports() -> tuple[int, int]:
    """Two ports that no socket uses."""
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two,
    ):
        one.bind(('::', 0))
        two.bind(('::', 0))
        return one.getsockname()[1], two.getsockname()[1]


@pytest.fixture
def sockets() -> Iterator[UdpSockets]:
    opened = UdpSockets(free_ports())
    yield opened
    opened.close()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(('127.0.0.1', 0))
        one.settimeout(30)
        yield one


def receive(sockets: UdpSockets) -> list[Datagram]:
    """Return the first datagrams that come, within half a minute."""
    poll = select.poll()
    for descriptor in sockets.filenos():
        poll.register(descriptor, select.POLLIN)
    while poll.poll(30_000):
        if came := sockets.receive():
            return came
    return []


def test_answer_leaves_from_asked_address(sockets: UdpSockets, peer: socket.socket) -> None:
    port = sockets.ports[0]
    peer.sendto(b'hello there', ('127.0.0.2', port))
    (datagram,) = receive(sockets)
    assert datagram == Datagram(b'hello there', OTHER, port, HOME, peer.getsockname()[1])
    sockets.send(Datagram(b'x', datagram.local, port, datagram.remote, datagram.remote_port))
    _, source = peer.recvfrom(100)
    assert source == ('127.0.0.2', port)


def test_receive_puts_handshakes_last_when_a_rekey_waits(
    sockets: UdpSockets, peer: socket.socket
) -> None:
    """A flood of key exchanges is answered after what established IKE SAs wait for."""

    def message(kind: int, flags: int) -> bytes:
        return Header(b'i' * 8, b'r' * 8, kind, 0, True, bool(flags)).encode(0, 28)

    sent = [
        message(ExchangeType.IKE_SA_INIT, 0),
        message(ExchangeType.IKE_AUTH, 0),
        message(ExchangeType.IKE_AUTH, 1),
        message(ExchangeType.CREATE_CHILD_SA, 0),
        b'short',
    ]
    for data in sent:
        peer.sendto(data, ('127.0.0.1', sockets.ports[0]))
    assert [d.data for d in receive(sockets)] == [*sent[2:], *sent[:2]]


def test_answer_leaves_from_asked_address_over_ipv6(sockets: UdpSockets) -> None:
    port = sockets.ports[1]
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
        peer.bind(('::1', 0))
        peer.settimeout(30)
        peer.sendto(b'hello there', ('::1', port))
        (datagram,) = receive(sockets)
        assert (datagram.local, datagram.remote) == (HOME6, HOME6)
        assert datagram.local_port == port
        sockets.send(Datagram(b'x', HOME6, port, HOME6, peer.getsockname()[1]))
        assert peer.recvfrom(100)[1][:2] == ('::1', port)


def test_receive_accepts_marker_on_any_port(sockets: UdpSockets, peer: socket.socket) -> None:
    for port in sockets.ports:
        peer.sendto(bytes(4) + b'message', ('127.0.0.1', port))
        assert [d.data for d in receive(sockets)] == [b'message']
        peer.sendto(b'message', ('127.0.0.1', port))
        assert [d.data for d in receive(sockets)] == [b'message']


def test_marker_is_sent_when_neither_port_is_500(sockets: UdpSockets, peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    for ours in sockets.ports:
        sockets.send(Datagram(b'message', HOME, ours, HOME, port))
        assert peer.recv(100) == bytes(4) + b'message'


@pytest.mark.parametrize('end', ['local', 'remote'])
def test_no_marker_is_sent_when_one_port_is_500(
    end: str, sockets: UdpSockets, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = peer.getsockname()[1]
    markerless = sockets.ports[0] if end == 'local' else port
    monkeypatch.setattr(ikev2.udp, '_MARKERLESS_PORT', markerless)
    sockets.send(Datagram(b'message', HOME, sockets.ports[0], HOME, port))
    assert peer.recv(100) == b'message'


def test_receive_ignores_nat_keepalive(sockets: UdpSockets, peer: socket.socket) -> None:
    peer.sendto(b'\xff', ('127.0.0.1', sockets.ports[1]))
    peer.sendto(b'then', ('127.0.0.1', sockets.ports[1]))
    assert [d.data for d in receive(sockets)] == [b'then']


def test_send_passes_large_messages(sockets: UdpSockets, peer: socket.socket) -> None:
    sockets.send(Datagram(bytes(9000), HOME, sockets.ports[0], HOME, peer.getsockname()[1]))
    assert len(peer.recv(65535)) == 9004


def test_receive_returns_nothing_without_datagrams(sockets: UdpSockets) -> None:
    assert sockets.receive() == []


def test_send_counts_refusals_with_reason(sockets: UdpSockets) -> None:
    nowhere = ip_address('198.51.100.1')
    sockets.send(Datagram(b'x', nowhere, sockets.ports[0], HOME, 500))
    sockets.send(Datagram(b'x', HOME, 1, HOME, 500))
    failures = sockets.take_failures()
    assert len(failures) == 2
    assert 'port 1' in failures[-1].text
    assert not sockets.take_failures()


@pytest.mark.netns
def test_send_is_told_why_when_a_rule_refuses() -> None:
    """A host's own firewall refuses so: the kernel says EPERM at once."""
    with namespace():
        sockets = UdpSockets(free_ports())
        for line in (
            'add table inet firewall',
            'add chain inet firewall out { type filter hook output priority 0; }',
            'add rule inet firewall out meta l4proto udp drop',
        ):
            subprocess.run(['nft', line], check=True)
        sockets.send(Datagram(b'x', HOME, sockets.ports[0], HOME, 500))
        (failure,) = sockets.take_failures()
        sockets.close()
    assert failure.text.endswith(os.strerror(errno.EPERM))


def test_send_is_told_why_when_a_link_local_peer_has_no_zone(sockets: UdpSockets) -> None:
    local, remote = ip_address('fe80::1'), ip_address('fe80::2')
    sockets.send(Datagram(b'x', local, sockets.ports[0], remote, 500))
    (failure,) = sockets.take_failures()
    assert failure.remote == remote
    assert failure.text.endswith(os.strerror(errno.EINVAL))


def test_open_explains_port_in_use(sockets: UdpSockets) -> None:
    with pytest.raises(UdpError, match=rf'UDP port {sockets.ports[0]}.*other IKE daemon'):
        UdpSockets(sockets.ports)


def test_buffer_is_larger_than_the_default(sockets: UdpSockets) -> None:
    default = int(Path('/proc/sys/net/core/rmem_default').read_text())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == default
    for descriptor in sockets.filenos():
        with socket.socket(fileno=os.dup(descriptor)) as one:
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > default


def test_close_leaves_no_descriptors() -> None:
    sockets = UdpSockets(free_ports())
    assert len(sockets.filenos()) == 2 * len(sockets.families)
    sockets.close()
    assert sockets.filenos() == []


def test_open_works_on_host_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnlyIpv4(socket.socket):
        def __init__(self, family: int, kind: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, 'no IPv6')
            super().__init__(family, kind)

    ports = free_ports()
    monkeypatch.setattr('ikev2.udp.socket.socket', OnlyIpv4)
    sockets = UdpSockets(ports)
    assert sockets.families == (socket.AF_INET,)
    sockets.close()
    with pytest.raises(UdpError, match='neither IPv4 nor IPv6'):
        UdpSockets(ports, families=(socket.AF_INET6,))


@pytest.mark.parametrize(
    ('number', 'advice'),
    [(errno.EACCES, 'CAP_NET_BIND_SERVICE'), (errno.EADDRNOTAVAIL, 'UDP port')],
)
def test_open_explains_unusable_port(
    number: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(number, 'refused')

    monkeypatch.setattr('ikev2.udp.socket.socket', Refused)
    with pytest.raises(UdpError, match=advice):
        UdpSockets((500, 4500))


def test_send_is_told_of_a_port_where_nobody_listens(sockets: UdpSockets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(('127.0.0.1', 0))
        port = closed.getsockname()[1]
    local, remote = ip_address('127.0.0.1'), ip_address('127.0.0.1')
    sockets.send(Datagram(b'x' * 28, local, sockets.ports[0], remote, port))
    select.select(sockets.filenos(), [], [], 5)
    assert sockets.receive() == []
    (failure,) = sockets.take_failures()
    assert failure.from_icmp
    assert failure.is_port_closed
    assert f'port unreachable (127.0.0.1 UDP port {port})' == failure.text


def test_icmp_error_does_not_cost_the_next_datagram(
    sockets: UdpSockets, peer: socket.socket
) -> None:
    local, remote = ip_address('127.0.0.1'), ip_address('127.0.0.1')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(('127.0.0.1', 0))
        port = closed.getsockname()[1]
    sockets.send(Datagram(b'x' * 28, local, sockets.ports[0], remote, port))
    select.select(sockets.filenos(), [], [], 5)
    sockets.send(Datagram(b'y' * 28, local, sockets.ports[0], remote, peer.getsockname()[1]))
    assert peer.recv(100).endswith(b'y' * 28)


# --- by one interface ---------------------------------------------------------------------------


def test_device_sockets_get_datagrams_of_their_device(sockets: UdpSockets) -> None:
    with sockets.sharing():
        bound = UdpSockets(sockets.ports, sockets.families, 'lo')
    datagram = Datagram(b'x' * 28, HOME, sockets.ports[1], OTHER, sockets.ports[1])
    sockets.send(datagram)
    assert select.select(bound.filenos(), [], [], 5)[0]
    (found,) = bound.receive()
    assert (found.data, found.local, found.remote) == (datagram.data, OTHER, HOME)
    assert not sockets.receive()
    bound.close()


def test_ports_are_nobody_elses_when_they_were_shared(sockets: UdpSockets) -> None:
    with sockets.sharing():
        bound = UdpSockets(sockets.ports, sockets.families, 'lo')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match='in use'):
            thief.bind(('127.0.0.1', sockets.ports[0]))
    bound.close()


def test_open_explains_missing_device(sockets: UdpSockets) -> None:
    with sockets.sharing(), pytest.raises(UdpError, match='No such device'):
        UdpSockets(sockets.ports, sockets.families, 'nowhere')

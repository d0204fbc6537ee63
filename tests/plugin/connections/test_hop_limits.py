"""GTSM where a protected neighbor connects to us."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from exabgp.protocol.ip import IP

from plugin.connections import hop_limits
from tests.plugin.doubles import Daemon
from tests.plugin.peers import OURS, connected, free_port
from tests.plugin.texts import SECTION, neighbor

Start = Callable[..., Daemon]
PLAIN = neighbor(section='', peer='127.0.0.3', more='    passive;\n')
MINTTL = 21


def text(words: str = 'incoming-ttl 255;', section: str = SECTION) -> str:
    return neighbor(section=section, more=f'    passive;\n    {words}\n') + PLAIN


def listening(daemon: Start, content: str) -> tuple[Daemon, int, Any]:
    """A daemon with one listening socket, by exabgp.tcp.bind."""
    port = free_port()
    one = daemon(content, tcp_bind=[IP.create(OURS)], tcp_port=port)
    assert one.begin()
    (sock,) = one.reactor.listener._sockets
    return one, port, sock


def ttl(sock: Any) -> int:
    return int(sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL))


@pytest.mark.parametrize(
    ('words', 'value'), [('incoming-ttl 255;', 255), ('outgoing-ttl 100;', 100), ('', 64)]
)
def test_listener_answers_with_the_ttl_of_its_protected_neighbor(
    words: str, value: int, daemon: Start
) -> None:
    _, _, sock = listening(daemon, text(words))
    assert ttl(sock) == value


def test_listener_has_the_hosts_ttl_when_gtsm_is_plain(daemon: Start) -> None:
    """The same happens without us, whatever that is worth."""
    protected = neighbor(peer='127.0.0.4', more='    passive;\n')
    _, _, sock = listening(daemon, text(section='') + protected)
    assert ttl(sock) == 64


def test_listener_has_the_hosts_ttl_again_when_gtsm_is_taken_out(daemon: Start) -> None:
    one, _, sock = listening(daemon, text())
    assert one.reload(text(''))
    assert ttl(sock) == 64


def test_connection_of_a_plain_neighbor_has_the_hosts_ttl(daemon: Start) -> None:
    one, port, _ = listening(daemon, text())
    with connected(port, source='127.0.0.3'):
        plain = one.peer('neighbor 127.0.0.3')
        one.until(lambda: plain.proto is not None)
        assert ttl(plain.proto.connection.io) == 64


def test_proven_connection_expects_and_sends_255(daemon: Start) -> None:
    one, port, _ = listening(daemon, text())
    peer = one.peer('neighbor 127.0.0.2')
    with connected(port) as end:
        end.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hop_limits.GTSM_HOP_LIMIT)
        one.until(lambda: one.gatekeeper.proofs)
        one.gatekeeper.proofs[0].grant(peer.neighbor.name())
        one.until(lambda: peer.proto is not None)
        sock = peer.proto.connection.io
        assert ttl(sock) == hop_limits.GTSM_HOP_LIMIT
        assert sock.getsockopt(socket.IPPROTO_IP, MINTTL) == hop_limits.GTSM_HOP_LIMIT


def test_accepted_connection_expects_255_before_its_proof(daemon: Start) -> None:
    """The opener sends its OPEN at once."""
    one, port, _ = listening(daemon, text())
    with connected(port):
        one.until(lambda: one.gatekeeper.proofs)
        (held,) = one.runtime.accepting._held
        assert held.link.sock.getsockopt(socket.IPPROTO_IP, MINTTL) == hop_limits.GTSM_HOP_LIMIT

"""A key belongs to a socket, not to addresses and ports: who else has them gets nothing signed."""

from __future__ import annotations

import pytest

from tcpao.userspace.connections.connection import Connection
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.connections.sockets_table import flow_of_pair
from tests.tcpao.userspace.owners import Sockets
from tests.tcpao.userspace.packets import (
    ACK,
    FIN,
    PSH,
    RST,
    SYN,
    SYN_OPTIONS,
    End,
    connection_name,
    ends,
    no_mtu,
    shake_hands,
    talk,
)

DAEMON, LISTENER, STRANGER = 1, 2, 66


@pytest.fixture
def kernel() -> Sockets:
    """The client's host: the daemon's socket has the pair."""
    return Sockets(DAEMON)


@pytest.fixture
def two(kernel: Sockets) -> tuple[End, End]:
    """A client on a host with other users, and a server; before the SYN."""
    server = Sockets(LISTENER)
    return ends(cores=(PacketPath(no_mtu, kernel), PacketPath(no_mtu, server)))


def up(two: tuple[End, End]) -> tuple[End, End]:
    client, server = two
    shake_hands(client, server)
    talk(client, server)
    return client, server


def release(end: End, cookie: int = DAEMON, now: float = 0.0) -> None:
    end.core.release(connection_name(end.pair, cookie), now)


def connection_of(end: End) -> Connection:
    found = end.core.sent_by[flow_of_pair(end.pair)]
    assert isinstance(found, Connection)
    return found


def another_isn(end: End) -> None:
    end.isn, end.sent, end.peer_isn, end.got = 99_000, 0, None, 0


def test_syn_is_signed_when_the_daemons_socket_has_the_pair(two: tuple[End, End]) -> None:
    client, _ = two
    assert client.make(SYN, SYN_OPTIONS) is not None


@pytest.mark.parametrize('owner', [STRANGER, None])
def test_syn_is_dropped_when_another_socket_has_the_pair(
    two: tuple[End, End], kernel: Sockets, owner: int | None
) -> None:
    """Before the daemon's connect(), on a port that both could bind."""
    client, _ = two
    kernel.owner = owner
    assert client.make(SYN, SYN_OPTIONS) is None
    assert client.core.tally.unsendable == 1


def test_daemon_connects_when_another_processes_syn_was_dropped(
    two: tuple[End, End], kernel: Sockets
) -> None:
    client, server = two
    kernel.owner = STRANGER
    client.make(SYN, SYN_OPTIONS)
    kernel.owner = DAEMON
    another_isn(client)
    shake_hands(client, server)
    talk(client, server)


def test_syn_is_dropped_when_the_session_lives(two: tuple[End, End], kernel: Sockets) -> None:
    """The daemon doesn't know yet that its socket has died."""
    client, _ = up(two)
    kernel.owner = STRANGER
    another_isn(client)
    assert client.make(SYN, SYN_OPTIONS) is None


def test_syn_is_dropped_when_the_connection_was_released(
    two: tuple[End, End], kernel: Sockets
) -> None:
    """Also that of the same socket, which a forked child may still hold."""
    client, _ = up(two)
    release(client)
    another_isn(client)
    assert client.make(SYN, SYN_OPTIONS) is None
    assert connection_of(client).released_until is not None


def test_lingering_ends_when_another_socket_takes_the_pair(
    two: tuple[End, End], kernel: Sockets
) -> None:
    """Another daemon's repeated SYN has to come to that daemon's own queue."""
    client, _ = up(two)
    release(client)
    kernel.owner = STRANGER
    another_isn(client)
    assert client.make(SYN, SYN_OPTIONS) is None
    assert client.core.selectors_changed
    assert client.core.selectors() == set()


@pytest.mark.parametrize('flags', [RST, RST | ACK, FIN | ACK, ACK])
def test_lingering_signs_when_a_segment_ends(two: tuple[End, End], flags: int) -> None:
    client, server = up(two)
    release(client)
    assert server.take(client.make(flags)) is not None


@pytest.mark.parametrize('flags', [PSH | ACK, FIN | ACK, RST | ACK])
def test_lingering_signs_nothing_when_there_are_octets(two: tuple[End, End], flags: int) -> None:
    """A child that was forked may hold the socket and write on it."""
    client, _ = up(two)
    release(client)
    assert client.make(flags, payload=b'UPDATE') is None


@pytest.mark.parametrize(('owner', 'passes'), [(DAEMON, True), (None, True), (STRANGER, False)])
def test_good_segment_reaches_no_other_socket_when_lingering(
    two: tuple[End, End], kernel: Sockets, owner: int | None, passes: bool
) -> None:
    client, server = up(two)
    release(client)
    kernel.owner = owner
    octets = server.make(PSH | ACK, payload=b'route')
    assert (client.take(octets) is not None) is passes


def test_good_syn_reaches_no_other_socket_when_it_listens(kernel: Sockets) -> None:
    """A socket has the listener's keys before it listens; another process may be faster."""
    kernel.owner = None
    client, server = ends(cores=(PacketPath(no_mtu, Sockets(DAEMON)), PacketPath(no_mtu, kernel)))
    syn = client.make(SYN, SYN_OPTIONS)
    for listening, passes in ((STRANGER, False), (None, False), (LISTENER, True)):
        kernel.listening = listening
        assert (server.take(syn) is not None) is passes
        assert bool(server.core.sent_by) is passes


def test_syn_ack_is_dropped_when_its_isn_is_another(two: tuple[End, End]) -> None:
    client, _ = up(two)
    client.isn, client.sent = 4_000_000, 0
    assert client.make(SYN | ACK, SYN_OPTIONS) is None


# --- evidence -------------------------------------------------------------------------------


def test_state_names_no_key_when_no_syn_has_passed(two: tuple[End, End]) -> None:
    client, _ = two
    seen = client.core.read(connection_name(client.pair, DAEMON))
    assert seen is not None
    assert (seen.current, seen.rnext, len(seen.keys)) == (None, None, 1)


def test_state_names_no_key_when_the_peers_syn_is_missing(two: tuple[End, End]) -> None:
    client, _ = two
    client.make(SYN, SYN_OPTIONS)
    seen = client.core.read(connection_name(client.pair, DAEMON))
    assert seen is not None
    assert (seen.current, seen.rnext) == (None, None)


def test_state_names_the_key_when_both_syns_have_passed(two: tuple[End, End]) -> None:
    client, _ = up(two)
    seen = client.core.read(connection_name(client.pair, DAEMON))
    assert seen is not None
    assert (seen.current, seen.rnext, seen.keys[0].good > 0) == (1, 2, True)


@pytest.mark.parametrize('isn', [1000, 2**32 - 3])
def test_nothing_is_bypassed_when_tcp_counts_the_same(isn: int) -> None:
    client, server = ends(isns=(isn, isn))
    shake_hands(client, server)
    talk(client, server, b'x' * 100)
    talk(server, client, b'y' * 50)
    # TCP counts the SYN as acknowledged, and a FIN as an octet.
    assert not connection_of(client).find_bypass(101, 50)
    assert not connection_of(client).find_bypass(102, 51)


@pytest.mark.parametrize('counts', [(119, 50), (100, 69)])
def test_bypass_is_found_when_tcp_counts_a_message_more(counts: tuple[int, int]) -> None:
    """19 octets: the shortest message of BGP."""
    client, server = ends()
    shake_hands(client, server)
    talk(client, server, b'x' * 100)
    talk(server, client, b'y' * 50)
    assert connection_of(client).find_bypass(*counts)
    seen = client.core.read(connection_name(client.pair, DAEMON))
    assert seen is not None
    assert seen.current is None


def test_bypass_is_found_when_the_handshake_was_not_seen(two: tuple[End, End]) -> None:
    client, _ = two
    assert not connection_of(client).find_bypass(0, 0)
    assert connection_of(client).find_bypass(20, 29)


def test_nothing_is_bypassed_when_the_last_ack_has_octets() -> None:
    """The handshake's last ACK was lost, and the first octets came in its place."""
    client, server = ends()
    assert server.take(client.make(SYN, SYN_OPTIONS))
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    client.make(ACK)
    segment = server.take(client.make(PSH | ACK, payload=b'x' * 29))
    assert segment is not None
    server.core.read(connection_name(server.pair, 3))
    assert not connection_of(server).find_bypass(0, 29)

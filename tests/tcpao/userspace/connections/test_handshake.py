"""A handshake that the peer begins: listeners, their keys, and what an attacker may replay."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from keymaterial import Secret
from tcpao.mkt import ALGORITHMS, SocketPair
from tcpao.userspace.connections.handshake import REMEMBERED
from tcpao.userspace.connections.keyring import StoredKey
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.connections.waiting import MOST_WAITING
from tcpao.userspace.wire.options import mss_of
from tests.tcpao.userspace.packets import (
    ACK,
    DATA_OPTIONS,
    PSH,
    RST,
    SYN,
    SYN_OPTIONS,
    TRUSTING,
    End,
    a_pair,
    connected,
    connection_name,
    ends,
    listener_name,
    no_mtu,
    packet,
    segment_of,
    shake_hands,
    stored,
    talk,
)

VERSIONS = pytest.mark.parametrize('version', [4, 6])
PAIR = a_pair()
BACK = PAIR.reversed()


def deny(peer: str = '10.0.0.0/24') -> StoredKey:
    """The key that a guard puts on a listener: no peer has it."""
    return StoredKey(
        ip_network(peer), None, 0, 0, ALGORITHMS['hmac-sha-1-96'], True, Secret(b'forgotten')
    )


def guarded(*keys: StoredKey, address: str = '10.0.0.2') -> PacketPath:
    core = PacketPath(no_mtu, TRUSTING)
    for key in keys:
        core.add(listener_name(ip_address(address), 9), key, select=False, fresh=False)
    return core


def syn(pair: SocketPair = PAIR, isn: int = 1000) -> bytes:
    return packet(pair, isn, 0, SYN, SYN_OPTIONS)


def children(core: PacketPath) -> list[SocketPair]:
    return [connection.pair for connection in core.connections()]


# --- which SYN passes -----------------------------------------------------------------------


def test_deny_key_refuses_every_syn_of_its_peer() -> None:
    core = guarded(deny())
    assert core.incoming(syn()) is None
    assert core.tally.unsigned == 1


def test_deny_key_leaves_other_peers_and_ports_alone() -> None:
    core = guarded(deny())
    stranger = SocketPair(ip_address('10.0.1.1'), 40001, PAIR.remote, 179)
    other_port = SocketPair(PAIR.local, 40001, PAIR.remote, 180)
    for pair in (stranger, other_port):
        assert core.incoming(syn(pair)) == syn(pair), 'octet by octet'
        answer = packet(pair.reversed(), 5, 1001, SYN | ACK, SYN_OPTIONS)
        assert core.outgoing(answer) == answer


def test_mkt_is_for_its_own_socket_pair_only() -> None:
    # RFC 5925 3.1: ports too, which Linux's TCP-AO can't.
    client, server = ends()
    other = a_pair(port=40002)
    client.core.add(
        connection_name(other, 8), stored(other, secret=b'k' * 32), select=True, fresh=True
    )
    signed = client.core.outgoing(syn(other))
    assert signed is not None
    assert signed != syn(other)
    assert server.core.incoming(signed) == signed, 'nobody has a key for that pair'
    server.core.add(listener_name(PAIR.remote, 2), deny(), select=False, fresh=False)
    assert server.core.incoming(signed) is None


def test_two_sessions_of_one_peer_have_a_key_each() -> None:
    client, server = ends()
    other = End(client.core, a_pair(port=40002), 1)
    far = End(server.core, other.pair.reversed(), 2)
    client.core.add(
        connection_name(other.pair, 8),
        stored(other.pair, (3, 4), secret=b'other'),
        select=True,
        fresh=True,
    )
    server.core.add(
        listener_name(PAIR.remote, 2),
        stored(far.pair, (4, 3), secret=b'other'),
        select=False,
        fresh=False,
    )
    shake_hands(client, server)
    shake_hands(other, far)
    talk(client, server)
    talk(other, far)
    state = server.core.read(connection_name(far.pair, 5))
    assert state is not None
    assert [(key.send_id, key.recv_id) for key in state.keys] == [(4, 3)]


def test_child_inherits_the_keys_of_its_pair_and_counts_from_0() -> None:
    client, server = ends()
    server.core.add(listener_name(PAIR.remote, 2), deny(), select=False, fresh=False)
    server.core.add(listener_name(PAIR.remote, 2), stored(BACK, (7, 7)), select=False, fresh=False)
    shake_hands(client, server)
    state = server.core.read(connection_name(server.pair, 3))
    assert state is not None
    assert {(k.send_id, k.recv_id) for k in state.keys} == {(0, 0), (7, 7), (2, 1)}
    assert all(key.good == key.bad == 0 for key in state.keys)
    assert (state.current, state.rnext) == (2, 1)


def test_most_specific_listener_takes_the_syn() -> None:
    client, server = ends()
    # Another socket of the same port on every address, without that key.
    server.core.listen(listener_name(ip_address('0.0.0.0'), 4))
    shake_hands(client, server)
    # And the other way round: the very address has no key, so it takes unsigned SYNs.
    core = guarded(deny(), address='0.0.0.0')
    core.listen(listener_name(PAIR.remote, 4))
    assert core.incoming(syn()) == syn()


def test_ipv6_wildcard_hears_ipv4_unless_it_is_ipv6_only() -> None:
    core = PacketPath(no_mtu, TRUSTING)
    core.add(listener_name(ip_address('::'), 4), deny(), select=False, fresh=False)
    assert core.incoming(syn()) is None
    narrow = PacketPath(no_mtu, TRUSTING)
    name = listener_name(ip_address('fd00::2'), 4)
    narrow.add(name, deny('fd00::/64'), select=False, fresh=False)
    assert narrow.incoming(syn()) == syn()


@pytest.mark.parametrize('what', ['secret', 'KeyID', 'options flag', 'algorithm'])
def test_syn_is_refused_and_counted_when_signed_otherwise(what: str) -> None:
    _, server = ends()
    wrong = {
        'secret': stored(PAIR, secret=b'w' * 32),
        'KeyID': stored(PAIR, (7, 2), secret=b'k' * 32),
        'options flag': stored(PAIR, secret=b'k' * 32, tcp_options=False),
        'algorithm': stored(PAIR, secret=b'k' * 32, algorithm='aes-128-cmac-96'),
    }[what]
    impostor = PacketPath(no_mtu, TRUSTING)
    impostor.add(connection_name(PAIR, 1), wrong, select=True, fresh=True)
    signed = impostor.outgoing(syn())
    assert signed is not None
    assert server.core.incoming(signed) is None
    tally = server.core.tally
    assert (tally.not_found, tally.bad) == ((1, 0) if what == 'KeyID' else (0, 1))


# --- answers --------------------------------------------------------------------------------


def test_answer_is_signed_as_the_syn_asks_for() -> None:
    # RFC 5925 7.4: the SYN's RNextKeyID names the MKT for the SYN-ACK.
    client, server = ends()
    client.core.add(
        connection_name(PAIR, 1), stored(PAIR, (5, 6), secret=b'x'), select=False, fresh=True
    )
    client.core.set_rnext(connection_name(PAIR, 1), 6)
    server.core.add(
        listener_name(PAIR.remote, 2), stored(BACK, (6, 5), secret=b'x'), select=False, fresh=False
    )
    assert server.take(client.make(SYN, SYN_OPTIONS))
    answer = server.make(SYN | ACK, SYN_OPTIONS)
    assert answer is not None
    option = segment_of(answer).ao_option()
    assert option is not None
    assert (option.key_id, option.rnext_key_id) == (6, 1)
    assert client.take(answer)
    assert server.take(client.make(ACK))
    state = server.core.read(connection_name(BACK, 3))
    assert state is not None
    assert (state.current, state.rnext) == (6, 1)


def test_answer_is_dropped_when_its_key_was_not_asked_for() -> None:
    client, server = ends()
    client.core.add(
        connection_name(PAIR, 1), stored(PAIR, (5, 6), secret=b'x'), select=False, fresh=True
    )
    client.core.set_rnext(connection_name(PAIR, 1), 6)
    assert server.take(client.make(SYN, SYN_OPTIONS))
    assert server.make(SYN | ACK, SYN_OPTIONS) is None


def test_nothing_else_answers_when_a_syn_has_no_answer() -> None:
    client, server = ends()
    assert server.take(client.make(SYN, SYN_OPTIONS))
    assert server.make(RST | ACK) is None
    assert server.make(SYN, SYN_OPTIONS) is None


def test_rst_is_signed_when_it_replaces_a_child() -> None:
    client, server = ends()
    assert server.take(client.make(SYN, SYN_OPTIONS))
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    client.make(ACK)
    assert client.take(server.make(RST))
    assert next(client.core.connections()).is_over


def test_child_sees_a_lower_mss_that_also_fits_our_link() -> None:
    asked = []

    def mtu(local: object, remote: object) -> int:
        asked.append((local, remote))
        return 1280

    client, server = ends(cores=(PacketPath(no_mtu, TRUSTING), PacketPath(mtu, TRUSTING)))
    assert server.take(client.make(SYN, SYN_OPTIONS))
    assert mss_of(server.seen[0].header[20:]) == 1280 - 40 - 20
    assert asked == [(PAIR.remote, PAIR.local)]


def test_mtu_is_not_looked_up_when_a_syn_does_not_verify() -> None:
    def mtu(local: object, remote: object) -> int:
        raise AssertionError

    _, server = ends(cores=(PacketPath(no_mtu, TRUSTING), PacketPath(mtu, TRUSTING)))
    assert server.core.incoming(syn()) is None


# --- what an attacker may try ---------------------------------------------------------------


def test_bare_ack_makes_no_connection() -> None:
    # Linux with SYN cookies takes both ISNs from it, and with them a recorded connection.
    client, _ = connected()
    recorded = [client.make(ACK), client.make(PSH | ACK, payload=b'route')]
    _, fresh = ends()
    for each in recorded:
        assert each is not None
        assert fresh.core.incoming(each) is None
    assert fresh.core.tally.not_found == 2


def test_recorded_connection_cannot_be_replayed() -> None:
    client, server = ends()
    recorded = [client.make(SYN, SYN_OPTIONS)]
    assert server.take(recorded[0])
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    recorded += [client.make(ACK), client.make(PSH | ACK, payload=b'route')]
    _, again = ends(isns=(1000, 999_999))
    assert again.take(recorded[0]), 'the SYN itself is good'
    assert again.make(SYN | ACK, SYN_OPTIONS) is not None
    for each in recorded[1:]:
        assert each is not None
        assert again.core.incoming(each) is None
    assert children(again.core) == []


def test_replayed_syn_does_not_disturb_a_handshake() -> None:
    old, server = ends(isns=(111, 5000))
    replayed = old.make(SYN, SYN_OPTIONS)
    client = End(PacketPath(no_mtu, TRUSTING), PAIR, 1000)
    client.core.add(
        connection_name(PAIR, 1), stored(PAIR, secret=b'k' * 32), select=True, fresh=True
    )
    assert server.take(client.make(SYN, SYN_OPTIONS))
    assert server.core.incoming(replayed or b'') is not None
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert server.core.incoming(replayed or b'') is not None
    assert server.take(client.make(ACK))
    assert children(server.core) == [BACK]


def test_answers_may_have_other_isns_when_cookies_are_on() -> None:
    client, server = ends()
    first = client.make(SYN, SYN_OPTIONS)
    assert server.take(first)
    answers = []
    for isn in (5000, 6000, 7000):
        server.isn, server.sent = isn, 0
        answers.append(server.make(SYN | ACK, SYN_OPTIONS))
    # The client takes the one that arrives first.
    server.isn = 6000
    assert client.take(answers[1])
    assert server.take(client.make(ACK))
    talk(client, server)


def test_syns_of_one_pair_are_remembered_up_to_a_limit() -> None:
    _, server = ends()
    for number in range(3 * REMEMBERED):
        client, _ = ends(isns=(1000 * number + 7, 0))
        assert server.core.incoming(client.make(SYN, SYN_OPTIONS) or b'')
        server.sent = 0
        server.isn, server.peer_isn, server.got = number, client.isn, 1
        assert server.make(SYN | ACK, SYN_OPTIONS)
    handshake = next(iter(server.core.sent_by.values()))
    assert len(handshake._syns) == len(handshake._answers) == REMEMBERED  # type: ignore[union-attr]


def test_handshakes_wait_up_to_a_limit() -> None:
    key = stored(a_pair().reversed(), (2, 1), any_port=True)
    server = PacketPath(no_mtu, TRUSTING)
    server.add(listener_name(PAIR.remote, 2), key, select=False, fresh=False)
    client = PacketPath(no_mtu, TRUSTING)
    for port in range(1, MOST_WAITING + 50):
        pair = a_pair(port=port)
        client.add(connection_name(pair, port), stored(pair), select=True, fresh=True)
        assert server.incoming(client.outgoing(syn(pair)) or b'')
    assert len(server.sent_by) == len(server.received_by) == MOST_WAITING


def test_handshake_goes_on_when_another_peer_begins_too_many() -> None:
    client, server = ends()
    assert server.take(client.make(SYN, SYN_OPTIONS))
    other = ip_address('10.0.0.77')
    name = listener_name(PAIR.remote, 2)
    theirs = SocketPair(PAIR.remote, 179, other, 1)
    server.core.add(name, stored(theirs, (4, 3), any_port=True), select=False, fresh=False)
    crowd = PacketPath(no_mtu, TRUSTING)
    for port in range(1, MOST_WAITING + 50):
        pair = SocketPair(other, port, PAIR.remote, 179)
        crowd.add(connection_name(pair, port), stored(pair, (3, 4)), select=True, fresh=True)
        assert server.core.incoming(crowd.outgoing(syn(pair)) or b'')
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert server.take(client.make(ACK))


# --- keys that come and go ------------------------------------------------------------------


def test_handshake_breaks_when_the_listener_loses_its_key() -> None:
    client, server = ends()
    server.core.add(listener_name(PAIR.remote, 2), deny(), select=False, fresh=False)
    assert server.take(client.make(SYN, SYN_OPTIONS))
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    server.core.delete(listener_name(PAIR.remote, 2), ip_network('10.0.0.1'), 2, 1, None)
    assert server.take(client.make(ACK)) is None
    assert server.make(SYN | ACK, SYN_OPTIONS) is None


def test_handshake_breaks_when_there_is_no_deny_key_either() -> None:
    client, server = ends()
    assert server.take(client.make(SYN, SYN_OPTIONS))
    server.core.delete(listener_name(PAIR.remote, 2), ip_network('10.0.0.1'), 2, 1, None)
    unsigned = packet(PAIR, 1001, 5001, PSH | ACK, DATA_OPTIONS, b'unsigned')
    assert server.core.incoming(unsigned) is None
    assert server.make(SYN | ACK, SYN_OPTIONS) is None


def test_child_keeps_its_key_when_the_listener_loses_it() -> None:
    client, server = connected()
    server.core.delete(listener_name(PAIR.remote, 2), ip_network('10.0.0.1'), 2, 1, None)
    talk(client, server)
    server.core.release(listener_name(PAIR.remote, 2), 0.0)
    talk(client, server)


def test_open_connection_is_shut_when_a_guard_comes() -> None:
    core = guarded(deny())
    older = packet(BACK, 5, 6, PSH | ACK, DATA_OPTIONS, b'of a connection before')
    assert core.outgoing(older) is None
    assert core.incoming(packet(PAIR, 6, 5, PSH | ACK, DATA_OPTIONS, b'too')) is None


def test_open_connection_may_send_its_end_when_a_guard_comes() -> None:
    core = guarded(deny())
    reset = packet(BACK, 5, 6, RST | ACK)
    assert core.outgoing(reset) == reset
    assert core.incoming(packet(PAIR, 6, 5, RST | ACK)) is None, 'but anybody can send one'


# --- the pair is used again -----------------------------------------------------------------


@VERSIONS
def test_peer_may_open_anew_when_it_has_sent_a_rst(version: int) -> None:
    client, server = connected(version)
    assert server.take(client.make(RST))
    again, _ = ends(version, isns=(424242, 0))
    server.isn, server.sent, server.peer_isn, server.got = 99, 0, None, 0
    shake_hands(again, server)
    talk(again, server)


def test_new_syn_needs_the_old_key_while_the_connection_lives() -> None:
    client, server = connected()
    server.core.add(
        listener_name(PAIR.remote, 2), stored(BACK, (8, 9), secret=b'n'), select=False, fresh=False
    )
    restarted = PacketPath(no_mtu, TRUSTING)
    key = stored(PAIR, (9, 8), secret=b'n')
    restarted.add(connection_name(PAIR, 1), key, select=True, fresh=True)
    signed = restarted.outgoing(syn(isn=31337))
    assert signed is not None
    assert server.core.incoming(signed) is None
    talk(client, server)
    # The daemon closes it: now the listener is asked.
    server.core.release(connection_name(BACK, 3), 0.0)
    assert server.core.incoming(signed) is not None


def test_delayed_syn_is_verified_with_its_connections_key() -> None:
    client, server = ends()
    first = client.make(SYN, SYN_OPTIONS)
    assert server.take(first)
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert server.take(client.make(ACK))
    assert server.core.incoming(first or b'') is not None
    assert server.core.incoming(syn()) is None
    talk(client, server)


@VERSIONS
def test_new_connection_comes_up_when_our_tcp_lost_the_old_one(version: int) -> None:
    # Where the queue of what waits for accept() is full, TCP drops the last ACK and, in the end,
    # what it knew of the handshake, without a word.
    client, server = ends(version)
    shake_hands(client, server)
    again, _ = ends(version, isns=(424242, 0))
    first = again.make(SYN, SYN_OPTIONS)
    server.isn, server.sent, server.peer_isn, server.got = 99, 0, None, 0
    assert server.take(first)
    assert server.make(SYN | ACK, SYN_OPTIONS) is None, 'it would be signed with the old ISNs'
    server.sent = 0
    assert server.take(first), 'a second later'
    assert again.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert server.take(again.make(ACK))
    talk(again, server)


def test_connection_stays_when_its_syn_comes_twice() -> None:
    # Under SYN cookies TCP, whose queue is full, answers it with another ISN.
    client, server = ends()
    first = client.make(SYN, SYN_OPTIONS)
    assert server.take(first)
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert server.take(client.make(ACK))
    assert server.take(first)
    server.core.outgoing(packet(server.pair, 77, 1001, SYN | ACK, SYN_OPTIONS))
    talk(client, server)


def test_old_socket_does_not_get_the_new_connection() -> None:
    client, server = connected()
    assert server.take(client.make(RST))
    again, _ = ends(isns=(424242, 0))
    server.isn, server.sent, server.peer_isn, server.got = 99, 0, None, 0
    shake_hands(again, server)
    assert server.core.read(connection_name(BACK, 3)) is None, 'not noticed yet that it is dead'
    assert server.core.read(connection_name(BACK, 4)) is not None
    assert server.core.read(connection_name(BACK, 5)) is None, 'taken'

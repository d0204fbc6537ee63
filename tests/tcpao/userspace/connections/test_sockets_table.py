"""Which sockets are protected, what lingers after they are closed, what is sent to the queue."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from keymaterial import Secret
from tcpao.installer import Cause
from tcpao.key_socket import InstallError
from tcpao.mkt import ALGORITHMS
from tcpao.userspace.connections import sockets_table
from tcpao.userspace.connections.keyring import LONGEST_MASTER_KEY, StoredKey
from tcpao.userspace.connections.packet_path import PacketPath
from tcpao.userspace.connections.sockets_table import LINGER
from tcpao.userspace.selectors import Selector
from tests.tcpao.userspace.packets import (
    ACK,
    FIN,
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
    stored,
    talk,
)

PAIR = a_pair()
BACK = PAIR.reversed()
CLIENT = connection_name(PAIR, 1)
PEER = ip_network(PAIR.remote)


def guard(peer: str, ids: tuple[int, int] = (0, 0)) -> StoredKey:
    return StoredKey(ip_network(peer), None, *ids, ALGORITHMS['hmac-sha-1-96'], True, Secret(b'x'))


def signed(at: End, octets: bytes | None) -> bool:
    """True if this end finds it good."""
    assert octets is not None
    assert segment_of(octets).ao_option() is not None
    return at.core.incoming(octets) is not None


def is_over(end: End) -> bool:
    """Return whether the end's only connection is over."""
    (connection,) = end.core.connections()
    return connection.is_over


def refused(cause: Cause) -> pytest.RaisesExc[InstallError]:
    return pytest.RaisesExc(InstallError, check=lambda error: error.cause is cause)


# --- adding ---------------------------------------------------------------------------------


def test_key_is_refused_when_the_connection_is_up_without_ao() -> None:
    core = PacketPath(no_mtu, TRUSTING)
    with refused(Cause.REFUSED):
        core.add(CLIENT, stored(PAIR), select=False, fresh=False)
    assert core.read(CLIENT) is None
    assert core.selectors() == set()


def test_key_is_refused_when_it_is_for_another_peer_or_pair() -> None:
    core = PacketPath(no_mtu, TRUSTING)
    for wrong in (stored(a_pair(port=40002)), guard('192.0.2.1/32')):
        with refused(Cause.REFUSED):
            core.add(CLIENT, wrong, select=True, fresh=True)
    assert core.read(CLIENT) is None


@pytest.mark.parametrize('ids', [(1, 9), (9, 2), (1, 2)])
def test_key_is_refused_when_its_ids_are_taken(ids: tuple[int, int]) -> None:
    core = PacketPath(no_mtu, TRUSTING)
    core.add(CLIENT, stored(PAIR), select=True, fresh=True)
    with refused(Cause.KEYID_IN_USE):
        core.add(CLIENT, stored(PAIR, ids), select=True, fresh=True)


@pytest.mark.parametrize('length', [0, LONGEST_MASTER_KEY + 1])
def test_key_is_refused_when_its_length_is_wrong(length: int) -> None:
    with refused(Cause.REFUSED):
        PacketPath(no_mtu, TRUSTING).add(
            CLIENT, stored(PAIR, secret=bytes(length)), select=True, fresh=True
        )


def test_new_socket_takes_the_pair_from_the_old_one() -> None:
    client, _ = connected()
    newer = connection_name(PAIR, 77)
    client.core.add(newer, stored(PAIR, (5, 6)), select=True, fresh=True)
    state = client.core.read(newer)
    assert state is not None
    assert [key.send_id for key in state.keys] == [5]
    assert client.core.read(CLIENT) is None


def test_undo_reverts_an_add() -> None:
    core = PacketPath(no_mtu, TRUSTING)
    key = stored(PAIR)
    core.add(CLIENT, key, select=True, fresh=True)
    core.take_back(CLIENT, key)
    assert core.read(CLIENT) is None
    assert core.selectors() == set()


# --- closing --------------------------------------------------------------------------------


def test_unconnected_socket_is_forgotten_at_once() -> None:
    core = PacketPath(no_mtu, TRUSTING)
    core.add(CLIENT, stored(PAIR), select=True, fresh=True)
    core.release(CLIENT, 0.0)
    assert core.selectors() == set()
    assert core.next_deadline() is None


def test_segments_before_our_rst_are_answered_signed() -> None:
    client, server = connected()
    under_way = server.make(PSH | ACK, payload=b'route')
    assert server.take(client.make(RST))
    client.core.release(CLIENT, 100.0)
    assert client.core.selectors() == {Selector(PAIR.local, 40001, PEER, 179)}
    assert client.take(under_way)
    assert signed(server, client.make(RST)), 'our TCP knows no such connection any more'


def test_lost_rst_is_sent_again_and_believed() -> None:
    client, server = connected()
    client.core.release(CLIENT, 100.0)
    assert client.make(RST) is not None
    assert client.take(server.make(PSH | ACK, payload=b'route'))
    assert signed(server, client.make(RST))


def test_segments_that_a_peers_rst_overtook_get_signed_answers() -> None:
    client, server = connected()
    overtaken = server.make(PSH | ACK, payload=b'route')
    assert client.take(server.make(RST))
    client.core.release(CLIENT, 100.0)
    assert client.take(overtaken)
    assert signed(server, client.make(RST))


def test_forged_segment_gets_no_answer_when_a_rst_was_sent() -> None:
    client, server = connected()
    assert server.take(client.make(RST))
    client.core.release(CLIENT, 100.0)
    forged = packet(BACK, server.isn + 1, client.isn + 1, PSH | ACK, payload=b'forged')
    assert client.take(forged) is None
    assert client.core.tally.unsigned == 1


def test_syn_ack_is_answered_signed_when_the_socket_closed() -> None:
    client, server = ends()
    assert server.take(client.make(SYN, SYN_OPTIONS))
    client.core.release(CLIENT, 100.0)
    assert client.core.selectors() == {Selector(PAIR.local, 40001, PEER, 179)}
    assert is_over(client), 'there is no socket to reset'
    late = server.make(SYN | ACK, SYN_OPTIONS)
    assert client.take(late)
    assert not is_over(client), 'the answer is still to be signed'
    reset = client.make(RST)
    assert segment_of(reset or b'').ao_option() is not None
    assert is_over(client)
    assert client.take(late), 'the RST was lost'
    assert segment_of(client.make(RST) or b'').ao_option() is not None


def test_forged_syn_ack_gets_no_answer_when_the_socket_closed() -> None:
    client, server = ends()
    assert server.take(client.make(SYN, SYN_OPTIONS))
    client.core.release(CLIENT, 100.0)
    assert client.take(packet(BACK, 5000, client.isn + 1, SYN | ACK, SYN_OPTIONS)) is None
    assert client.make(RST) is None, "RFC 5925 7.7: without the peer's ISN nothing can be signed"


@pytest.mark.parametrize('rst_first', [True, False])
def test_reset_connection_is_forgotten_in_time(rst_first: bool) -> None:
    client, _ = connected()
    if rst_first:
        client.make(RST)
    client.core.release(CLIENT, 100.0)
    if not rst_first:
        client.make(RST)
    assert client.core.next_deadline() == 100.0 + LINGER
    assert client.core.expire(100.0 + LINGER)
    assert client.core.read(CLIENT) is None
    assert client.core.selectors() == set()
    assert client.core.next_deadline() is None


def test_unfinished_connection_is_forgotten_in_time() -> None:
    client, _ = ends()
    client.make(SYN, SYN_OPTIONS)
    client.core.release(CLIENT, 100.0)
    assert client.core.expire(100.0 + LINGER)
    assert client.core.selectors() == set()
    assert client.core.next_deadline() is None


def test_pair_is_the_new_sockets_when_it_is_used_again() -> None:
    # A pinned source port, and a peer that refuses: one entry, one rule, however often.
    client, server = ends()
    for cookie in range(10, 20):
        name = connection_name(PAIR, cookie)
        client.core.add(name, stored(PAIR, secret=b'k' * 32), select=True, fresh=True)
        client.isn, client.sent = cookie * 1000, 0
        opening = client.make(SYN, SYN_OPTIONS)
        client.core.release(name, float(cookie))
        assert len(list(client.core.connections())) == len(client.core.selectors()) == 1
        assert client.core.next_deadline() == cookie + LINGER
    name = connection_name(PAIR, 20)
    client.core.add(name, stored(PAIR, secret=b'k' * 32), select=True, fresh=True)
    assert client.core.next_deadline() is None
    assert server.take(opening)
    late = server.make(SYN | ACK, SYN_OPTIONS)
    client.isn, client.sent, client.peer_isn = 424242, 0, None
    opening = client.make(SYN, SYN_OPTIONS)
    assert client.take(late) is None, 'an answer to the one before'
    server.isn, server.sent, server.peer_isn, server.got = 99, 0, None, 0
    assert server.take(opening)
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert server.take(client.make(ACK))
    talk(client, server)


def test_lingering_connections_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets_table, 'MOST_LINGERING', 2)
    core = PacketPath(no_mtu, TRUSTING)
    for number in range(3):
        pair = a_pair(port=40001 + number)
        name = connection_name(pair, 1 + number)
        core.add(name, stored(pair), select=True, fresh=True)
        assert core.outgoing(packet(pair, 1000, 0, SYN, SYN_OPTIONS)) is not None
        core.release(name, float(number))
    assert sorted(one.local_port for one in core.selectors()) == [40002, 40003]
    assert core.next_deadline() == 1 + LINGER


def test_orderly_close_is_protected_through_time_wait() -> None:
    client, server = connected()
    client.core.release(CLIENT, 100.0)
    assert server.take(client.make(FIN | ACK))
    assert client.take(server.make(FIN | ACK))
    assert not client.core.expire(100.0 + LINGER - 1)
    assert server.take(client.make(ACK))
    assert client.core.expire(100.0 + LINGER)
    assert client.core.selectors() == set()


def test_second_release_counts_from_the_first() -> None:
    client, _ = connected()
    client.core.release(CLIENT, 100.0)
    client.core.release(CLIENT, 150.0)
    assert client.core.next_deadline() == 100.0 + LINGER


def test_secrets_are_wiped_when_a_socket_is_forgotten() -> None:
    client, server = connected()
    key = next(client.core.connections()).keyring.keys[0]
    client.make(RST)
    client.core.release(CLIENT, 0.0)
    client.core.expire(LINGER)
    assert key.master_key.wiped
    (listening,) = server.core.listeners
    shared = listening.keyring.keys[0]
    server.core.release(listener_name(PAIR.remote, 2), 0.0)
    assert shared.master_key.wiped
    talk_key = next(server.core.connections()).keyring.keys[0]
    assert not talk_key.master_key.wiped, 'a child has its own copy'


def test_removed_key_is_wiped() -> None:
    core = PacketPath(no_mtu, TRUSTING)
    old, new = stored(PAIR), stored(PAIR, (5, 6))
    core.add(CLIENT, old, select=True, fresh=True)
    core.add(CLIENT, new, select=True, fresh=True)
    core.delete(CLIENT, PEER, 1, 2, None)
    assert old.master_key.wiped


def test_mac_of_a_removed_key_is_not_kept() -> None:
    client, server = connected()
    for end, name, ids in ((client, CLIENT, (5, 6)), (server, connection_name(BACK, 3), (6, 5))):
        end.core.add(name, stored(end.pair, ids), select=False, fresh=False)
    sent = client.make(PSH | ACK, payload=b'old')
    for core, name, old, new in (
        (client.core, CLIENT, (1, 2), (5, 6)),
        (server.core, connection_name(BACK, 3), (2, 1), (6, 5)),
    ):
        core.delete(name, ip_network(name.remote or ''), *old, new)
    assert server.core.incoming(sent or b'') is None
    talk(client, server)


def test_only_a_rst_leaves_when_the_socket_was_aborted() -> None:
    client, server = connected()
    data = packet(PAIR, client.isn + client.sent, server.isn + 1, PSH | ACK, payload=b'x')
    assert client.core.last_words(data) is None
    reset = packet(PAIR, client.isn + client.sent, server.isn + 1, RST | ACK)
    assert server.take(client.core.last_words(reset))


# --- what is sent to the queue --------------------------------------------------------------


def test_connection_is_selected_by_its_whole_pair() -> None:
    core = PacketPath(no_mtu, TRUSTING)
    core.add(CLIENT, stored(PAIR), select=True, fresh=True)
    whole = Selector(PAIR.local, 40001, PEER, 179)
    assert core.selectors() == {whole, replace(whole, live=True)}


def test_guard_is_selected_by_prefix_and_service_port() -> None:
    core = PacketPath(no_mtu, TRUSTING)
    core.add(listener_name(PAIR.remote, 2), guard('10.0.0.0/24'), select=False, fresh=False)
    assert core.selectors() == {Selector(PAIR.remote, 179, ip_network('10.0.0.0/24'), None)}


def test_wildcard_listener_is_selected_on_every_address() -> None:
    core = PacketPath(no_mtu, TRUSTING)
    name = listener_name(ip_address('0.0.0.0'), 2)
    core.add(name, guard('10.0.0.0/24'), select=False, fresh=False)
    assert core.selectors() == {Selector(None, 179, ip_network('10.0.0.0/24'), None)}


def test_selector_is_not_added_when_a_guard_covers_it() -> None:
    client, server = ends()
    name = listener_name(PAIR.remote, 2)
    server.core.add(name, guard('10.0.0.0/24'), select=False, fresh=False)
    wide = {Selector(PAIR.remote, 179, ip_network('10.0.0.0/24'), None)}
    assert server.core.selectors() == wide
    assert server.take(client.make(SYN, SYN_OPTIONS))
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert server.take(client.make(ACK))
    assert server.core.selectors() == wide
    # The child is not accepted yet, and all keys go from the listener: it stays covered.
    server.core.release(name, 0.0)
    assert server.core.selectors() == {Selector(PAIR.remote, 179, ip_network(PAIR.local), 40001)}


def test_release_ends_priority_when_an_accepted_one_closes() -> None:
    client, server = ends()
    name = listener_name(PAIR.remote, 2)
    server.core.add(name, guard('10.0.0.0/24'), select=False, fresh=False)
    wide = server.core.selectors()
    assert server.take(client.make(SYN, SYN_OPTIONS))
    assert client.take(server.make(SYN | ACK, SYN_OPTIONS))
    assert server.take(client.make(ACK))
    accepted = connection_name(PAIR.reversed(), 9)
    assert server.core.read(accepted)
    live = Selector(PAIR.remote, 179, ip_network(PAIR.local), 40001, live=True)
    assert server.core.selectors() == wide | {live}
    assert server.core.selectors_changed
    server.core.release(accepted, 0.0)
    assert server.core.selectors() == wide


@pytest.mark.parametrize(
    ('one', 'other', 'covered'),
    [
        (('10.0.0.0/24', None), ('10.0.0.1/32', 40001), True),
        (('10.0.0.0/24', None), ('10.0.1.1/32', 40001), False),
        (('10.0.0.1/32', 40001), ('10.0.0.0/24', None), False),
        (('10.0.0.1/32', 40001), ('10.0.0.1/32', 40002), False),
        (('10.0.0.0/24', None), ('10.0.0.0/25', None), True),
        (('0.0.0.0/0', None), ('fd00::1/128', None), False),
    ],
)
def test_selector_covers_narrower_ones(
    one: tuple[str, int | None], other: tuple[str, int | None], covered: bool
) -> None:
    def selector(of: tuple[str, int | None]) -> Selector:
        return Selector(None, 179, ip_network(of[0]), of[1])

    assert selector(one).covers(selector(other)) is covered
    assert not Selector(PAIR.local, 179, PEER, None).covers(Selector(None, 179, PEER, None))
    assert not Selector(None, 179, PEER, None).covers(Selector(None, 180, PEER, None))

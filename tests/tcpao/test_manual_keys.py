"""Manual keys on listening sockets, and deny keys that make room for them: every backend alike."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from keymaterial import Secret
from tcpao.installer import Cause, Guard, Install, Prune, Remove, SetRNext, Unguard, Where
from tcpao.mkt import ALGORITHMS, IPNetwork, Mkt, PeerPairs, SocketPair
from tests.tcpao.benches import Bench, Connection, Listener
from tests.tcpao.test_installer_conformance import (
    PORT,
    accepted,
    bound,
    do,
    host,
    ids,
    listening,
    mkts,
    pair_of,
    refused,
    state,
    talk,
)


def manual(bench: Bench, numbers: tuple[int, int] = (2, 1), prefix: IPNetwork | None = None) -> Mkt:
    """The server's side of the key that `mkts` makes, for every connection of the peer."""
    return Mkt(
        identity=f'manual {numbers}',
        protects=PeerPairs(prefix or host(bench), PORT),
        algorithm=ALGORITHMS['hmac-sha-1-96'],
        tcp_options=True,
        send_id=numbers[0],
        recv_id=numbers[1],
        master_key=Secret(b'master key'),
        not_after=float('inf'),
    )


def connected(bench: Bench, listener: Listener, port: int) -> tuple[Connection, Connection]:
    """Under the keys with ids 1 and 2 at the client."""
    client, _ = mkts(pair_of(bench, port), secret=b'master key')
    near = bound(bench, client.pair)
    do(bench.client, Install(client, Where.CONNECTION))
    assert near.connect()
    return near, accepted(bench, listener, client.pair)


def test_manual_key_is_for_every_connection_of_its_peer(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Install(manual(bench), Where.LISTENER))
    for port in (40001, 40002, 40003):
        near, far = connected(bench, listener, port)
        talk(near, far)


def test_manual_key_waits_for_listening_sockets(bench: Bench) -> None:
    do(bench.server, Install(manual(bench), Where.LISTENER))
    listener = listening(bench)
    talk(*connected(bench, listener, 40001))
    assert not bench.bind(pair_of(bench, 40002)).connect(), 'without the key'


def test_manual_key_leaves_other_peers_alone(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Install(manual(bench), Where.LISTENER))
    assert bench.bind(SocketPair(bench.c, 40001, bench.b, PORT)).connect()
    assert listener.accept().is_established()


def test_manual_key_covers_a_prefix(bench: Bench) -> None:
    listener = listening(bench)
    prefix = ip_network((bench.a.packed[:-1] + b'\0', bench.a.max_prefixlen - 8))
    do(bench.server, Install(manual(bench, prefix=prefix), Where.LISTENER))
    talk(*connected(bench, listener, 40001))
    assert not bench.bind(SocketPair(bench.c, 40001, bench.b, PORT)).connect()


def test_manual_key_admits_no_peer_when_it_was_removed(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Guard(host(bench), PORT), Install(manual(bench), Where.LISTENER))
    near, far = connected(bench, listener, 40001)
    do(bench.server, Remove(manual(bench), Where.LISTENER))
    client, _ = mkts(pair_of(bench, 40002), secret=b'master key')
    late = bound(bench, client.pair)
    do(bench.client, Install(client, Where.CONNECTION))
    assert not late.connect()
    talk(near, far)


def test_chain_keys_stay_when_a_child_is_pruned(bench: Bench) -> None:
    listener = listening(bench)
    chain = [manual(bench), manual(bench, (4, 3))]
    do(bench.server, Guard(host(bench), PORT))
    do(bench.server, *(Install(mkt, Where.LISTENER) for mkt in chain))
    do(bench.server, Install(mkts(pair_of(bench, 40009), (6, 5))[1], Where.LISTENER))
    near, far = connected(bench, listener, 40001)
    pair = pair_of(bench, 40001)
    ours = [mkts(pair, numbers, b'master key')[1] for numbers in ((1, 2), (3, 4), (7, 8))]
    do(bench.server, Prune(ours[0], tuple(ours[1:])))
    assert ids(bench.server, pair.reversed()) == {(2, 1), (4, 3)}
    talk(near, far)


def test_child_moves_to_another_key_of_its_chain(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Install(manual(bench), Where.LISTENER))
    do(bench.server, Install(manual(bench, (4, 3)), Where.LISTENER))
    near, far = connected(bench, listener, 40001)
    pair = pair_of(bench, 40001)
    client, server = mkts(pair, (3, 4), b'master key')
    do(bench.client, Install(client, Where.CONNECTION), SetRNext(client))
    do(bench.server, SetRNext(server))
    for _ in range(3):
        talk(near, far)
    for installer, mkt in ((bench.client, client), (bench.server, server)):
        seen = state(installer, mkt.pair)
        assert (seen.current, seen.rnext) == (mkt.send_id, mkt.recv_id)


# --- the deny key's ids ---------------------------------------------------------------------


def test_deny_key_denies_when_it_has_other_ids(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Guard(host(bench), PORT, 255, 254))
    assert not bench.bind(pair_of(bench)).connect()
    assert not listener.has_connections()


def test_chain_may_use_id_0(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Guard(host(bench), PORT, 255, 255))
    do(bench.server, Install(manual(bench, (0, 0)), Where.LISTENER))
    client, server = mkts(pair_of(bench), (0, 0), b'master key')
    near = bound(bench, client.pair)
    do(bench.client, Install(client, Where.CONNECTION))
    assert near.connect()
    far = accepted(bench, listener, client.pair)
    do(bench.server, Prune(server))
    assert ids(bench.server, server.pair) == {(0, 0)}
    talk(near, far)


def test_chain_is_refused_when_it_uses_the_deny_keys_ids(bench: Bench) -> None:
    listening(bench)
    do(bench.server, Guard(host(bench), PORT))
    assert refused(bench.server, Install(manual(bench, (0, 5)), Where.LISTENER)) is (
        Cause.KEYID_IN_USE
    )


def test_deny_key_changes_ids_without_a_gap(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Guard(host(bench), PORT), Guard(host(bench), PORT, 9, 9))
    do(bench.server, Unguard(host(bench), PORT))
    assert not bench.bind(pair_of(bench)).connect()
    do(bench.server, Install(manual(bench, (0, 0)), Where.LISTENER))
    do(bench.server, Remove(manual(bench, (0, 0)), Where.LISTENER))
    do(bench.server, Unguard(host(bench), PORT, 9, 9))
    assert bench.bind(pair_of(bench, 40002)).connect()
    assert listener.accept().is_established()


def test_pairs_of_a_peer_name_none_of_its_ports() -> None:
    assert str(PeerPairs(ip_network('10.0.0.2/32'), 179)) == '10.0.0.2/32 -> port 179'
    with pytest.raises(ValueError, match='not a TCP port'):
        PeerPairs(ip_network('10.0.0.2/32'), 0)
    with pytest.raises(ValueError, match='not a TCP port'):
        SocketPair(ip_address('10.0.0.1'), 179, ip_address('10.0.0.2'), 0)

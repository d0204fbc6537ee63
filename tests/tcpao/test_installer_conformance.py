"""The behaviour of every backend of the installer, the double included: one test for all.

`a` connects, `b` listens, `c` is another host. An MKT's two ends are made by `mkts`.
"""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from keymaterial import Secret
from tcpao.installer import (
    Abort,
    Cause,
    Close,
    Command,
    Done,
    Event,
    Failed,
    Guard,
    GuardAll,
    Install,
    Installer,
    KeyState,
    Probe,
    Prune,
    Read,
    Remove,
    SetRNext,
    Unguard,
    UnguardAll,
    Where,
)
from tcpao.key_socket import InstallError
from tcpao.mkt import ALGORITHMS, IPNetwork, Mkt, SocketPair
from tests.tcpao.benches import Bench, Connection, Listener

PORT = 179


def pair_of(bench: Bench, source_port: int = 40001) -> SocketPair:
    return SocketPair(bench.a, source_port, bench.b, PORT)


def mkts(
    pair: SocketPair,
    ids: tuple[int, int] = (1, 2),
    secret: bytes = b'a secret',
    algorithm: str = 'hmac-sha-1-96',
    tcp_options: bool = True,
) -> tuple[Mkt, Mkt]:
    """One key as the client and as the server has it; `ids` are the client's SendID, RecvID."""

    def end(name: str, pair: SocketPair, send_id: int, recv_id: int) -> Mkt:
        return Mkt(
            identity=f'{name} {pair} {ids} {secret!r} {algorithm} {tcp_options}',
            protects=pair,
            algorithm=ALGORITHMS[algorithm],
            tcp_options=tcp_options,
            send_id=send_id,
            recv_id=recv_id,
            master_key=Secret(secret),
            not_after=0.0,
        )

    return end('client', pair, *ids), end('server', pair.reversed(), ids[1], ids[0])


def answer(installer: Installer[object], command: Command) -> Event:
    installer.submit(command)
    events = installer.events()
    assert len(events) == 1
    return events[0]


def do(installer: Installer[object], *commands: Command) -> None:
    for command in commands:
        assert answer(installer, command) == Done(command)


def refused(installer: Installer[object], command: Command) -> Cause:
    event = answer(installer, command)
    assert isinstance(event, Failed), event
    assert event.command == command
    assert event.text
    return event.cause


def state(installer: Installer[object], pair: SocketPair) -> KeyState:
    event = answer(installer, Read(pair))
    assert isinstance(event, KeyState)
    assert event.pair == pair
    return event


def ids(installer: Installer[object], pair: SocketPair) -> set[tuple[int, int]]:
    return {(key.send_id, key.recv_id) for key in state(installer, pair).keys}


def good(installer: Installer[object], pair: SocketPair, send_id: int) -> int:
    (count,) = [k.good for k in state(installer, pair).keys if k.send_id == send_id]
    return count


def host(bench: Bench) -> IPNetwork:
    """The client as the server's peer."""
    return ip_network(bench.a)


def listening(bench: Bench) -> Listener:
    listener = bench.listen(bench.b, PORT)
    bench.server.add_listener(listener.handle)
    return listener


def bound(bench: Bench, pair: SocketPair) -> Connection:
    connection = bench.bind(pair)
    bench.client.add_connection(pair, connection.handle)
    return connection


def accepted(bench: Bench, listener: Listener, pair: SocketPair) -> Connection:
    child = listener.accept()
    bench.server.add_connection(pair.reversed(), child.handle)
    return child


def opened(
    bench: Bench, listener: Listener, client: Mkt, server: Mkt
) -> tuple[Connection, Connection]:
    """A connection under this key: both ends, the server's accepted but not pruned."""
    do(bench.server, Install(server, Where.LISTENER))
    connection = bound(bench, client.pair)
    do(bench.client, Install(client, Where.CONNECTION))
    assert connection.connect()
    return connection, accepted(bench, listener, client.pair)


def established(bench: Bench) -> tuple[Connection, Connection, Mkt, Mkt]:
    """A proven connection: one key on each end, none on the listener."""
    client, server = mkts(pair_of(bench))
    listener = listening(bench)
    do(bench.server, Guard(host(bench), PORT))
    near, far = opened(bench, listener, client, server)
    do(bench.server, Prune(server), Remove(server, Where.LISTENER))
    return near, far, client, server


def keeps_out(bench: Bench, pair: SocketPair) -> None:
    """An unsigned SYN is refused. It isn't sent again, which would be one more refusal, and of
    whom isn't to be seen."""
    connection = bench.bind(pair)
    assert not connection.connect()
    connection.close()


def talk(one: Connection, other: Connection, octets: bytes = b'route') -> None:
    one.send(octets)
    assert other.receive(len(octets)) == octets
    other.send(octets)
    assert one.receive(len(octets)) == octets


# --- opening --------------------------------------------------------------------------------


def test_connection_comes_up_when_both_ends_have_the_key(bench: Bench) -> None:
    near, far, client, server = established(bench)
    talk(near, far)
    for installer, mkt in ((bench.client, client), (bench.server, server)):
        seen = state(installer, mkt.pair)
        assert (seen.current, seen.rnext) == (mkt.send_id, mkt.recv_id)
        assert [(k.send_id, k.recv_id) for k in seen.keys] == [(mkt.send_id, mkt.recv_id)]
        assert seen.keys[0].good > 0
        assert seen.keys[0].bad == seen.not_found == seen.unsigned == 0


def test_key_becomes_current_when_the_socket_is_closed(bench: Bench) -> None:
    pair = pair_of(bench)
    first, second = mkts(pair)[0], mkts(pair, (3, 4))[0]
    bound(bench, pair)
    # In user space a key proves nothing before the SYNs of both ends have passed under it.
    silent = bench.client.capabilities().backend == 'userspace'
    for mkt in (first, second):
        do(bench.client, Install(mkt, Where.CONNECTION))
        seen = state(bench.client, pair)
        ids = (None, None) if silent else (mkt.send_id, mkt.recv_id)
        assert (seen.current, seen.rnext) == ids


@pytest.mark.parametrize(
    'wrong',
    [
        pytest.param({'secret': b'another secret'}, id='secret'),
        pytest.param({'algorithm': 'aes-128-cmac-96'}, id='algorithm'),
        pytest.param({'tcp_options': False}, id='options flag'),
        pytest.param({'ids': (7, 2)}, id='SendID'),
    ],
)
def test_connection_does_not_come_up_when_a_key_is_wrong(
    bench: Bench, wrong: dict[str, object]
) -> None:
    listener = listening(bench)
    do(bench.server, Install(mkts(pair_of(bench))[1], Where.LISTENER))
    impostor = bound(bench, pair_of(bench))
    do(bench.client, Install(mkts(pair_of(bench), **wrong)[0], Where.CONNECTION))  # type: ignore[arg-type]
    assert not impostor.connect()
    assert not listener.has_connections()


def test_algorithm_works_when_the_backend_claims_it(bench: Bench) -> None:
    listener = listening(bench)
    claimed = bench.server.capabilities().algorithms
    assert claimed >= {'hmac-sha-1-96', 'aes-128-cmac-96'}
    for number, name in enumerate(sorted(claimed)):
        pair = pair_of(bench, 41000 + number)
        client, server = mkts(
            pair, (10 + number, 20 + number), secret=b'k' * 40, algorithm=name, tcp_options=False
        )
        near, far = opened(bench, listener, client, server)
        talk(near, far)


def test_algorithm_is_refused_when_the_backend_lacks_it(bench: Bench) -> None:
    claimed = bench.client.capabilities().algorithms
    pair = pair_of(bench)
    bound(bench, pair)
    for name in ALGORITHMS.keys() - claimed:
        mkt, _ = mkts(pair, algorithm=name)
        assert refused(bench.client, Install(mkt, Where.CONNECTION)) is Cause.UNSUPPORTED
    assert state(bench.client, pair).keys == ()


def test_traffic_counts_both_directions(bench: Bench) -> None:
    near, far, client, server = established(bench)
    ends = ((bench.client, client.pair), (bench.server, server.pair))
    before = [state(*end).traffic for end in ends]
    talk(near, far, b'forth' * 20)
    for end, earlier in zip(ends, before, strict=True):
        used = state(*end).traffic.since(earlier)
        assert used.octets >= len(b'forth' * 20)
        assert used.segments >= 2


def test_two_sessions_of_one_peer_each_have_their_own_key(bench: Bench) -> None:
    listener = listening(bench)
    ends = []
    for port, numbers, secret in ((40001, (1, 2), b'one'), (40002, (3, 4), b'other')):
        client, server = mkts(pair_of(bench, port), numbers, secret)
        near, far = opened(bench, listener, client, server)
        do(bench.server, Prune(server))
        ends.append((near, far, server))
    for near, far, server in ends:
        talk(near, far)
        assert ids(bench.server, server.pair) == {(server.send_id, server.recv_id)}


# --- the deny key ---------------------------------------------------------------------------


def test_guard_refuses_unsigned_syns_before_and_after_an_mkt(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Guard(host(bench), PORT))
    keeps_out(bench, pair_of(bench, 40001))
    do(bench.server, Install(mkts(pair_of(bench))[1], Where.LISTENER))
    keeps_out(bench, pair_of(bench, 40002))
    do(bench.server, Remove(mkts(pair_of(bench))[1], Where.LISTENER))
    keeps_out(bench, pair_of(bench, 40003))
    assert not listener.has_connections()


def test_unsigned_syn_is_seen_when_there_is_no_guard_or_key(bench: Bench) -> None:
    listener = listening(bench)
    pair = pair_of(bench)
    assert bench.bind(pair).connect()
    accepted(bench, listener, pair)
    unprotected = KeyState(pair.reversed(), None, None, (), 0, 0)
    assert state(bench.server, pair.reversed()) == unprotected


def test_guard_leaves_other_peers_alone(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Guard(host(bench), PORT))
    assert bench.bind(SocketPair(bench.c, 40001, bench.b, PORT)).connect()
    assert listener.accept().is_established()


def test_unguard_removes_the_deny_key(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Guard(host(bench), PORT), Unguard(host(bench), PORT))
    assert bench.bind(pair_of(bench)).connect()
    assert listener.accept().is_established()


def test_second_guard_changes_nothing(bench: Bench) -> None:
    listening(bench)
    do(bench.server, Guard(host(bench), PORT), Guard(host(bench), PORT))
    do(bench.server, Unguard(host(bench), PORT))
    assert refused(bench.server, Unguard(host(bench), PORT)) is Cause.GONE


def test_guards_come_and_go_together(bench: Bench) -> None:
    listener = listening(bench)
    both = (Guard(host(bench), PORT), Guard(ip_network(bench.c), PORT))
    do(bench.server, GuardAll(both))
    keeps_out(bench, pair_of(bench, 40001))
    keeps_out(bench, SocketPair(bench.c, 40001, bench.b, PORT))
    do(bench.server, UnguardAll(both))
    assert bench.bind(pair_of(bench, 40002)).connect()
    assert listener.accept().is_established()
    wider = ip_network((bench.a.packed[:-1] + b'\0', bench.a.max_prefixlen - 8))
    assert refused(bench.server, GuardAll((*both, Guard(wider, PORT)))) is Cause.KEYID_IN_USE
    assert bench.bind(pair_of(bench, 40003)).connect(), 'none of them'


def test_guards_are_refused_when_they_overlap(bench: Bench) -> None:
    listening(bench)
    do(bench.server, Guard(host(bench), PORT))
    wider = ip_network((bench.a.packed[:-1] + b'\0', bench.a.max_prefixlen - 8))
    assert refused(bench.server, Guard(wider, PORT)) is Cause.KEYID_IN_USE


def test_guard_of_a_prefix_is_pruned_from_a_child(bench: Bench) -> None:
    listener = listening(bench)
    wider = ip_network((bench.a.packed[:-1] + b'\0', bench.a.max_prefixlen - 8))
    do(bench.server, Guard(wider, PORT))
    keeps_out(bench, SocketPair(bench.c, 40001, bench.b, PORT))
    client, server = mkts(pair_of(bench))
    near, far = opened(bench, listener, client, server)
    do(bench.server, Prune(server))
    talk(near, far)
    assert ids(bench.server, server.pair) == {(2, 1)}


def test_later_listener_gets_the_guards_and_the_mkts(bench: Bench) -> None:
    client, server = mkts(pair_of(bench))
    first = listening(bench)
    do(bench.server, Guard(host(bench), PORT), Install(server, Where.LISTENER))
    first.close()
    bench.server.drop_listener(first.handle)
    later = listening(bench)
    keeps_out(bench, pair_of(bench, 40009))
    connection = bound(bench, client.pair)
    do(bench.client, Install(client, Where.CONNECTION))
    assert connection.connect()
    assert later.accept().is_established()


def test_guard_waits_when_there_is_no_listener(bench: Bench) -> None:
    do(bench.server, Guard(host(bench), PORT))
    listening(bench)
    keeps_out(bench, pair_of(bench))


def test_listener_is_as_it_was_when_it_cannot_be_guarded(bench: Bench) -> None:
    # It already has another peer's key with the deny key's ids.
    do(bench.server, Guard(ip_network(bench.c), PORT), Guard(host(bench), PORT))
    listener = bench.listen(bench.b, PORT)
    other = bench.another_installer()
    other.add_listener(listener.handle)
    do(other, Guard(host(bench), PORT))
    with pytest.raises(InstallError) as caught:
        bench.server.add_listener(listener.handle)
    assert caught.value.cause is Cause.KEYID_IN_USE
    assert refused(bench.server, Install(mkts(pair_of(bench))[1], Where.LISTENER)) is (
        Cause.NO_LISTENER
    )
    assert bench.bind(SocketPair(bench.c, 40001, bench.b, PORT)).connect(), 'c is not guarded'


# --- listener and connection ----------------------------------------------------------------


def test_child_inherits_every_key_and_pruning_leaves_one(bench: Bench) -> None:
    listener = listening(bench)
    do(bench.server, Guard(host(bench), PORT))
    _, other = mkts(pair_of(bench, 40002), (3, 4), b'other')
    somebody = Mkt(
        'somebody',
        SocketPair(bench.b, PORT, bench.c, 40001),
        ALGORITHMS['hmac-sha-1-96'],
        True,
        9,
        9,
        Secret(b'third'),
        0.0,
    )
    do(bench.server, Install(other, Where.LISTENER), Install(somebody, Where.LISTENER))
    client, server = mkts(pair_of(bench))
    near, far = opened(bench, listener, client, server)
    # Linux matches keys by address, so the other session's comes along.
    by_port = bench.server.capabilities().matches_ports
    assert ids(bench.server, server.pair) == {(2, 1), (0, 0)} | (set() if by_port else {(4, 3)})
    assert (state(bench.server, server.pair).current) == 2
    do(bench.server, Prune(server))
    assert ids(bench.server, server.pair) == {(2, 1)}
    talk(near, far)


def test_pruning_proves_nothing_when_another_key_is_in_use(bench: Bench) -> None:
    listener = listening(bench)
    _, other = mkts(pair_of(bench), (3, 4), b'other')
    do(bench.server, Install(other, Where.LISTENER))
    client, server = mkts(pair_of(bench))
    opened(bench, listener, client, server)
    wanted = Mkt(
        'wanted', server.pair, other.algorithm, True, 4, 3, Secret(b'other'), not_after=0.0
    )
    assert refused(bench.server, Prune(wanted)) is Cause.BUSY
    assert ids(bench.server, server.pair) == {(2, 1), (4, 3)}, 'and changes nothing'


def test_pruning_fails_when_a_pruned_key_was_used(bench: Bench) -> None:
    """Octets that came under the key wait for the reader."""
    listener = listening(bench)
    other_client, other = mkts(pair_of(bench), (3, 4), b'other')
    do(bench.server, Install(other, Where.LISTENER))
    client, server = mkts(pair_of(bench))
    do(bench.server, Install(server, Where.LISTENER))
    near = bound(bench, client.pair)
    # The last one is Current and RNext.
    do(bench.client, Install(other_client, Where.CONNECTION), Install(client, Where.CONNECTION))
    assert near.connect()
    far = accepted(bench, listener, client.pair)
    for asked in (other, server):
        do(bench.server, SetRNext(asked))
        talk(near, far)
    assert good(bench.server, server.pair, other.send_id)
    assert refused(bench.server, Prune(server)) is Cause.REFUSED


def test_pruning_changes_nothing_when_its_key_is_not_there(bench: Bench) -> None:
    _, _, _, server = established(bench)
    absent = Mkt('absent', server.pair, server.algorithm, True, 8, 8, Secret(b'x'), 0.0)
    assert refused(bench.server, Prune(absent)) is Cause.GONE
    assert ids(bench.server, server.pair) == {(2, 1)}


def test_child_keeps_a_key_when_the_listener_loses_it(bench: Bench) -> None:
    near, far, _, server = established(bench)
    assert refused(bench.server, Remove(server, Where.LISTENER)) is Cause.GONE
    talk(near, far)


def test_child_does_not_get_a_key_that_the_listener_gets_later(bench: Bench) -> None:
    near, far, _, server = established(bench)
    do(bench.server, Install(mkts(pair_of(bench, 40002), (3, 4))[1], Where.LISTENER))
    assert ids(bench.server, server.pair) == {(2, 1)}
    talk(near, far)


def test_child_is_refused_when_no_listener_heard_the_syn(bench: Bench) -> None:
    _, server = mkts(pair_of(bench))
    assert refused(bench.server, Install(server, Where.LISTENER)) is Cause.NO_LISTENER
    listener = bench.listen(bench.b, PORT + 1)
    bench.server.add_listener(listener.handle)
    assert refused(bench.server, Install(server, Where.LISTENER)) is Cause.NO_LISTENER
    elsewhere = bench.listen(bench.c, PORT)
    bench.server.add_listener(elsewhere.handle)
    assert refused(bench.server, Install(server, Where.LISTENER)) is Cause.NO_LISTENER


def test_wildcard_listener_takes_the_syn(bench: Bench) -> None:
    listener = bench.listen(bench.any, PORT)
    bench.server.add_listener(listener.handle)
    do(bench.server, Guard(host(bench), PORT))
    client, server = mkts(pair_of(bench))
    near, far = opened(bench, listener, client, server)
    do(bench.server, Prune(server))
    talk(near, far)


def test_install_changes_nothing_when_its_ids_are_taken(bench: Bench) -> None:
    listener = listening(bench)
    client, server = mkts(pair_of(bench))
    do(bench.server, Install(server, Where.LISTENER))
    for numbers in ((1, 9), (9, 2)):
        _, clash = mkts(pair_of(bench, 40002), numbers, b'another')
        assert refused(bench.server, Install(clash, Where.LISTENER)) is Cause.KEYID_IN_USE
    connection = bound(bench, client.pair)
    do(bench.client, Install(client, Where.CONNECTION))
    assert connection.connect()
    accepted(bench, listener, client.pair)
    assert ids(bench.server, server.pair) == {(2, 1)}


def test_install_is_on_no_listener_when_one_of_two_fails(bench: Bench) -> None:
    specific, general = bench.listen(bench.b, PORT), bench.listen(bench.any, PORT)
    bench.server.add_listener(specific.handle)
    bench.server.add_listener(general.handle)
    # Another instance has put a key with these ids on the second one.
    other = bench.another_installer()
    other.add_listener(general.handle)
    client, server = mkts(pair_of(bench))
    do(other, Install(server, Where.LISTENER))
    assert refused(bench.server, Install(server, Where.LISTENER)) is Cause.KEYID_IN_USE
    assert refused(bench.server, Remove(server, Where.LISTENER)) is Cause.GONE
    assert bench.bind(client.pair).connect(), 'unsigned: the specific listener has no key left'


# --- rotation -------------------------------------------------------------------------------


def test_rotation_loses_nothing(bench: Bench) -> None:
    near, far, client, server = established(bench)
    new_client, new_server = mkts(client.pair, (5, 6), b'successor')
    do(bench.server, Install(new_server, Where.CONNECTION))
    do(bench.client, Install(new_client, Where.CONNECTION))
    assert state(bench.client, client.pair).current == 1, 'installing alone moves nothing'
    do(bench.client, SetRNext(new_client))
    talk(near, far, b'one')
    assert state(bench.server, server.pair).current == 6, "follows the peer's RNextKeyID"
    assert state(bench.client, client.pair).current == 1
    do(bench.server, SetRNext(new_server))
    talk(near, far, b'two')
    talk(near, far, b'three')
    for installer, old, new in (
        (bench.client, client, new_client),
        (bench.server, server, new_server),
    ):
        seen = state(installer, old.pair)
        assert (seen.current, seen.rnext) == (new.send_id, new.recv_id)
        assert good(installer, old.pair, new.send_id) > 0
        do(installer, Remove(old, Where.CONNECTION))
        assert ids(installer, old.pair) == {(new.send_id, new.recv_id)}
    talk(near, far, b'four')


def test_rotation_completes_when_only_probes_pass(bench: Bench) -> None:
    _, _, client, server = established(bench)
    new_client, new_server = mkts(client.pair, (5, 6), b'successor')
    do(bench.server, Install(new_server, Where.CONNECTION), Probe(server.pair, True))
    do(bench.client, Install(new_client, Where.CONNECTION), SetRNext(new_client))
    bench.wait_until(lambda: state(bench.server, server.pair).current == 6)
    do(bench.server, SetRNext(new_server))
    bench.wait_until(lambda: state(bench.client, client.pair).current == 5)
    bench.wait_until(lambda: good(bench.server, server.pair, 6) > 0)
    do(bench.server, Probe(server.pair, False))


def test_rnext_does_no_harm_when_the_peer_does_not_know_it(bench: Bench) -> None:
    near, far, client, server = established(bench)
    lonely, _ = mkts(client.pair, (5, 6), b'successor')
    do(bench.client, Install(lonely, Where.CONNECTION), SetRNext(lonely))
    talk(near, far)
    assert state(bench.server, server.pair).current == server.send_id
    assert state(bench.client, client.pair).rnext == 6


def test_segment_is_counted_when_its_key_id_is_unknown(bench: Bench) -> None:
    near, _, client, server = established(bench)
    new_client, _ = mkts(client.pair, (5, 6), b'successor')
    do(bench.client, Install(new_client, Where.CONNECTION))
    # Forced on one end only: the other doesn't have it.
    do(bench.client, Remove(client, Where.CONNECTION, switch_to=new_client))
    near.send(b'lost')
    bench.wait_until(lambda: state(bench.server, server.pair).not_found > 0)


def test_segment_is_counted_under_its_key_when_its_mac_is_bad(bench: Bench) -> None:
    near, _, client, server = established(bench)
    new_client, _ = mkts(client.pair, (5, 6), b'one secret')
    _, new_server = mkts(client.pair, (5, 6), b'another')
    do(bench.server, Install(new_server, Where.CONNECTION))
    do(bench.client, Install(new_client, Where.CONNECTION))
    do(bench.client, Remove(client, Where.CONNECTION, switch_to=new_client))
    near.send(b'lost')
    bench.wait_until(
        lambda: (
            [k.bad > 0 for k in state(bench.server, server.pair).keys if k.send_id == 6] == [True]
        )
    )
    assert good(bench.server, server.pair, 6) == 0


def test_connection_stays_when_both_ends_switch_hard(bench: Bench) -> None:
    near, far, client, server = established(bench)
    new_client, new_server = mkts(client.pair, (5, 6), b'successor')
    do(bench.server, Install(new_server, Where.CONNECTION))
    do(bench.client, Install(new_client, Where.CONNECTION))
    do(bench.client, Remove(client, Where.CONNECTION, switch_to=new_client))
    do(bench.server, Remove(server, Where.CONNECTION, switch_to=new_server))
    talk(near, far)
    assert ids(bench.server, server.pair) == {(6, 5)}


def test_remove_refuses_a_key_in_use(bench: Bench) -> None:
    near, far, client, _ = established(bench)
    new_client, _ = mkts(client.pair, (5, 6), b'successor')
    do(bench.client, Install(new_client, Where.CONNECTION), SetRNext(new_client))
    assert refused(bench.client, Remove(client, Where.CONNECTION)) is Cause.BUSY, 'Current'
    assert refused(bench.client, Remove(new_client, Where.CONNECTION)) is Cause.BUSY, 'RNext'
    assert ids(bench.client, client.pair) == {(1, 2), (5, 6)}
    talk(near, far)


def test_remove_takes_a_successor_that_was_given_up(bench: Bench) -> None:
    near, far, client, _ = established(bench)
    new_client, _ = mkts(client.pair, (5, 6), b'successor')
    do(bench.client, Install(new_client, Where.CONNECTION), SetRNext(new_client))
    do(bench.client, SetRNext(client), Remove(new_client, Where.CONNECTION))
    talk(near, far)


def test_remove_refuses_the_last_key_of_a_connection(bench: Bench) -> None:
    _, _, client, _ = established(bench)
    assert refused(bench.client, Remove(client, Where.CONNECTION)) is Cause.BUSY


def test_mkt_is_refused_as_its_own_successor(bench: Bench) -> None:
    _, _, client, _ = established(bench)
    switch = Remove(client, Where.CONNECTION, switch_to=client)
    assert refused(bench.client, switch) is Cause.REFUSED
    assert ids(bench.client, client.pair) == {(1, 2)}


def test_remove_answers_gone_when_nothing_is_there(bench: Bench) -> None:
    _, _, client, _ = established(bench)
    absent, _ = mkts(client.pair, (5, 6))
    assert refused(bench.client, SetRNext(absent)) is Cause.GONE
    assert refused(bench.client, Remove(absent, Where.CONNECTION)) is Cause.GONE
    switch = Remove(client, Where.CONNECTION, switch_to=absent)
    assert refused(bench.client, switch) is Cause.GONE
    assert state(bench.client, client.pair).rnext == client.recv_id


# --- ending ---------------------------------------------------------------------------------


def test_abort_resets_the_connection_at_once(bench: Bench) -> None:
    near, far, _, server = established(bench)
    do(bench.server, Abort(server.pair, 'hard lifetime'))
    assert near.was_reset(), 'a signed RST: an unsigned one would be ignored'
    assert not far.is_established()
    assert refused(bench.server, Read(server.pair)) is Cause.GONE


def test_abort_frees_the_port_at_once(bench: Bench) -> None:
    near, far, client, server = established(bench)
    do(bench.client, Abort(client.pair, 'again'))
    near.close()
    assert far.was_reset()
    far.close()
    bench.server.drop_connection(server.pair)
    do(bench.server, Install(server, Where.LISTENER))
    again = bound(bench, client.pair)
    do(bench.client, Install(client, Where.CONNECTION))
    assert again.connect()


def test_command_answers_gone_when_there_is_no_connection(bench: Bench) -> None:
    client, _ = mkts(pair_of(bench))
    for command in (
        Install(client, Where.CONNECTION),
        Read(client.pair),
        SetRNext(client),
        Remove(client, Where.CONNECTION),
        Prune(client),
        Probe(client.pair, True),
        Abort(client.pair, 'why not'),
    ):
        assert refused(bench.client, command) is Cause.GONE


def test_dropped_connection_is_not_touched(bench: Bench) -> None:
    near, far, client, _ = established(bench)
    bench.client.drop_connection(client.pair)
    assert refused(bench.client, Abort(client.pair, 'too late')) is Cause.GONE
    # In user space it signs no octets any more.
    far.send(b'route')
    assert near.receive(5) == b'route'


def test_descriptor_is_gone_when_it_was_closed(bench: Bench) -> None:
    near, _, client, _ = established(bench)
    near.close()
    assert refused(bench.client, Read(client.pair)) is Cause.GONE


def test_key_is_refused_when_the_connection_has_ended(bench: Bench) -> None:
    near, _, client, server = established(bench)
    do(bench.server, Abort(server.pair, 'end'))
    assert near.was_reset()
    successor, _ = mkts(client.pair, (5, 6))
    assert refused(bench.client, Install(successor, Where.CONNECTION)) is Cause.GONE
    assert refused(bench.client, SetRNext(client)) is Cause.GONE


def test_key_is_refused_when_the_connection_is_up_without_ao(bench: Bench) -> None:
    listening(bench)
    client, _ = mkts(pair_of(bench))
    connection = bound(bench, client.pair)
    assert connection.connect()
    assert refused(bench.client, Install(client, Where.CONNECTION)) is Cause.REFUSED
    assert refused(bench.client, Prune(client)) is Cause.GONE


def test_socket_is_refused_when_it_is_another_connection(bench: Bench) -> None:
    connection = bench.bind(pair_of(bench, 40002))
    with pytest.raises(InstallError) as caught:
        bench.client.add_connection(pair_of(bench, 40001), connection.handle)
    assert caught.value.cause is Cause.GONE


def test_backend_does_not_close_the_socket(bench: Bench) -> None:
    near, far, client, _ = established(bench)
    assert refused(bench.client, Close(client.pair, 'cease')) is Cause.UNSUPPORTED
    talk(near, far)


def test_counter_tells_why_nothing_comes_up(bench: Bench) -> None:
    # The server signs its SYN-ACK with a key that the client has under the same ids, but not
    # with the same secret: the client sees segments that fail the MAC.
    listening(bench)
    client, server = mkts(pair_of(bench))
    _, reply = mkts(pair_of(bench), (3, 4), b'one')
    do(bench.server, Install(server, Where.LISTENER), Install(reply, Where.LISTENER))
    connection = bound(bench, client.pair)
    asked, _ = mkts(pair_of(bench), (3, 4), b'another')
    do(bench.client, Install(asked, Where.CONNECTION), Install(client, Where.CONNECTION))
    do(bench.client, SetRNext(asked))
    assert not connection.connect()
    assert [k.bad > 0 for k in state(bench.client, client.pair).keys if k.send_id == 3] == [True]

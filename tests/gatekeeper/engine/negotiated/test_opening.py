"""From a bound socket to a proven connection, on both sides."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from gatekeeper.reporting.explanations import Explanation
from gatekeeper.state.key_ids import KeyIds
from gatekeeper.state.snapshot import snapshot
from ikev2.events import RpSaRequest, Selector
from tcpao.installer import Cause, Install, Where
from tcpao.mkt import SocketPair
from tests.doubles.memory_network import Kind
from tests.gatekeeper.world import (
    FAMILIES,
    R1,
    R2,
    World,
    open_both,
    pair_of,
    policies,
    two_routers,
)


def test_both_sessions_come_up_each_under_its_own_key() -> None:
    world = World()
    r1, r2 = two_routers(world)
    open_both(r1)
    world.run(5)
    assert set(r1.sessions) == {'r1 ipv4 unicast', 'r1 ipv6 unicast'}
    assert set(r2.sessions) == {'r2 ipv4 unicast', 'r2 ipv6 unicast'}
    keys = {name: r1.keys_on(name) for name in FAMILIES}
    assert all(len(found) == 1 for found in keys.values())
    assert keys['ipv4 unicast'] != keys['ipv6 unicast']
    for name, ((send_id, recv_id),) in keys.items():
        assert r2.keys_on(name) == [(recv_id, send_id)]


def test_gatekeepers_of_both_ends_name_the_same_session() -> None:
    world = World()
    r1, r2 = two_routers(world)
    open_both(r1)
    world.run(5)
    for name in FAMILIES:
        assert r2.sessions[f'r2 {name}'] == r1.sessions[f'r1 {name}'].reversed()


def test_segments_are_all_signed() -> None:
    world = World()
    r1, _ = two_routers(world)
    open_both(r1)
    world.run(5)
    assert world.network.wire
    assert all(segment.key_id is not None for segment in world.network.wire)


def test_install_precedes_the_answer_and_the_syn() -> None:
    world = World()
    r1, r2 = two_routers(world)
    r2.installer.hold()
    open_both(r1)
    world.run(3)
    assert not r1.noted('child_sa')
    assert not world.network.wire
    r2.installer.release()
    for event in r2.installer.events():
        r2.core.handle(event, world.now)
    r2.pump()
    world.run(3)
    assert len(r1.noted('child_sa')) == 2
    assert set(r1.sessions) == {'r1 ipv4 unicast', 'r1 ipv6 unicast'}


def test_mkt_leaves_the_listener_when_its_connection_is_proven() -> None:
    world = World()
    r1, r2 = two_routers(world)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(5)
    assert r2.sessions
    assert r2.listener_keys() == 0


def test_accepted_socket_keeps_only_its_own_key() -> None:
    world = World()
    r1, r2 = two_routers(world)
    # Both MKTs are on the listener when the SYNs come.
    open_both(r1)
    world.run(5)
    for name in FAMILIES:
        assert len(r2.keys_on(name)) == 1


def test_kernel_chosen_port_is_matched_by_the_session_id() -> None:
    world = World()
    r2 = world.router('r2', policies('r2', peer_port=None), listens=True)
    r1 = world.router('r1', policies('r1', source_port=None), listens=False)
    r1.open('r1 ipv6 unicast', SocketPair(R1, 51234, R2, 179))
    world.run(5)
    assert set(r2.sessions) == {'r2 ipv6 unicast'}


def test_connection_is_refused_when_it_has_another_sessions_key() -> None:
    world = World()
    r1, r2 = two_routers(world)
    open_both(r1)
    # r1's sockets get each other's key: the SYN of one session comes under the other's KeyID.
    world.network.deliver = lambda segment: True
    r1.installer.hold()
    world.run(2)
    assert not r1.sessions
    held = [c for c in r1.installer.submitted if isinstance(c, Install)]
    assert len(held) == 2
    first, second = (command.mkt for command in held)
    socket = r1.sockets[first.pair]
    from tcpao.key_socket import Key

    socket.add(Key.of(second), select=True)
    socket.connect()
    world.run(2)
    assert not r2.sessions
    assert any('under another key' in error for error in r2.errors)
    assert not any(segment.kind is Kind.DATA for segment in world.network.wire)


def test_connection_is_refused_when_nothing_was_negotiated() -> None:
    world = World()
    _, r2 = two_routers(world)
    world.run(1)
    stranger = SocketPair(ip_address('10.0.0.9'), 4444, R2, 179)
    socket = world.network.socket(stranger)
    socket.connect()
    r2.pump()
    assert not r2.sessions
    assert any('no MKT was negotiated' in error for error in r2.errors)
    assert not any(segment.kind is Kind.DATA for segment in world.network.wire)


def test_unsigned_syn_is_refused_before_the_first_mkt() -> None:
    world = World()
    _, r2 = two_routers(world)
    socket = world.network.socket(SocketPair(R1, 40001, R2, 179))
    socket.connect()
    world.run(10)
    r2.pump()
    assert not socket.is_established()
    assert not r2.sockets


def test_gate_fails_in_time_with_a_cause_when_the_peer_is_dead() -> None:
    world = World()
    world.lose = lambda datagram: True
    r1, _ = two_routers(world, timeout=30)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(29)
    assert not r1.errors
    world.run(2)
    assert len(r1.errors) == 1
    assert 'no IKE answer' in r1.errors[0]
    assert not world.network.wire


def test_gate_names_the_cause_when_the_psk_is_wrong() -> None:
    world = World()
    world.router('r2', policies('r2', psk=b'one secret that is long enough'), listens=True)
    r1 = world.router('r1', policies('r1'), listens=False)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(10)
    assert any('authentication failed' in error for error in r1.errors)
    assert not world.network.wire


def test_session_is_refused_when_the_peer_does_not_have_it() -> None:
    world = World()
    r2 = world.router('r2', policies('r2')[:1], listens=True)
    r1 = world.router('r1', policies('r1'), listens=False)
    open_both(r1)
    world.run(5)
    assert set(r1.sessions) == {'r1 ipv4 unicast'}
    assert any('no such session at the peer' in error for error in r1.errors)
    assert any('sessions fit' in str(note.details['cause']) for note in r2.noted('refused'))


def test_peer_refuses_when_there_is_no_common_algorithm() -> None:
    world = World()
    world.router('r2', policies('r2', algorithms=('hmac-sha-1-96',)), listens=True)
    r1 = world.router('r1', policies('r1', algorithms=('aes-128-cmac-96',)), listens=False)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(5)
    assert any('no acceptable proposal' in error for error in r1.errors)


def test_responder_tells_and_shows_the_offer_and_the_remedy() -> None:
    world = World()
    r2 = world.router('r2', policies('r2', algorithms=('hmac-sha-1-96',)), listens=True)
    r1 = world.router('r1', policies('r1', algorithms=('aes-128-cmac-96',)), listens=False)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(5)
    (note,) = r2.noted('refused')
    cause = (
        'the peer offers aes-128-cmac-96 with tcp-options included, allowed here is hmac-sha-1-96 '
        'with tcp-options included'
    )
    assert (note.session, note.details['neighbor']) == ('ipv4 unicast', '10.0.0.1')
    assert note.details['cause'] == cause
    assert note.details['hint'] == 'an algorithm in common, and the same tcp-options at both ends'
    row = snapshot(r2.core.state, world.now)[0]
    assert row['last_error'] == f'request from the peer: {cause}'
    assert row['try_next'] == note.details['hint']


def test_refused_request_is_no_error_of_a_running_session() -> None:
    world = World()
    r1, r2 = two_routers(world)
    open_both(r1)
    world.run(5)
    state = r2.core.state
    (peer,), policy = state.peers.values(), state.policies['r2 ipv4 unicast']
    state.refuse_request(peer, policy, Explanation('request from the peer', 'a cause', 'a hint'))
    r2.pump()
    assert [note.details['cause'] for note in r2.noted('refused')] == ['a cause']
    (row,) = (row for row in snapshot(r2.core.state, world.now) if row['session'] == 'ipv4 unicast')
    assert (row['state'], row['last_error']) == ('in use', None)


def test_ike_failure_names_the_neighbor_and_remedies_of_both() -> None:
    world = World()
    r2 = world.router('r2', policies('r2', psk=b'one secret that is long enough'), listens=True)
    r1 = world.router('r1', policies('r1'), listens=False)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(10)
    for router, neighbor in ((r1, '10.0.0.2'), (r2, '10.0.0.1')):
        told = [note.details for note in router.noted('refused')]
        assert all(details['neighbor'] == neighbor for details in told)
        hints = {details['text']: str(details['hint']) for details in told if 'text' in details}
        assert 'the same psk-file' in hints['the pre-shared keys differ']
        assert 'in the peer' in hints['the peer refused our identity or our proof of it']


def test_ike_failure_is_told_of_each_neighbor_it_concerns() -> None:
    """By its name: operators look for the neighbor that is down."""
    world = World()
    v4, v6 = policies('r1')
    others = replace(v6, neighbor='fd00::2', remote=ip_address('10.0.0.9'))
    r1 = world.router('r1', [v4, others], listens=False)
    (peer,) = r1.core.state.peers.values()
    r1.core.state.refuse_peer(peer, Explanation('IKE_AUTH', 'a cause', 'a hint'))
    r1.pump()
    told = [(note.session, note.details['neighbor']) for note in r1.noted('refused')]
    assert told == [('ipv4 unicast', '10.0.0.2'), ('ipv6 unicast', 'fd00::2')]


def test_waiting_session_shows_the_failure_of_ike() -> None:
    """One cause, one advice: the gate says what the failed IKE SA said."""
    world = World()
    world.lose = lambda datagram: True
    r1, _ = two_routers(world, timeout=60)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(61)
    of_ike = next(note.details for note in r1.noted('refused') if 'text' in note.details)
    said = f'{of_ike["step"]}: {of_ike["cause"]}: {of_ike["text"]}; {of_ike["hint"]}'
    assert r1.errors[0].endswith(said)


def test_peer_refuses_and_keeps_nothing_when_it_does_not_listen() -> None:
    world = World()
    r2 = world.router('r2', policies('r2'), listens=False)
    r1 = world.router('r1', policies('r1'), listens=False)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(5)
    assert any('no such session at the peer' in error for error in r1.errors)
    assert not r2.core.state.connections


def test_key_is_deleted_at_the_peer_when_the_kernel_refuses_it() -> None:
    world = World()
    r1, r2 = two_routers(world)
    r1.installer.refuse_next(Install, Cause.NO_MEMORY, 'option memory')
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(2)
    assert any('key refused' in error for error in r1.errors)
    assert r2.listener_keys() == 0
    assert not r2.core.state.connections


def test_advice_names_the_firewall_when_there_are_no_rules() -> None:
    """The kernel's options are not what explains it."""
    world = World()
    r1, _ = two_routers(world)
    r1.installer.refuse_next(Install, Cause.NO_RULE, 'our rules were removed')
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(2)
    assert any('firewall' in error for error in r1.errors)


def test_opener_tries_again_when_the_responder_has_no_memory() -> None:
    world = World()
    r1, r2 = two_routers(world)
    r2.installer.refuse_next(Install, Cause.NO_MEMORY, 'option memory')
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(5)
    assert set(r1.sessions) == {'r1 ipv4 unicast'}


def test_mkt_without_connection_leaves_the_listener_after_180_s() -> None:
    world = World()
    r1, r2 = two_routers(world)
    world.network.deliver = lambda segment: False
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(170)
    assert r2.listener_keys() == 1
    world.run(12)
    assert r2.listener_keys() == 0
    assert not r2.core.state.connections
    causes = [str(note.details['cause']) for note in r2.noted('refused')]
    assert any('it has not come within 180 s' in cause for cause in causes)


def test_new_attempt_replaces_the_pending_mkt_of_its_session() -> None:
    world = World()
    r2 = world.router('r2', policies('r2', peer_port=None), listens=True)
    r1 = world.router('r1', policies('r1', source_port=None), listens=False)
    world.network.deliver = lambda segment: False
    for port in (50001, 50002, 50003):
        r1.open('r1 ipv4 unicast', SocketPair(R1, port, R2, 179))
        world.run(3)
        r1.sockets[SocketPair(R1, port, R2, 179)].vanish()
    assert r2.listener_keys() == 1
    (conn,) = r2.core.state.connections.values()
    assert conn.pair.remote_port == 50003


def test_request_replaces_the_pending_mkt_of_another_session() -> None:
    """The two would swallow each other's SYN, and the older one's end would never come."""
    world = World()
    r2 = world.router('r2', policies('r2', peer_port=None), listens=True)
    r1 = world.router('r1', policies('r1', source_port=None), listens=False)
    for number, policy in enumerate(policies('r1'), 1):
        r1.core.endpoint.request(
            r1.peer.pad.name,
            RpSaRequest(
                keyid=number,
                suites=('hmac-sha-1-96',),
                tcp_options=True,
                tsi=Selector(R1, 50001),
                tsr=Selector(R2, 179),
                session_id=policy.session.encode(),
                lifetime=3600,
            ),
            world.now,
        )
        world.run(3)
    (conn,) = r2.core.state.connections.values()
    assert conn.policy.key == 'r2 ipv6 unicast'
    assert r2.listener_keys() == 1


def test_cancelled_attempt_leaves_nothing_at_either_end() -> None:
    world = World()
    r1, r2 = two_routers(world)
    ticket = r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    ticket.cancel()
    r1.close(pair_of('ipv4 unicast'))
    world.run(5)
    assert not r1.core.state.connections
    assert not r2.core.state.connections
    assert r2.listener_keys() == 0


def test_key_is_deleted_at_the_peer_when_its_answer_is_too_late() -> None:
    world = World()
    world.copies = lambda datagram: (0.5,)
    r1, r2 = two_routers(world)
    world.run(10)  # until no request of either router is under way
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(0.7)
    assert r2.listener_keys() == 1
    r1.close(pair_of('ipv4 unicast'))
    world.run(5)
    assert r2.listener_keys() == 0


def test_ids_of_a_closed_connection_rest_for_its_pair_only() -> None:
    world = World()
    r1, r2 = two_routers(world)
    open_both(r1)
    world.run(5)
    pair, other = pair_of('ipv4 unicast'), pair_of('ipv6 unicast')
    r1.close(pair)
    world.run(1)
    for router in (r1, r2):
        keyids = router.peer.keyids
        assert len(router.peer.mkts) == len(keyids.sending) == len(keyids.receiving) == 1
        here, there = (pair, other) if router is r1 else (pair.reversed(), other.reversed())
        assert [len(ids) for ids in keyids.resting(here, world.now)] == [1, 1]
        assert [len(ids) for ids in keyids.resting(there, world.now)] == [0, 0]
        assert [len(ids) for ids in keyids.resting(here, world.now + 60)] == [0, 0]


def test_opener_asks_for_another_id_when_the_peers_is_resting() -> None:
    world, pair = World(), pair_of('ipv4 unicast')
    r1, _ = two_routers(world)
    r1.open('r1 ipv4 unicast', pair)
    world.run(3)
    resting = r1.connection('ipv4 unicast').mkt_in_use
    r1.close(pair)
    world.run(1)
    # r1 has forgotten that it rests, r2 has not.
    r1.peer.keyids = KeyIds(lambda size: bytes([(resting.send_id - 1) % 255] * size))
    r1.open('r1 ipv4 unicast', pair)
    world.run(3)
    assert r1.connection('ipv4 unicast').mkt_in_use.send_id != resting.send_id
    assert not r1.errors


def test_lost_syn_is_retried_under_the_same_key() -> None:
    world = World()
    r1, r2 = two_routers(world)
    syns = []

    def deliver(segment: object) -> bool:
        if getattr(segment, 'kind', None) is Kind.SYN:
            syns.append(segment)
            return len(syns) > 3
        return True

    world.network.deliver = deliver
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(10)
    assert set(r2.sessions) == {'r2 ipv4 unicast'}
    assert len(r1.noted('child_sa')) == 1


def test_first_install_is_on_the_listener_at_the_responder() -> None:
    world = World()
    r1, r2 = two_routers(world)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(5)
    installs = [c for c in r2.installer.submitted if isinstance(c, Install)]
    assert [command.where for command in installs] == [Where.LISTENER]

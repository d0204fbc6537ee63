"""A new configuration at any moment: what goes, what stays, and nothing that trips over it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from gatekeeper.engine.negotiated.accepting import find_policy
from gatekeeper.errors import PolicyError
from gatekeeper.policy.sessions import PadEntry, SessionPolicy
from gatekeeper.state.connection import Phase
from gatekeeper.state.ticket import Ticket
from ikev2.authentication.identity import Identity
from ikev2.events import RpSaOffer, Selector
from tcpao.installer import Cause, Install
from tests.gatekeeper.world import (
    FAMILIES,
    PORTS,
    R1,
    R2,
    Router,
    World,
    lose_rsts,
    pair_of,
    policies,
    two_routers,
    up,
)


def configure(router: Router, wanted: list[SessionPolicy]) -> None:
    router.core.configure(wanted, router.world.now)
    router.pump()


@pytest.mark.parametrize('step', ['configure', 'request'])
def test_work_for_one_peer_does_not_grow_with_their_number(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload with a thousand peers would stop all of them for a minute."""
    looks: list[PadEntry] = []

    def counted(entry: PadEntry) -> str:
        looks.append(entry)
        return f'{entry.local_id} - {entry.peer_id}'

    monkeypatch.setattr(PadEntry, 'name', property(counted))

    def looks_with(number: int) -> float:
        wanted = [
            replace(
                policy,
                key=f'{peer} {policy.key}',
                # 10.0.0.2 is r2's own.
                remote=R1 + (peer + 1 if peer else 0),
                pad=replace(policy.entry, peer_id=Identity.parse('fqdn', f'p{peer}.lab')),
            )
            for peer in range(number)
            for policy in policies('r2')
        ]
        looks.clear()
        state = World().router('r2', wanted, listens=True).core.state
        if step == 'configure':
            return len(looks) / number
        looks.clear()
        asked = RpSaOffer(
            1,
            Selector(R1, PORTS['ipv4 unicast']),
            Selector(R2, 179),
            wanted[0].session.encode(),
            lifetime=None,
            rekey_keyid=None,
            keyids_in_use=(),
            proposals=(),
        )
        assert find_policy(state, next(iter(state.peers.values())), asked) is wanted[0]
        return len(looks)

    assert looks_with(40) == looks_with(10)


def test_peer_can_be_removed_when_it_never_answered() -> None:
    world = World()
    world.lose = lambda datagram: True
    r1 = world.router('r1', policies('r1'), listens=False)
    # Its first attempt has failed, the next one waits for its time.
    world.run(30.1)
    configure(r1, [])
    world.run(200)
    assert r1.core.state.deadlines.next() is None


def test_removed_peers_connections_begin_nothing_while_closing() -> None:
    world, r1, _ = up(lifetime=60)
    r1.busy = True
    configure(r1, [])
    world.run(45)
    assert not r1.noted('rekey_started')
    r1.busy = False
    world.run(1)
    assert not r1.sessions
    assert not r1.core.state.connections


def test_connection_is_aborted_when_the_daemon_does_not_close() -> None:
    world, r1, _ = up(lifetime=60)
    r1.busy = True
    configure(r1, [])
    world.run(70)
    r1.busy = False
    world.run(1)
    assert 'hard lifetime' in r1.closed[-1][1] or not r1.sessions


def test_peer_can_be_removed_when_its_new_request_waits() -> None:
    world, r1, r2 = up()
    lose_rsts(world)
    pair = pair_of('ipv4 unicast')
    r2.busy = True
    world.lose = lambda datagram: True
    r1.close(pair)
    world.lose = lambda datagram: False
    r1.open('r1 ipv4 unicast', pair)
    world.run(3)
    assert r2.core.state.connections[pair.reversed()].replacement is not None
    configure(r2, [])
    r2.busy = False
    world.run(5)
    assert not r2.core.state.connections


def test_addresses_may_move_from_one_peer_to_another() -> None:
    world = World()
    one = policies('r1')[0]
    identity = Identity.parse('fqdn', 'r3.lab')
    pad = replace(one.entry, peer_id=identity)
    other = replace(one, key='other', remote=ip_address('10.0.0.3'), pad=pad)
    r1 = world.router('r1', [one, other], listens=False)
    configure(r1, [replace(one, remote=other.remote), replace(other, remote=one.remote)])
    found = {policy.entry.peer_id: policy.remote for policy in r1.core.state.policies.values()}
    assert found == {one.entry.peer_id: other.remote, identity: one.remote}


@pytest.mark.parametrize('change', [{'local': ip_address('fd00::1')}, {'lifetime': 2**32}])
def test_policy_is_refused_when_ike_cannot_encode_it(change: dict[str, object]) -> None:
    _, r1, _ = up()
    before = dict(r1.core.state.policies)
    with pytest.raises(PolicyError):
        configure(r1, [replace(policies('r1')[0], **change)])  # type: ignore[arg-type]
    assert r1.core.state.policies == before
    assert len(r1.sessions) == 2


def test_removed_sessions_key_leaves_the_listener_and_the_peer() -> None:
    world = World()
    r1, r2 = two_routers(world)
    world.network.deliver = lambda segment: False
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(2)
    assert r2.listener_keys() == 1
    configure(r2, policies('r2')[1:])
    assert r2.listener_keys() == 0
    assert not r2.core.state.connections
    world.run(1)
    assert not r1.core.state.connections


def test_session_is_rekeyed_at_once_when_algorithms_are_new() -> None:
    both = ('hmac-sha-1-96', 'aes-128-cmac-96')
    world, r1, r2 = up(algorithms=both)
    for name, router in (('r1', r1), ('r2', r2)):
        configure(router, policies(name, algorithms=both[::-1]))
    world.run(10)
    for name in FAMILIES:
        assert r1.connection(name).mkt_in_use.key.algorithm.name == 'aes-128-cmac-96'
    assert not r1.closed
    assert not r2.closed


def test_opening_is_refused_when_its_session_was_just_removed() -> None:
    _, r1, _ = up()
    configure(r1, policies('r1')[:1])
    ticket = Ticket(lambda: None)
    r1.core.open('r1 ipv6 unicast', pair_of('ipv6 unicast'), ticket, r1.world.now)
    assert ticket.done
    assert 'not configured' in str(ticket.error)


def test_opening_fails_when_its_algorithms_are_not_available() -> None:
    world = World()
    r1, r2 = two_routers(world)
    world.run(1)
    r2.installer.refuse_next(Install, Cause.NO_MEMORY)
    ticket = r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(0.1)
    configure(r1, policies('r1', algorithms=('kmac256-128',)))
    world.run(2)
    assert 'this host can do none of' in str(ticket.error)


def test_closing_session_takes_no_part_in_anything_more() -> None:
    world, r1, _ = up(lifetime=60)
    r1.busy = True
    configure(r1, policies('r1')[1:])
    conn = r1.core.state.connections[pair_of('ipv4 unicast')]
    assert conn.phase is Phase.ENDING
    world.run(45)
    assert conn.rekeys == 0
    assert r1.connection('ipv6 unicast').phase is Phase.PROVEN


def test_running_request_is_undone_when_its_peer_is_changed() -> None:
    world = World()
    r1, r2 = two_routers(world)
    # A session that stays: so there is no INITIAL_CONTACT that would do it.
    r1.open('r1 ipv6 unicast', pair_of('ipv6 unicast'))
    world.run(10)
    world.lose = lambda datagram: datagram.local == R2
    ticket = r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(0.1)
    assert r2.listener_keys() == 1
    ticket.cancel()
    pad = replace(policies('r1')[0].entry, ike_lifetime=600)
    configure(r1, policies('r1', pad=pad))
    world.lose = lambda datagram: False
    world.run(10)
    assert [conn.policy.session.name for conn in r2.core.state.connections.values()] == [
        'ipv6 unicast'
    ]
    assert r2.listener_keys() == 0

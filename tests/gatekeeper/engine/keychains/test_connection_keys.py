"""Sessions with manual keys: opened, accepted, denied; rolled over by lifetime and by reload."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from math import inf

import pytest

from gatekeeper.errors import PolicyError
from gatekeeper.policy.sessions import check
from gatekeeper.state.mkt_record import MktState
from gatekeeper.state.snapshot import DENIED, snapshot
from keymaterial import Secret
from tcpao.installer import Cause, Guard, Install, SetRNext
from tcpao.mkt import ALGORITHMS, PeerPairs
from tests.gatekeeper.manual_world import (
    PAIR,
    V4,
    connect,
    current,
    is_down,
    is_up,
    key,
    key_numbers,
    listening,
    never_closed,
    reload,
    sessions,
    two_routers,
    up,
)
from tests.gatekeeper.world import World, pair_of, policies

START = 1000.0
"""When the world begins."""
CHANGE = START + 600
# Key 2 is accepted before it is sent, key 1 is still accepted when it isn't sent any more.
ROLLOVER = [
    key(1, send=(-inf, CHANGE + 120), accept=(-inf, CHANGE + 300)),
    key(2, send=(CHANGE, inf), accept=(CHANGE - 300, inf)),
]


# --- up -------------------------------------------------------------------------------------


def test_session_comes_up_under_a_manual_key_without_ike() -> None:
    world = World()
    r1, r2 = up(world, [key(1)])
    assert current(r1) == current(r2) == (1, 1)
    assert world.datagrams == 0


def test_key_stays_on_the_listener_and_deny_key_goes() -> None:
    world = World()
    r1, r2 = up(world, [key(1)])
    world.run(600)
    assert listening(r2) == [1]
    assert key_numbers(r1) == key_numbers(r2) == [1]


def test_connection_has_every_accepted_key_and_uses_one() -> None:
    world = World()
    r1, r2 = up(world, [key(1), key(2, send=(0, inf)), key(3, send=(START + 1e6, inf))])
    assert current(r1) == current(r2) == (2, 2)
    assert key_numbers(r1) == key_numbers(r2) == [1, 2, 3]


def test_session_comes_up_again() -> None:
    world = World()
    r1, r2 = up(world, [key(1)])
    r1.close(PAIR)
    world.run(1)
    assert is_down(r1, r2)
    connect(r1)
    world.run(2)
    assert is_up(r1, r2)


def test_closed_connection_leaves_nothing() -> None:
    world = World()
    r1, r2 = up(world, [key(1), key(2)])
    lives = r1.connection(V4).mkts()
    r1.close(PAIR)
    world.run(1)
    assert all(life.state is MktState.GONE and life.key.master_key.wiped for life in lives)
    for router in (r1, r2):
        assert not router.core.state.connections
        assert router.core.next_timer() is None
    assert listening(r2) == [1, 2]


def test_chain_key_is_not_wiped_with_a_connection() -> None:
    world = World()
    r1, _ = up(world, [key(1)])
    r1.close(PAIR)
    connect(r1)
    world.run(2)
    assert is_up(r1)


def test_gatekeeper_waits_for_nothing_when_lifetimes_never_end() -> None:
    world = World()
    r1, r2 = up(world, [key(1)])
    world.run(60)
    assert r1.core.next_timer() is None
    assert r2.core.next_timer() is None


# --- denied ---------------------------------------------------------------------------------


def test_session_does_not_come_up_when_secrets_differ() -> None:
    world = World()
    r1, r2 = two_routers(world, [key(1)], [key(1, master_key=Secret(b'another'))])
    connect(r1)
    world.run(10)
    assert is_down(r1, r2)


def test_unsigned_syn_is_denied() -> None:
    world = World()
    _, r2 = two_routers(world, [key(1)])
    stranger = world.network.socket(PAIR)
    stranger.connect()
    world.run(10)
    assert not stranger.is_established()
    assert r2.listener is not None
    assert r2.listener.accept() is None


def test_expired_chain_does_not_connect_and_tells_why() -> None:
    world = World()
    r1, _ = two_routers(world, [key(1, send=(0, START - 1))])
    connect(r1)
    world.run(1)
    assert 'before connect: keychain core has expired' in r1.errors[0]
    assert r1.core.state.connections == {}


def test_future_chain_does_not_connect() -> None:
    world = World()
    r1, r2 = two_routers(world, [key(1, send=(START + 100, inf))])
    connect(r1)
    world.run(1)
    assert 'no key that may be sent under before key 1' in r1.errors[0]
    world.run(100)
    connect(r1)
    world.run(2)
    assert is_up(r1, r2)


def test_expired_chain_accepts_no_connection() -> None:
    world = World()
    expired = [key(1, send=(0, START - 1), accept=(0, START + 1000))]
    r1, r2 = two_routers(world, [key(1)], expired)
    connect(r1)
    world.run(5)
    assert not is_up(r2)
    assert 'keychain core has expired' in r2.errors[0]


def test_connection_is_not_begun_when_it_would_end_at_once() -> None:
    """A session gets its Cease 5 s before the last key ends: no new one in these, on neither side,
    whichever key lasts longer."""
    ends = [key(1, send=(0, START + 20))]
    for ours, theirs in ((ends, [key(1)]), ([key(1)], ends)):
        world = World()
        r1, r2 = two_routers(world, ours, theirs)
        world.run(START + 16 - world.now)
        connect(r1)
        world.run(2)
        assert is_down(r1, r2)
        denies = r1 if ours is ends else r2
        assert 'keychain core has expired: key 1' in denies.errors[0]
        assert snapshot(denies.core.state, world.now)[0]['state'] == DENIED


def test_chain_accepts_until_the_last_moment_when_it_goes_on() -> None:
    world = World()
    r1, r2 = two_routers(world, [key(1, send=(0, START + 20)), key(2, send=(START + 20, inf))])
    world.run(START + 18 - world.now)
    connect(r1)
    world.run(10)
    assert is_up(r1, r2)


def test_key_leaves_the_listener_when_it_is_not_accepted() -> None:
    world = World()
    r1, r2 = two_routers(world, [key(1)], [key(1, send=(0, START), accept=(0, START + 50))])
    world.run(51)
    assert listening(r2) == []
    connect(r1)
    world.run(10)
    assert is_down(r1, r2)


def test_session_ceases_before_the_last_key_ends() -> None:
    world = World()
    r1, r2 = up(world, [key(1, send=(0, START + 100), accept=(0, START + 200))])
    world.run(START + 94 - world.now)
    assert never_closed(r1, r2)
    world.run(2)
    assert is_down(r1, r2)
    causes = [cause for _, cause in r1.closed + r2.closed]
    assert causes
    assert all(
        cause.startswith('keychain core: key 1') and cause.endswith('ends, and no key follows it')
        for cause in causes
    )
    connect(r1)
    world.run(100)
    assert is_down(r1, r2)


def test_session_is_aborted_when_the_daemon_does_not_close() -> None:
    world = World()
    r1, r2 = up(world, [key(1, send=(0, START + 100), accept=(0, START + 200))])
    r1.busy = r2.busy = True
    world.run(START + 101 - world.now)
    r1.busy = r2.busy = False
    world.settle()
    assert is_down(r1, r2)


# --- rollover by lifetime -------------------------------------------------------------------


def test_rollover_by_lifetime_does_not_flap() -> None:
    world = World()
    r1, r2 = up(world, ROLLOVER)
    assert key_numbers(r1) == [1]
    world.run(CHANGE - 299 - world.now)
    assert key_numbers(r1) == key_numbers(r2) == listening(r2) == [1, 2]
    assert current(r1) == (1, 1), 'it is accepted before it is sent'
    world.run(CHANGE + 5 - world.now)
    assert current(r1) == current(r2) == (2, 2)
    assert key_numbers(r1) == key_numbers(r2) == listening(r2) == [1, 2], 'still accepted'
    world.run(CHANGE + 301 - world.now)
    assert key_numbers(r1) == key_numbers(r2) == listening(r2) == [2]
    world.run(1000)
    assert never_closed(r1, r2)
    assert world.datagrams == 0


def test_rollover_is_told_step_by_step() -> None:
    world = World()
    r1, _ = up(world, ROLLOVER)
    world.run(1000)
    names = [note.event for note in r1.notes if note.session == V4]
    assert names == [
        'mkt_installed',
        'established',
        'mkt_installed',
        'rekey_started',
        'rnext_moved',
        'mkt_removed',
    ]
    assert r1.connection(V4).rekeys == 1


def test_rollover_does_not_flap_when_clocks_differ_by_a_minute() -> None:
    world = World()
    r1, r2 = up(world, ROLLOVER)
    r1.core.set_clock(world.now + 30, world.now)
    r2.core.set_clock(world.now - 30, world.now)
    world.run(1500)
    assert current(r1) == current(r2) == (2, 2)
    assert never_closed(r1, r2)


def test_rollover_does_not_flap_when_lifetimes_abut() -> None:
    """Nothing is sent under both, but both are accepted for a while."""
    world = World()
    keys = [
        key(1, send=(-inf, CHANGE), accept=(-inf, CHANGE + 60)),
        key(2, send=(CHANGE, inf), accept=(CHANGE - 60, inf)),
    ]
    r1, r2 = up(world, keys)
    world.run(CHANGE + 70 - world.now)
    assert current(r1) == current(r2) == (2, 2)
    assert key_numbers(r1) == [2]
    assert never_closed(r1, r2)


def test_rollover_without_overlap_works_when_clocks_agree() -> None:
    world = World()
    keys = [
        key(1, send=(-inf, CHANGE), accept=(-inf, CHANGE)),
        key(2, send=(CHANGE, inf), accept=(CHANGE, inf)),
    ]
    r1, r2 = up(world, keys)
    world.run(CHANGE + 70 - world.now)
    assert current(r1) == current(r2) == (2, 2)
    assert never_closed(r1, r2)


def test_chain_of_many_keys_runs_for_years() -> None:
    world = World()
    month = 30 * 86400.0
    keys = [
        key(
            n,
            send_id=n,
            recv_id=n,
            send=(n * month, (n + 1) * month + 3600),
            accept=(n * month - 3600, (n + 1) * month + 7200),
        )
        for n in range(1, 61)
    ]
    world.now = month * 1.5
    world.network.now = world.now
    r1, r2 = up(world, keys)
    world.run(58 * month)
    assert never_closed(r1, r2)
    assert r1.connection(V4).rekeys == 58
    assert r1.keys_on(V4) == r2.keys_on(V4) == [(59, 59)]


def test_connection_of_a_late_peer_moves_to_the_new_key() -> None:
    """The connection opens under the old key, which is accepted, though not sent, any more."""
    world = World()
    late = [key(1), key(2, send=(CHANGE + 1e6, inf))]
    r1, r2 = two_routers(world, late, ROLLOVER)
    world.run(CHANGE + 150 - world.now)
    connect(r1)
    world.run(10)
    assert is_up(r1, r2)
    assert current(r1) == (2, 1), 'it follows our RNext and keeps its own'
    assert current(r2) == (1, 2)


# --- rollover by reload ---------------------------------------------------------------------


def test_added_key_changes_nothing_until_the_old_one_goes() -> None:
    """RFC 8177 2.2: distribute the new key, then have it sent, then remove the old one."""
    world = World()
    r1, r2 = up(world, [key(1)])
    reload(r1, [key(1), key(2)])
    world.run(3600)
    assert key_numbers(r1) == [1, 2]
    reload(r2, [key(1), key(2)])
    world.run(3600)
    assert key_numbers(r2) == listening(r2) == [1, 2]
    assert current(r1) == current(r2) == (1, 1)
    reload(r1, [key(2)])
    world.run(5)
    assert current(r2) == (2, 1), 'r2 has followed; its own RNext is its operators affair'
    reload(r2, [key(2)])
    world.run(180)
    assert current(r1) == current(r2) == (2, 2)
    assert key_numbers(r1) == key_numbers(r2) == listening(r2) == [2]
    assert never_closed(r1, r2)


def test_session_stays_when_an_hour_is_between_two_reloads() -> None:
    """The peer has shown that it has the new key: after `grace` the old one is left by force."""
    world = World()
    r1, r2 = up(world, [key(1), key(2)])
    reload(r1, [key(2)])
    world.run(3600)
    assert key_numbers(r1) == [2]
    assert current(r1) == (2, 2)
    assert current(r2) == (2, 1)
    reload(r2, [key(2)])
    world.run(180)
    assert key_numbers(r2) == [2]
    assert never_closed(r1, r2)


def test_session_ends_when_its_peer_cannot_leave_a_removed_key() -> None:
    world = World()
    r1, r2 = up(world, [key(1)])
    reload(r1, [key(2)])
    world.run(50)
    assert never_closed(r1, r2)
    world.run(20)
    assert not is_up(r1)
    assert 'and the peer does not use key 2' in r1.closed[0][1]
    connect(r1)
    world.run(60)
    assert is_down(r1, r2)


def test_session_ends_at_once_when_the_last_key_is_removed() -> None:
    world = World()
    r1, _ = up(world, [key(1)])
    reload(r1, [key(2, send=(START + 1e6, inf))])
    world.run(1)
    assert not is_up(r1)
    assert 'no key follows' in r1.closed[0][1]


def test_shorter_lifetime_takes_effect_at_once() -> None:
    world = World()
    r1, r2 = up(world, [key(1), key(2)])
    for router in (r1, r2):
        reload(router, [key(1, send=(0, START + 30), accept=(0, START + 90)), key(2)])
    world.run(120)
    assert current(r1) == current(r2) == (2, 2)
    assert key_numbers(r1) == [2]
    assert never_closed(r1, r2)


def test_longer_lifetime_takes_effect_before_the_old_end() -> None:
    world = World()
    short = [key(1, send=(0, START + 60), accept=(0, START + 60))]
    r1, r2 = up(world, short)
    for router in (r1, r2):
        reload(router, [key(1)])
    world.run(1000)
    assert never_closed(r1, r2)


def test_returning_key_is_used_again() -> None:
    world = World()
    r1, r2 = up(world, [key(1), key(2)])
    for router in (r1, r2):
        reload(router, [key(2)])
    world.run(10)
    for router in (r1, r2):
        reload(router, [key(1), key(2)])
    world.run(120)
    assert current(r1) == current(r2) == (1, 1)
    assert key_numbers(r1) == key_numbers(r2) == [1, 2]
    assert never_closed(r1, r2)


def test_chain_may_get_another_name() -> None:
    world = World()
    r1, r2 = up(world, [key(1)])
    (policy,) = sessions('r1', [key(1)])
    assert policy.keychain is not None
    renamed = replace(policy, keychain=replace(policy.keychain, name='edge'))
    r1.core.configure([renamed], world.now)
    world.run(600)
    assert never_closed(r1, r2)


def test_removed_neighbor_is_closed_and_its_keys_go() -> None:
    world = World()
    _, r2 = up(world, [key(1)])
    r2.core.configure([], world.now)
    world.run(2)
    assert not is_up(r2)
    assert listening(r2) == []


def test_session_closes_when_an_address_changes() -> None:
    world = World()
    r1, _ = up(world, [key(1)])
    (policy,) = sessions('r1', [key(1)])
    r1.core.configure([replace(policy, remote=PAIR.local, local=PAIR.remote)], world.now)
    world.run(2)
    assert not is_up(r1)


def test_reload_is_refused_when_old_ids_get_new_secrets() -> None:
    world = World()
    r1, r2 = up(world, [key(1)])
    with pytest.raises(PolicyError, match='give a new key new ids'):
        reload(r1, [key(1, master_key=Secret(b'new'))])
    with pytest.raises(PolicyError, match='not the key that had its ids'):
        reload(r2, [key(1, algorithm=ALGORITHMS['aes-128-cmac-96'])])
    world.run(60)
    assert current(r1) == (1, 1)
    assert never_closed(r1, r2)


# --- what goes wrong ------------------------------------------------------------------------


def test_new_key_with_a_wrong_secret_is_left_and_session_stays() -> None:
    world = World()
    wrong = [ROLLOVER[0], replace(ROLLOVER[1], master_key=Secret(b'a typing error'))]
    r1, r2 = up(world, ROLLOVER, wrong)
    world.run(CHANGE + 30 - world.now)
    assert current(r1) == current(r2) == (1, 1)
    assert never_closed(r1, r2)
    rows = snapshot(r1.core.state, world.now) + snapshot(r2.core.state, world.now)
    assert any('fail the MAC' in str(row['last_error']) for row in rows)


def test_failed_key_is_tried_again_and_mended_by_a_reload() -> None:
    world = World()
    old = replace(ROLLOVER[0], send=key(1).send, accept=key(1).accept)
    good = [old, ROLLOVER[1]]
    wrong = [old, replace(ROLLOVER[1], master_key=Secret(b'a typing error'))]
    r1, r2 = up(world, good, wrong)
    world.run(CHANGE + 600 - world.now)
    started = len(r1.noted('rekey_started'))
    assert 2 <= started <= 6, 'a minute after the first failure, then later each time'
    reload(r2, [old])
    world.run(120)
    reload(r2, good)
    world.run(3700)
    assert current(r1) == current(r2) == (2, 2)
    assert never_closed(r1, r2)


def test_session_ends_with_the_last_good_key_at_a_wrong_secret() -> None:
    world = World()
    wrong = [ROLLOVER[0], replace(ROLLOVER[1], master_key=Secret(b'a typing error'))]
    r1, r2 = up(world, ROLLOVER, wrong)
    world.run(CHANGE + 320 - world.now)
    assert is_down(r1, r2)


def test_peer_that_prefers_another_key_keeps_it() -> None:
    world = World()
    r1, r2 = up(world, [key(1), key(2, send=(0, inf))], [key(1, send=(0, inf)), key(2)])
    world.run(3600)
    assert never_closed(r1, r2)
    (row,) = snapshot(r2.core.state, world.now)
    assert row['state'] == 'in use'
    assert 'the peer sends under key 1' in str(row['last_error'])
    assert 'but asks for another' in str(row['last_error'])


def test_peer_moves_when_it_gets_the_key_later() -> None:
    world = World()
    r1, r2 = up(world, [key(1)])
    reload(r1, [key(1), key(2, send=(0, inf))])
    world.run(7200)
    assert current(r1) == (1, 2)
    assert current(r2) == (1, 1)
    reload(r2, [key(1), key(2, send=(0, inf))])
    world.run(130)
    assert current(r1) == current(r2) == (2, 2)
    assert not r1.core.state.errors
    assert never_closed(r1, r2)


def test_peer_that_does_not_follow_is_not_polled() -> None:
    world = World()
    r1, _ = up(world, [key(1)])
    reload(r1, [key(1), key(2, send=(0, inf))])
    world.run(300)
    before = len(r1.installer.submitted)
    world.run(3600)
    assert len(r1.installer.submitted) - before <= 62


def test_key_is_tried_again_when_the_listener_refuses_it() -> None:
    world = World()
    r2 = world.router('r2', sessions('r2', [key(2)]), listens=True)
    r2.installer.refuse_next(Install, Cause.NO_MEMORY)
    reload(r2, [key(1), key(2)])
    assert listening(r2) == [2]
    assert 'installing the key on the listener' in str(r2.core.state.errors[f'r2 {V4}'])
    world.run(6)
    assert listening(r2) == [1, 2]


def test_key_is_tried_again_when_a_connection_refuses_it() -> None:
    world = World()
    r1, r2 = up(world, [key(1)])
    r1.installer.refuse_next(Install, Cause.NO_MEMORY)
    reload(r1, [key(1), key(2)])
    world.run(1)
    assert key_numbers(r1) == [1]
    world.run(65)
    assert key_numbers(r1) == [1, 2]
    assert never_closed(r1, r2)


def test_socket_does_not_connect_when_it_refuses_any_key() -> None:
    world = World()
    r1, _ = two_routers(world, [key(1), key(2)])
    r1.installer.refuse_next(Install, Cause.UNSUPPORTED, 'no such algorithm')
    connect(r1)
    world.run(1)
    assert 'key refused: no such algorithm' in r1.errors[0]


# --- the clock ------------------------------------------------------------------------------


def test_clock_set_forward_ends_what_is_over() -> None:
    world = World()
    r1, _ = up(world, [key(1, send=(0, START + 10_000), accept=(0, START + 10_000))])
    r1.core.set_clock(START + 20_000, world.now)
    world.run(6)
    assert not is_up(r1)


def test_session_comes_up_when_the_clock_is_set_after_the_start() -> None:
    """A router without a battery begins in 1970."""
    world = World()
    epoch = 1_800_000_000.0
    r1, r2 = two_routers(world, [key(1, send=(epoch, inf), accept=(epoch, inf))])
    connect(r1)
    world.run(1)
    assert 'before key 1' in r1.errors[0]
    for router in (r1, r2):
        router.core.set_clock(epoch + 5, world.now)
    world.settle()
    connect(r1)
    world.run(2)
    assert is_up(r1, r2)


def test_drifting_clock_changes_nothing_at_once() -> None:
    world = World()
    r1, _ = up(world, ROLLOVER)
    before = len(r1.installer.submitted)
    shown = snapshot(r1.core.state, world.now)
    r1.core.set_clock(world.now + 0.05, world.now)
    assert r1.core.take_commands() == []
    assert len(r1.installer.submitted) == before
    assert snapshot(r1.core.state, world.now) == shown


def test_clock_set_back_returns_to_the_old_key() -> None:
    world = World()
    r1, r2 = up(world, ROLLOVER)
    world.run(CHANGE + 10 - world.now)
    assert current(r1) == (2, 2)
    for router in (r1, r2):
        router.core.set_clock(world.now - 120, world.now)
    world.run(20)
    assert current(r1) == current(r2) == (1, 1)
    world.run(200)
    assert current(r1) == current(r2) == (2, 2)
    assert never_closed(r1, r2)


# --- several sessions -----------------------------------------------------------------------


def test_two_sessions_of_one_peer_share_a_chain_on_the_listener() -> None:
    world = World()
    (policy,) = sessions('r2', [key(1)])
    other = replace(policy, key='r2 other', peer_port=40002)
    r2 = world.router('r2', [policy, other], listens=True)
    assert listening(r2) == [1]
    installs = [c for c in r2.installer.submitted if isinstance(c, Install)]
    assert len(installs) == 1
    assert isinstance(installs[0].mkt.protects, PeerPairs)
    (first,) = sessions('r1', [key(1)])
    pair = replace(PAIR, local_port=40002)
    second = replace(first, key='r1 other', source_port=40002)
    r1 = world.router('r1', [first, second], listens=False)
    connect(r1)
    r1.open('r1 other', pair)
    world.run(2)
    assert r2.sessions == {f'r2 {V4}': PAIR.reversed(), 'r2 other': pair.reversed()}
    r2.core.configure([other], world.now)
    world.run(2)
    assert listening(r2) == [1], 'the other one still needs it'


def test_two_sessions_are_told_apart_by_their_chains() -> None:
    world = World()
    (one,) = sessions('r2', [key(1)], peer_port=None)
    (two,) = sessions('r2', [key(2)], peer_port=None)
    assert two.keychain is not None
    two = replace(two, key='r2 other', keychain=replace(two.keychain, name='edge'))
    r2 = world.router('r2', [one, two], listens=True)
    r1 = world.router('r1', sessions('r1', [key(2)]), listens=False)
    connect(r1)
    world.run(2)
    assert list(r2.sessions) == ['r2 other']


def test_negotiated_and_manual_sessions_work_side_by_side() -> None:
    """One AFI/SAFI session of a neighbor may have a keychain in place of IKE."""
    world = World()
    mixed = {}
    for name in ('r2', 'r1'):
        negotiated = policies(name)[1]
        mixed[name] = world.router(
            name, [*sessions(name, [key(1)]), negotiated], listens=name == 'r2'
        )
    r1, r2 = mixed['r1'], mixed['r2']
    connect(r1)
    r1.open('r1 ipv6 unicast', pair_of('ipv6 unicast'))
    world.run(5)
    assert len(r1.sessions) == len(r2.sessions) == 2
    world.run(10_000)
    assert never_closed(r1, r2)
    assert r1.connection('ipv6 unicast').rekeys >= 2
    r1.kill()
    r1 = world.router('r1', [*sessions('r1', [key(1)]), policies('r1')[1]], listens=False)
    world.run(5)
    connect(r1)
    r1.open('r1 ipv6 unicast', pair_of('ipv6 unicast'))
    world.run(5)
    assert len(r1.sessions) == len(r2.sessions) == 2


def test_negotiated_keys_use_no_id_of_a_chain() -> None:
    world = World()
    every = [key(n, send_id=n, recv_id=n) for n in range(1, 251)]
    mixed = [
        world.router(name, [*sessions(name, every), policies(name)[1]], listens=name == 'r2')
        for name in ('r2', 'r1')
    ]
    r2, r1 = mixed
    r1.open('r1 ipv6 unicast', pair_of('ipv6 unicast'))
    world.run(5)
    assert list(r2.sessions) == ['r2 ipv6 unicast']
    ((send_id, recv_id),) = r1.keys_on('ipv6 unicast')
    assert send_id > 250
    assert recv_id > 250


def test_connection_is_refused_when_no_session_has_its_port() -> None:
    world = World()
    r1, r2 = two_routers(world, [key(1)])
    (policy,) = sessions('r1', [key(1)], source_port=50000)
    r1.core.configure([policy], world.now)
    pair = replace(PAIR, local_port=50000)
    r1.open(f'r1 {V4}', pair)
    world.run(5)
    assert not is_up(r2)
    assert 'no MKT was negotiated for it' in r2.errors[0]


# --- what is configured ---------------------------------------------------------------------


def test_sessions_are_refused_when_nothing_tells_them_apart() -> None:
    (one,) = sessions('r2', [key(1)], peer_port=None)
    with pytest.raises(PolicyError, match='cannot be told apart'):
        check([one, replace(one, key='other')])
    check([one, replace(one, key='other', peer_port=40002)])


def test_chains_are_refused_when_they_share_an_id_at_one_peer() -> None:
    (one,) = sessions('r2', [key(1)])
    (two,) = sessions('r2', [key(1, master_key=Secret(b'other'))], peer_port=40002)
    assert two.keychain is not None
    two = replace(two, key='other', keychain=replace(two.keychain, name='edge'))
    with pytest.raises(PolicyError, match='have an id in common'):
        check([one, two])
    check([one, replace(two, remote=ip_address('10.0.0.3'))])


def test_session_is_refused_when_it_has_both_kinds_of_keys() -> None:
    (one,) = sessions('r1', [key(1)])
    with pytest.raises(PolicyError, match='one of the two'):
        check([replace(one, keychain=None)])
    with pytest.raises(PolicyError, match='one of the two'):
        check([replace(one, pad=policies('r1')[0].pad)])


def test_bad_chain_is_refused_by_name() -> None:
    (one,) = sessions('r1', [key(1, send=(10, 5))])
    with pytest.raises(PolicyError, match='keychain core key 1: send-lifetime'):
        check([one])


# --- what is shown --------------------------------------------------------------------------


def test_row_shows_the_session() -> None:
    world = World()
    r1, r2 = up(world, ROLLOVER)
    (row,) = snapshot(r1.core.state, world.now)
    assert row['keychain'] == 'core'
    assert row['state'] == 'in use'
    assert (row['send_id'], row['recv_id']) == (11, 21)
    assert row['peer_id'] is row['ike'] is row['last_error'] is None
    assert row['expires'] == CHANGE + 120 + 60, 'grace for the peer to move'
    (row,) = snapshot(r2.core.state, world.now)
    assert row['keychain'] == 'core'


def test_row_shows_the_key_in_use_and_the_next_change() -> None:
    world = World()
    r1, r2 = up(world, ROLLOVER)
    for router in (r1, r2):
        (row,) = snapshot(router.core.state, world.now)
        assert (row['key'], row['next_key'], row['next_change']) == (1, 2, CHANGE)
    world.run(700)
    for router in (r1, r2):
        (row,) = snapshot(router.core.state, world.now)
        assert (row['key'], row['next_key'], row['next_change']) == (2, None, None)


def test_row_shows_the_state_of_each_key() -> None:
    """RFC 8177 3.1: send-lifetime-active and accept-lifetime-active."""
    world = World()
    r1, _ = up(world, [*ROLLOVER, key(3, send=(START + 5000, inf), accept=(START + 4000, inf))])
    (row,) = snapshot(r1.core.state, world.now)
    keys = row['keys']
    assert isinstance(keys, list)
    assert [(k['key'], k['send_lifetime_active'], k['accept_lifetime_active']) for k in keys] == [
        (1, True, True),
        (2, False, False),
        (3, False, False),
    ]
    world.run(CHANGE - 200 - world.now)
    (row,) = snapshot(r1.core.state, world.now)
    keys = row['keys']
    assert isinstance(keys, list)
    assert keys[1] == {
        'key': 2,
        'send_id': 12,
        'recv_id': 22,
        'algorithm': 'hmac-sha-1-96',
        'send_lifetime_active': False,
        'accept_lifetime_active': True,
    }


def test_expired_chain_shows_why_both_ends_deny() -> None:
    """The listener too: it receives no SYN, and would have nothing else to say."""
    world = World()
    end = START + 100
    r1, r2 = up(world, [key(1, send=(-inf, end), accept=(-inf, end))])
    (row,) = snapshot(r1.core.state, world.now)
    assert (row['next_key'], row['next_change']) == (None, end)
    world.run(200)
    for router in (r1, r2):
        (row,) = snapshot(router.core.state, world.now)
        assert row['state'] == 'down: the keychain denies'
        assert 'has expired: key 1' in str(row['last_error'])
        assert str(row['last_error']).endswith('until 1970-01-01T00:18:20Z')


def test_future_chain_shows_when_it_begins() -> None:
    world = World()
    _, r2 = two_routers(world, [key(1, send=(START + 100, inf))])
    (row,) = snapshot(r2.core.state, world.now)
    assert row['state'] == 'down: the keychain denies'
    assert (row['next_key'], row['next_change']) == (1, START + 100)


def test_row_and_events_hold_no_secret() -> None:
    world = World()
    r1, r2 = up(world, ROLLOVER)
    world.run(1000)
    reload(r1, [key(2), key(3)])
    for router in (r1, r2):
        state = router.core.state
        told = repr((snapshot(state, world.now), router.notes, router.errors))
        told += repr((router.installer.submitted, state.policies))
        for number in (1, 2, 3):
            secret = b'manual secret %d' % number
            assert secret.decode() not in told
            assert secret.hex() not in told


def test_endless_chain_does_not_expire() -> None:
    world = World()
    r1, _ = up(world, [key(1)])
    (row,) = snapshot(r1.core.state, world.now)
    assert row['expires'] is None


def test_idle_listener_waits_for_the_syn() -> None:
    world = World()
    _, r2 = two_routers(world, [key(1)])
    (row,) = snapshot(r2.core.state, world.now)
    assert row['state'] == "waiting for the peer's SYN"


def test_key_table_gets_every_key_of_a_connection() -> None:
    world = World()
    r1, r2 = up(world, [key(1), key(2)])
    assert sorted((mkt.send_id, mkt.recv_id) for mkt in r1.keyed) == [(11, 21), (12, 22)]
    assert sorted((mkt.send_id, mkt.recv_id) for mkt in r2.keyed) == [(21, 11), (22, 12)]
    assert all(mkt.pair == PAIR for mkt in r1.keyed)


def test_current_is_never_set() -> None:
    """Only RNext is ours to move; RFC 5925 7.5.1."""
    world = World()
    r1, _ = up(world, ROLLOVER)
    world.run(1000)
    moved = [c for c in r1.installer.submitted if isinstance(c, SetRNext)]
    assert len(moved) == 1
    assert not any(getattr(c, 'switch_to', None) for c in r1.installer.submitted)
    assert Guard not in {type(c) for c in r1.installer.submitted}

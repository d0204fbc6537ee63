"""Keychains on this kernel's TCP-AO: against a router whose sockets are set by hand, as another
make's would be, and against a gatekeeper of our own."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from gatekeeper.clock import both_clocks
from gatekeeper.errors import PolicyError
from gatekeeper.policy.keychain import ChainKey, Keychain
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.service.gatekeeper import Gatekeeper
from keymaterial import Secret
from tcpao.kernel.installer import LinuxSocket, why_unsupported
from tcpao.mkt import ALGORITHMS
from tests.descriptors import descriptors
from tests.gatekeeper import manual_world
from tests.gatekeeper.by_hand import ByHand
from tests.gatekeeper.manual_world import V4, key
from tests.gatekeeper.service.test_gatekeeper import (
    PATIENCE,
    Daemon,
    keys_on,
    loopback,
    r1,
    r2,
    run,
)
from tests.gatekeeper.world import PORTS

__all__ = ['loopback', 'r1', 'r2']

pytestmark = pytest.mark.kernel

SOON = 3.0
"""Seconds until a lifetime begins."""


def policies(name: str, keys: list[ChainKey], **changes: Any) -> list[SessionPolicy]:
    return manual_world.sessions(name, keys, **{'grace': 5, **changes})


@pytest.fixture
def hand() -> Iterator[ByHand]:
    made = ByHand(key(1))
    yield made
    made.sock.close()


def talk(one: socket.socket, other: socket.socket, octets: bytes = b'KEEPALIVE') -> None:
    """Both ways; everything arrives."""
    for sender, receiver in ((one, other), (other, one)):
        receiver.setblocking(True)
        receiver.settimeout(PATIENCE)
        sender.sendall(octets)
        assert receiver.recv(len(octets), socket.MSG_WAITALL) == octets


def accepted(r2: Daemon) -> socket.socket:
    run(lambda: f'r2 {V4}' in r2.up, r2)
    return r2.up[f'r2 {V4}']


def await_listener(r2: Daemon, *ids: tuple[int, int]) -> None:
    """Until it has these keys: what it has is the gatekeeper's thread's affair."""
    run(lambda: r2.listener is not None and keys_on(r2.listener) == [*ids], r2)


def current(sock: socket.socket) -> tuple[int | None, int | None]:
    state = LinuxSocket(sock).read()
    assert state is not None
    return state.current, state.rnext


# --- a router of another make -------------------------------------------------------------------


def test_router_connects_without_a_gatekeeper_by_a_chain_key(r2: Daemon, hand: ByHand) -> None:
    r2.gatekeeper.configure(policies('r2', [key(1)]))
    r2.listen()
    assert hand.connect()
    ours = accepted(r2)
    assert keys_on(ours) == [(21, 11)], 'the deny key is gone'
    assert r2.listener is not None
    assert keys_on(r2.listener) == [(0, 0), (21, 11)]
    talk(hand.sock, ours)


def test_later_listener_has_the_chain(r2: Daemon, hand: ByHand) -> None:
    r2.listen()
    r2.gatekeeper.configure(policies('r2', [key(1)]))
    assert hand.connect()
    talk(hand.sock, accepted(r2))


def test_chains_keys_are_off_the_listener_when_configure_returns(r2: Daemon) -> None:
    """ExaBGP puts its TCP-MD5 key there next, which the kernel takes beside no other."""
    r2.gatekeeper.configure(policies('r2', [key(1)]))
    r2.listen()
    await_listener(r2, (0, 0), (21, 11))
    r2.gatekeeper.configure([])
    assert r2.listener is not None
    assert keys_on(r2.listener) == []


def test_connection_is_refused_when_its_key_is_wrong_or_missing(r2: Daemon) -> None:
    r2.gatekeeper.configure(policies('r2', [key(1)]))
    r2.listen()
    for number, keys in enumerate(([key(1, master_key=Secret(b'wrong'))], [key(9)], [])):
        stranger = ByHand(*keys, port=45000 + number)
        assert not stranger.connect(1.5)
        stranger.sock.close()
    r2.turn()
    assert not r2.sockets
    assert not r2.up


@pytest.mark.parametrize('name', [n for n, a in ALGORITHMS.items() if a.linux_name])
@pytest.mark.parametrize('tcp_options', [True, False])
def test_every_suite_of_the_kernel_works(r2: Daemon, name: str, tcp_options: bool) -> None:
    if why_unsupported(name) is not None:
        pytest.fail(f'this kernel cannot do {name}')
    one = key(1, algorithm=ALGORITHMS[name], tcp_options=tcp_options)
    r2.gatekeeper.configure(policies('r2', [one]))
    r2.listen()
    hand = ByHand(one)
    assert hand.connect()
    talk(hand.sock, accepted(r2))
    hand.sock.close()


def test_chain_may_use_the_ids_of_the_deny_key(r2: Daemon) -> None:
    zero = key(1, send_id=0, recv_id=0)
    r2.gatekeeper.configure(policies('r2', [zero]))
    r2.listen()
    assert r2.listener is not None
    assert keys_on(r2.listener) == [(0, 0), (255, 255)]
    assert not ByHand(port=45000).connect(1.5)
    hand = ByHand(zero)
    assert hand.connect()
    ours = accepted(r2)
    assert keys_on(ours) == [(0, 0)]
    talk(hand.sock, ours)
    hand.sock.close()


def test_deny_key_moves_when_a_chain_begins_to_use_its_ids(r2: Daemon, hand: ByHand) -> None:
    r2.gatekeeper.configure(policies('r2', [key(1)]))
    r2.listen()
    assert hand.connect()
    ours = accepted(r2)
    r2.gatekeeper.configure(policies('r2', [key(1), key(2, send_id=0, recv_id=0)]))
    run(lambda: len(keys_on(ours)) == 2, r2)
    await_listener(r2, (0, 0), (21, 11), (255, 255))
    talk(hand.sock, ours)


def test_connection_is_refused_under_a_removed_key(r2: Daemon, hand: ByHand) -> None:
    r2.gatekeeper.configure(policies('r2', [key(1), key(2)]))
    r2.listen()
    assert hand.connect()
    assert r2.listener is not None
    assert select.select([r2.listener], [], [], PATIENCE)[0]
    # It is not accepted yet: the child has kept its keys.
    r2.gatekeeper.configure(policies('r2', [key(2)]))
    run(lambda: bool(r2.errors), r2)
    assert 'under a key that keychain core does not accept' in r2.errors[0]
    with pytest.raises(ConnectionResetError):
        hand.sock.recv(1)
    assert keys_on(r2.listener) == [(0, 0), (22, 12)]


# --- lifetimes ----------------------------------------------------------------------------------


def under_key_1(r1: Daemon, r2: Daemon) -> tuple[socket.socket, socket.socket]:
    """A session of two gatekeepers; its ends. What begins at a time is configured after that,
    however long it has taken."""
    r2.listen()
    for daemon in (r2, r1):
        daemon.gatekeeper.configure(policies(daemon.name, [key(1)]))
    r1.open(V4)
    run(lambda: bool(r1.up and r2.up), r1, r2)
    near, far = r1.up[f'r1 {V4}'], r2.up[f'r2 {V4}']
    assert current(near) == (11, 21)
    return near, far


def test_rollover_by_lifetime_works_between_two_gatekeepers(r1: Daemon, r2: Daemon) -> None:
    near, far = under_key_1(r1, r2)
    change = time.time() + SOON
    keys = [
        key(1, send=(-inf, change + 4), accept=(-inf, change + 8)),
        key(2, send=(change, inf), accept=(change - 60, inf)),
    ]
    for daemon in (r1, r2):
        daemon.gatekeeper.configure(policies(daemon.name, keys))
    sent = 0

    def done() -> bool:
        nonlocal sent
        talk(near, far, b'x' * 1000)
        sent += 1
        return keys_on(near) == [(12, 22)] and keys_on(far) == [(22, 12)]

    run(done, r1, r2)
    assert sent > 1
    assert current(near) == (12, 22)
    assert not r1.aborted + r2.aborted
    await_listener(r2, (0, 0), (22, 12))


def test_idle_session_rolls_over_too(r1: Daemon, r2: Daemon) -> None:
    near, far = under_key_1(r1, r2)
    keys = [key(1), key(2, send=(time.time() + SOON, inf))]
    for daemon in (r1, r2):
        daemon.gatekeeper.configure(policies(daemon.name, keys))
    run(lambda: current(near) == (12, 22) and current(far) == (22, 12), r1, r2)


def test_end_of_the_chain_closes_the_session_and_admits_none(r2: Daemon, hand: ByHand) -> None:
    r2.gatekeeper.configure(policies('r2', [key(1)]))
    r2.listen()
    assert hand.connect()
    accepted(r2)
    end = time.time() + SOON + 5
    r2.gatekeeper.configure(policies('r2', [key(1, send=(0, end), accept=(0, end))]))
    run(lambda: bool(r2.aborted), r2)
    assert time.time() < end, 'with a Cease, before the key ends'
    hand.sock.close()
    await_listener(r2, (0, 0))
    assert not ByHand(key(1), port=45000).connect(1.5)


def test_expired_chain_does_not_connect(r1: Daemon) -> None:
    r1.gatekeeper.configure(policies('r1', [key(1, send=(0, 1000), accept=(0, 2000))]))
    r1.open(V4)
    run(lambda: bool(r1.errors), r1)
    assert 'keychain core has expired' in r1.errors[0]


# --- what isn't there ---------------------------------------------------------------------------


def test_keychains_need_no_udp(r1: Daemon) -> None:
    before = descriptors()
    r1.gatekeeper.configure(policies('r1', [key(1)]))
    assert descriptors() == before
    second = Daemon('r1')
    second.gatekeeper.configure(policies('r1', [key(1)]))
    second.end()


@pytest.mark.parametrize('name', [n for n, a in ALGORITHMS.items() if not a.linux_name])
def test_suite_that_the_kernel_lacks_is_a_configuration_error(r1: Daemon, name: str) -> None:
    long = key(1, algorithm=ALGORITHMS[name], master_key=Secret(bytes(32)))
    with pytest.raises(PolicyError, match='no such suite; try tcp-ao-backend userspace'):
        r1.gatekeeper.configure(policies('r1', [long]))
    with pytest.raises(PolicyError, match=name):
        r1.gatekeeper.configure(r1.policies(algorithms=('hmac-sha-1-96', name)))
    assert r1.gatekeeper.snapshot() == []


def test_reload_changes_nothing_when_ids_are_of_another_key(r2: Daemon, hand: ByHand) -> None:
    r2.gatekeeper.configure(policies('r2', [key(1)]))
    r2.listen()
    with pytest.raises(PolicyError, match='give a new key new ids'):
        r2.gatekeeper.configure(policies('r2', [key(1, master_key=Secret(b'other'))]))
    assert hand.connect()
    talk(hand.sock, accepted(r2))


def test_sessions_with_and_without_ike_share_an_address(r1: Daemon, r2: Daemon) -> None:
    """The ids of both kinds are one space."""
    every = [key(n, send_id=n, recv_id=n) for n in range(1, 201)]
    for daemon in (r1, r2):
        manual, negotiated = daemon.policies()
        chain = Keychain('core', tuple(every))
        daemon.gatekeeper.configure([replace(manual, pad=None, keychain=chain), negotiated])
    r2.listen()
    for name in PORTS:
        r1.open(name)
    run(lambda: len(r1.up) == len(r2.up) == 2, r1, r2)
    ((send_id, recv_id),) = keys_on(r1.up['r1 ipv6 unicast'])
    assert send_id > 200
    assert recv_id > 200
    assert len(keys_on(r1.up[f'r1 {V4}'])) == 200


def test_gatekeeper_watches_the_clock() -> None:
    """Set by an operator, it is an event; what is read then is what counts."""
    gatekeeper = Gatekeeper(router='r1', record=lambda record: None)
    gatekeeper.start()
    try:
        gatekeeper.configure(policies('r1', [key(1)]))
        state = gatekeeper._loop.core.state
        assert _off(state.wall_offset) < 0.5
        state.wall_offset -= 1000
        time.clock_settime(time.CLOCK_REALTIME, time.time())
        end = time.monotonic() + PATIENCE
        while abs(state.wall_offset) < 900 or _off(state.wall_offset) > 0.5:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        gatekeeper.stop()


def _off(offset: float) -> float:
    wall, now = both_clocks()
    return abs(wall - now - offset)

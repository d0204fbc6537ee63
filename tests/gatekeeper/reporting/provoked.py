"""Causes of a session that is down, each provoked between two routers in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from gatekeeper.policy.volume import Volume
from gatekeeper.state.limits import LISTENER_HOLDS
from gatekeeper.state.selection import Operation, Selection
from keymaterial import Secret
from tcpao.installer import Cause, Install
from tcpao.refusal import DroppedSyn, Reason
from tests.doubles.memory_network import Kind, Segment
from tests.gatekeeper import manual_world as manual
from tests.gatekeeper.world import Router, World, pair_of, policies, two_routers, up

SESSION = 'ipv4 unicast'
PAIR = pair_of(SESSION)
LIFETIME = 60
ATTEMPT = 40.0
"""Seconds: longer than an attempt waits for its key."""
Provocation = Callable[[], Router]
"""Returns the router that says why."""


def _try(world: World, r1: Router, seconds: float = ATTEMPT) -> None:
    r1.open(f'r1 {SESSION}', PAIR)
    world.run(seconds)


def no_ike_answer() -> Router:
    world = World(lose=lambda _: True)
    r1, _ = two_routers(world)
    _try(world, r1)
    return r1


def other_psk() -> Router:
    world = World()
    world.router('r2', policies('r2', psk=b'another secret, as long as that'), listens=True)
    r1 = world.router('r1', policies('r1'), listens=False)
    _try(world, r1)
    return world.routers[0]


def no_common_algorithm() -> Router:
    world = World()
    world.router('r2', policies('r2', algorithms=('hmac-sha-1-96',)), listens=True)
    r1 = world.router('r1', policies('r1', algorithms=('aes-128-cmac-96',)), listens=False)
    _try(world, r1)
    return r1


@contextmanager
def _without_profile() -> Iterator[None]:
    name = 'ikev2.exchanges.ike_init_{}.speaks_profile'
    with (
        patch(name.format('initiator'), lambda _: False),
        patch(name.format('responder'), lambda _: False),
    ):
        yield


def no_profile() -> Router:
    world = World()
    with _without_profile():
        r1, _ = two_routers(world)
        _try(world, r1)
    return r1


def no_session_at_peer() -> Router:
    world = World()
    world.router('r2', policies('r2')[1:], listens=True)
    r1 = world.router('r1', policies('r1'), listens=False)
    _try(world, r1)
    return r1


def no_syn() -> Router:
    world = World()
    r1, r2 = two_routers(world)
    world.network.deliver = lambda _: False
    _try(world, r1, LISTENER_HOLDS + ATTEMPT)
    return r2


def key_refused() -> Router:
    world = World()
    r1, _ = two_routers(world)
    r1.installer.refuse_next(Install, Cause.NO_MEMORY, 'option memory')
    _try(world, r1, 1)
    return r1


def no_successor() -> Router:
    world, _, r2 = up(lifetime=LIFETIME)
    world.lose = lambda _: True
    world.run(LIFETIME)
    # Its key is the older one: the responder installs first.
    return r2


def spent_volume() -> Router:
    octets = 10_000
    world, r1, _ = up(volume=Volume(octets=octets))
    world.lose = lambda _: True
    r1.socket(SESSION).send(bytes(octets))
    world.run(LIFETIME)
    return r1


def revoked() -> Router:
    world, r1, _ = up()
    r1.core.operate(Operation.REVOKE, Selection(session=SESSION), world.now)
    r1.pump()
    return r1


def expired_chain() -> Router:
    world = World()
    r1, _ = manual.two_routers(world, [manual.key(1, send=(0.0, world.now - 1))])
    manual.connect(r1)
    world.run(1)
    return r1


def dropped_syn(reason: Reason, key_id: int | None, *, by_hand: bool) -> Provocation:
    """The packet process tells of each SYN that it drops."""

    def provoke() -> Router:
        world = World()
        _, r2 = manual.two_routers(world, [manual.key(1)]) if by_hand else two_routers(world)
        world.run(2)
        refusal = DroppedSyn(reason, PAIR.reversed(), key_id, is_answer=False)
        r2.core.syn_dropped(refusal, world.now)
        r2.pump()
        return r2

    return provoke


def counted_answer(*, by_hand: bool, **changes: Any) -> Provocation:
    """A kernel tells nothing: the opener's socket counts answers that are not good."""

    def provoke() -> Router:
        world = World()
        r1, _ = manual.two_routers(world, [manual.key(1)]) if by_hand else two_routers(world)
        transmit = world.network.transmit

        def change(segment: Segment) -> None:
            answer = segment.kind is Kind.SYN_ACK
            transmit(replace(segment, **changes) if answer else segment)

        with patch.object(world.network, 'transmit', change):
            _try(world, r1)
        return r1

    return provoke


OTHER_KEY = ('hmac-sha-1-96', True, Secret(b'another master key'))
UNKNOWN_ID = 99

CHANGED_ANSWERS: dict[str, dict[str, Any]] = {
    'its MAC is wrong under our key': {'material': OTHER_KEY},
    'it is under a KeyID that is none of ours': {'key_id': UNKNOWN_ID},
    "the peer's answer to our SYN: it has no TCP-AO": {'key_id': None, 'material': None},
}

CAUSES: dict[tuple[str, str], Provocation] = {
    ('no IKE answer', 'negotiated'): no_ike_answer,
    ('the pre-shared keys differ', 'negotiated'): other_psk,
    ('no acceptable proposal', 'negotiated'): no_common_algorithm,
    ("peer doesn't speak this profile", 'negotiated'): no_profile,
    ('no such session at the peer', 'negotiated'): no_session_at_peer,
    ('has not come within 180 s of the key that the peer asked for', 'negotiated'): no_syn,
    ('key refused: option memory', 'negotiated'): key_refused,
    ('hard lifetime reached without a successor', 'negotiated'): no_successor,
    ('lifetime by volume reached without a successor', 'negotiated'): spent_volume,
    ('revoked by an operator', 'negotiated'): revoked,
    ('has expired', 'manual'): expired_chain,
    ('its MAC is wrong under the negotiated key', 'negotiated, user space'): dropped_syn(
        Reason.BAD_MAC, 1, by_hand=False
    ),
    ('not a key of now', 'negotiated, user space'): dropped_syn(
        Reason.UNKNOWN_KEY, UNKNOWN_ID, by_hand=False
    ),
    ("the peer's SYN: it has no TCP-AO", 'negotiated, user space'): dropped_syn(
        Reason.UNSIGNED, None, by_hand=False
    ),
    ('its MAC is wrong under key 1', 'manual, user space'): dropped_syn(
        Reason.BAD_MAC, 11, by_hand=True
    ),
    ('recv-ids accepted now: 11', 'manual, user space'): dropped_syn(
        Reason.UNKNOWN_KEY, UNKNOWN_ID, by_hand=True
    ),
    ("the peer's SYN: it has no TCP-AO", 'manual, user space'): dropped_syn(
        Reason.UNSIGNED, None, by_hand=True
    ),
} | {
    (sentence, f'{keys}, kernel'): counted_answer(by_hand=keys == 'manual', **changes)
    for keys in ('negotiated', 'manual')
    for sentence, changes in CHANGED_ANSWERS.items()
}
"""What `show` and the log say, and the keys and the backend where it is so."""

"""Two routers in memory whose keys the operator gives: r1 connects, r2 listens, no IKE.

Simulated time is UTC too, unless a test sets a router's clock.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

from gatekeeper.policy.keychain import ALWAYS, ChainKey, Keychain, Lifetime
from gatekeeper.policy.sessions import SessionPolicy
from keymaterial import Secret
from tcpao.mkt import ALGORITHMS
from tests.gatekeeper.world import Router, World, pair_of, policies

V4 = 'ipv4 unicast'
PAIR = pair_of(V4)


def key(
    number: int,
    *,
    send: tuple[float, float] = (-inf, inf),
    accept: tuple[float, float] = (-inf, inf),
    **changes: Any,
) -> ChainKey:
    """Ids 10 and 20 above the number, as r1 has them; other sides by `mirrored`."""
    made = ChainKey(
        number,
        number + 10,
        number + 20,
        ALGORITHMS['hmac-sha-1-96'],
        Secret(b'manual secret %d' % number),
        send=Lifetime(*send),
        accept=Lifetime(*accept),
    )
    return replace(made, **changes)


def mirrored(keys: list[ChainKey]) -> list[ChainKey]:
    """The same keys as the peer has them."""
    return [replace(key, send_id=key.recv_id, recv_id=key.send_id) for key in keys]


def sessions(router: str, keys: list[ChainKey], **changes: Any) -> list[SessionPolicy]:
    """The IPv4 session of r1 or r2, with these keys as r1 has them."""
    held = keys if router == 'r1' else mirrored(keys)
    (first, _) = policies(router)
    return [replace(first, pad=None, keychain=Keychain('core', tuple(held)), **changes)]


def two_routers(
    world: World, ours: list[ChainKey], theirs: list[ChainKey] | None = None
) -> tuple[Router, Router]:
    """r1 with `ours`, r2 with `theirs` (as r1 would have them), by default the same."""
    r2 = world.router('r2', sessions('r2', ours if theirs is None else theirs), listens=True)
    r1 = world.router('r1', sessions('r1', ours), listens=False)
    return r1, r2


def up(
    world: World, ours: list[ChainKey], theirs: list[ChainKey] | None = None
) -> tuple[Router, Router]:
    """The session is up on both."""
    r1, r2 = two_routers(world, ours, theirs)
    connect(r1)
    world.run(2)
    assert is_up(r1, r2)
    return r1, r2


def connect(r1: Router) -> None:
    """r1 tries to open the session."""
    r1.open(f'r1 {V4}', PAIR)


def reload(router: Router, keys: list[ChainKey], **changes: Any) -> None:
    """A new configuration with these keys."""
    router.core.configure(sessions(router.name, keys, **changes), router.world.now)
    router.world.settle()


def is_up(*routers: Router) -> bool:
    """True if BGP has the session on each."""
    return all(f'{router.name} {V4}' in router.sessions for router in routers)


def is_down(*routers: Router) -> bool:
    """True if BGP has the session on none of them."""
    return not any(f'{router.name} {V4}' in router.sessions for router in routers)


def never_closed(*routers: Router) -> bool:
    """True if the session is up and no socket was ever taken away."""
    return is_up(*routers) and not any(router.closed for router in routers)


def key_numbers(router: Router) -> list[int]:
    """Numbers of the keys on the session's socket."""
    return sorted(min(ids) - 10 for ids in router.keys_on(V4))


def current(router: Router) -> tuple[int | None, int | None]:
    """Numbers of Current and RNext."""
    state = router.socket(V4).read()
    assert state is not None
    shift = 10 if router.name == 'r1' else 20
    sent = None if state.current is None else state.current - shift
    asked = None if state.rnext is None else state.rnext - (30 - shift)
    return sent, asked


def listening(router: Router) -> list[int]:
    """Numbers of the keys on the listening socket, the deny key not counted."""
    assert router.listener is not None
    state = router.listener.read()
    return sorted(
        min(key.send_id, key.recv_id) - 10 for key in (state.keys if state else ()) if key.send_id
    )


__all__ = [
    'ALWAYS',
    'PAIR',
    'V4',
    'connect',
    'current',
    'is_down',
    'is_up',
    'key',
    'key_numbers',
    'listening',
    'mirrored',
    'never_closed',
    'reload',
    'sessions',
    'two_routers',
    'up',
]

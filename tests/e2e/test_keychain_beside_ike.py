"""One keychain for several neighbors, one of which negotiates the keys of its other session.

r1 has r2 with an `ikev2` section, whose session block gives `ipv4 unicast` to the keychain, and r3
with nothing but `keychain core;`.
"""

from __future__ import annotations

import pytest

from gatekeeper.reporting.events import EventName
from tests.e2e.backends import under_both
from tests.e2e.configurations import FAMILIES, PREFIXES, ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.keychains import key, reload, write_key
from tests.e2e.pair import PORTS, R1, R2
from tests.e2e.router import PATIENCE, Router, within

pytestmark = under_both

V4, V6 = FAMILIES
R1_TO_R3, R3 = '10.0.3.1', '10.0.3.3'


def mixed(router: Router, peer: str, local: str, remote: str) -> str:
    """The pair that has both kinds of keys."""
    pin = 'source-port' if router.name == 'r1' else 'peer-port'
    sessions = {
        V4: f'keychain core; {pin} {PORTS[V4]};',
        V6: f'{pin} {PORTS[V6]};',
    }
    return neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection=ikev2(router.name, peer, sessions=sessions),
        passive=router.name == 'r2',
        routes=ROUTES[router.name],
    )


def plainly(router: Router, peer: str, local: str, remote: str) -> str:
    """The pair that has a keychain and no more."""
    return neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection='    keychain core;\n',
        passive=router.name == 'r3',
        families=[V4],
    )


def text(router: Router, *keys: str) -> str:
    chain = f'keychain core {{\n{"".join(keys)}}}\n'
    if router.name == 'r2':
        return chain + mixed(router, 'r1', R2, R1)
    if router.name == 'r3':
        return chain + plainly(router, 'r1', R3, R1_TO_R3)
    return chain + mixed(router, 'r2', R1, R2) + plainly(router, 'r3', R1_TO_R3, R3)


@pytest.fixture(scope='module')
def three(routers: Routers) -> Routers:
    """All three sessions up."""
    for router, listen in ((routers.r2, R2), (routers.r3, R3), (routers.r1, None)):
        for number in (1, 2):
            write_key(router, number)
        router.configure(text(router, key(router, 1)))
        router.start(listen=listen, drop=True)
    routers.r2.await_established(V4, V6)
    routers.r3.await_established(V4)
    # ExaBGP doesn't reload while it has routes to send.
    routers.r1.await_routes(*PREFIXES['r2'])
    routers.r2.await_routes(*PREFIXES['r1'])
    return routers


def rows(router: Router) -> dict[tuple[str, str], dict[str, object]]:
    """Return the rows of `show`, by neighbor and session."""
    return {(row['neighbor'], row['session']): row for row in router.show()}


def test_each_session_has_the_keys_that_it_should_have(three: Routers) -> None:
    shown = rows(three.r1)
    assert set(shown) == {(R2, V4), (R2, V6), (R3, V4)}
    for place in ((R2, V4), (R3, V4)):
        row = shown[place]
        assert (row['keychain'], row['key'], row['state']) == ('core', 1, 'in use')
        assert (row['send_id'], row['recv_id']) == (11, 21)
        assert row['peer_id'] is row['ike'] is None
    negotiated = shown[R2, V6]
    assert (negotiated['keychain'], negotiated['key'], negotiated['state']) == (
        None,
        None,
        'in use',
    )
    assert (negotiated['peer_id'], negotiated['ike']) == ('fqdn r2.lab', 'up')
    assert negotiated['algorithm'] == 'hmac-sha-1-96'


def test_routes_come_over_both_kinds_of_sessions(three: Routers) -> None:
    three.r1.await_routes(*PREFIXES['r2'])
    three.r2.await_routes(*PREFIXES['r1'])


def test_ike_is_only_for_the_session_that_negotiates(three: Routers) -> None:
    for router in (three.r1, three.r2):
        assert {event.session for event in router.named(EventName.CHILD_SA)} == {V6}
    assert not three.r3.named(EventName.IKE_INIT)


def await_key_2(router: Router, sessions: int) -> None:
    """Until so many sessions run under it."""
    within(
        PATIENCE,
        lambda: [row['key'] for row in rows(router).values()].count(2) == sessions,
        lambda: router.told(f'key 2 in use: {rows(router)}'),
    )


def test_keychain_rolls_over_only_for_sessions_that_use_it(three: Routers) -> None:
    everybody = (three.r1, three.r2, three.r3)
    connections = {router.name: sorted(router.connections()) for router in everybody}
    negotiated = rows(three.r1)[R2, V6]
    # The newest send-lifetime wins: each side moves as soon as both have it.
    newer = 'send-lifetime 2026-01-02T00:00:00Z infinite;'
    reload(everybody, lambda router: text(router, key(router, 1), key(router, 2, newer)))
    for router, count in zip(everybody, (2, 1, 1), strict=True):
        await_key_2(router, count)
    assert {router.name: sorted(router.connections()) for router in everybody} == connections
    now = rows(three.r1)[R2, V6]
    for name in ('send_id', 'recv_id', 'rekeys', 'state'):
        assert now[name] == negotiated[name], name
    assert now['since'] == pytest.approx(negotiated['since'], abs=1.0)
    for router in everybody:
        assert not router.named(EventName.END)
        assert all(row['last_error'] is None for row in rows(router).values())

"""Rows of the crypto key table, made of what a running gatekeeper holds."""

from __future__ import annotations

from math import inf

import pytest

from gatekeeper.policy.key_table import Direction, Row, select_to_accept, select_to_send
from gatekeeper.state.key_table import rows
from tests.gatekeeper.manual_world import key, two_routers
from tests.gatekeeper.world import R1, R2, Router, World, pair_of, up

SESSION = 'ipv4 unicast'
LIFETIME = 600


def table(world: World, router: Router) -> list[Row]:
    return rows(router.core.state, world.now)


def test_negotiated_mkt_of_each_session_is_a_row() -> None:
    world, r1, _ = up(lifetime=LIFETIME)
    made = table(world, r1)
    assert {row.connection for row in made} == {str(r1.sessions[key]) for key in r1.sessions}
    for row in made:
        assert row.peers == (R2,)
        assert row.send == row.accept
        assert row.send.end - row.send.start == pytest.approx(LIFETIME)
        assert row.key is None


def test_selected_row_is_the_key_in_use() -> None:
    world, r1, _ = up()
    wall, pair = r1.core.state.wall(world.now), str(pair_of(SESSION))
    in_use = r1.connection(SESSION).mkt_in_use
    sent = select_to_send(table(world, r1), R2, wall, pair)
    taken = select_to_accept(table(world, r1), R2, in_use.key.recv_id, wall, pair)
    assert sent == taken
    assert sent is not None
    assert (sent.send_id, sent.recv_id) == (in_use.send_id, in_use.key.recv_id)


def test_retiring_mkt_is_accepted_and_not_sent() -> None:
    world, r1, _ = up(lifetime=LIFETIME)
    old = r1.connection(SESSION).mkt_in_use
    while r1.connection(SESSION).mkt_in_use is old:
        world.run(1)
    directions = {row.admin_key_name: row.direction for row in table(world, r1)}
    assert directions[old.name] is Direction.IN
    assert directions[r1.connection(SESSION).mkt_in_use.name] is Direction.BOTH


def test_manual_key_of_a_keychain_is_a_row() -> None:
    """Its names are swapped at the peer, and the same key is selected at both ends."""
    world = World()
    routers = two_routers(world, [key(1), key(2, send=(0.0, inf))])
    wall = routers[0].core.state.wall(world.now)
    ours, theirs = (table(world, router) for router in routers)
    assert [row.admin_key_name for row in ours] == ['core/key 1', 'core/key 2']
    sent, answered = select_to_send(ours, R2, wall), select_to_send(theirs, R1, wall)
    assert sent is not None
    assert answered is not None
    assert sent.admin_key_name == answered.admin_key_name == 'core/key 2'
    assert (sent.send_id, sent.recv_id) == (answered.recv_id, answered.send_id)

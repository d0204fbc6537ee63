"""When KeyIDs are free again, and when a DELETE for them is over."""

from __future__ import annotations

import pytest

from gatekeeper.engine.negotiated import rekeying
from gatekeeper.engine.negotiated.rekeying import ask
from gatekeeper.state.key_ids import KeyIds
from gatekeeper.state.store import Store
from ikev2.events import RpSaOffer, RpSaRequested
from tcpao.installer import Cause, Remove
from tests.gatekeeper.world import (
    Router,
    World,
    lose_rsts,
    pair_of,
    two_routers,
    up,
)

PAIR = pair_of('ipv4 unicast')


def taken(router: Router) -> tuple[int, int]:
    keyids = router.peer.keyids
    return len(keyids.sending), len(keyids.receiving)


def test_failed_attempt_frees_its_ids_a_minute_after_its_delete() -> None:
    world = World()
    r1, r2 = two_routers(world, lifetime=3600)
    world.network.deliver = lambda segment: False
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(5)
    r1.close(PAIR)
    world.run(65)
    assert taken(r1) == taken(r2) == (0, 0)


def test_ids_are_not_used_up_when_attempts_fail_for_hours() -> None:
    world = World()
    r1, r2 = two_routers(world, lifetime=3600)
    world.network.deliver = lambda segment: False
    for _ in range(300):
        r1.open('r1 ipv4 unicast', PAIR)
        world.run(15)
        r1.close(PAIR)
        world.run(15)
    assert not r1.errors
    for router in (r1, r2):
        assert max(taken(router)) <= 5


def test_ids_are_freed_when_the_peer_answered_with_one_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(KeyIds, 'take_recv_id', lambda keyids, recv_id: False)
    world = World()
    r1, r2 = two_routers(world, lifetime=60)
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(10)
    assert 'gave out KeyID' in r1.errors[0]
    world.run(130)
    assert not r1.peer.mkts
    assert taken(r1) == taken(r2) == (0, 0)


def rekey_requests(router: Router, monkeypatch: pytest.MonkeyPatch) -> list[RpSaOffer]:
    """Return the peer's requests to this router from here on."""
    seen: list[RpSaOffer] = []
    requested = rekeying.requested

    def noted(state: Store, event: RpSaRequested, now: float) -> None:
        if state is router.core.state:
            seen.append(event.offer)
        requested(state, event, now)

    monkeypatch.setattr(rekeying, 'requested', noted)
    return seen


def test_rekey_is_asked_again_when_its_answers_id_is_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, r1, r2 = up()
    offers = rekey_requests(r2, monkeypatch)
    chosen = r2.peer.keyids.take_send_id()
    r2.peer.keyids.release(chosen, None)
    # One that r2 thinks is free, and r1 has in use: left over from before r2 lost its memory.
    assert r1.peer.keyids.take_recv_id(chosen)
    monkeypatch.setattr(r2.peer.keyids, 'random', lambda n: bytes([(chosen - 1) % 255]) * n)
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    world.run(10)
    assert [chosen in offer.keyids_in_use for offer in offers] == [False, True]
    assert r1.connection('ipv4 unicast').rekeys == 1


def test_rekey_uses_another_id_when_the_peer_cannot_take_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, r1, r2 = up()
    offers = rekey_requests(r2, monkeypatch)
    chosen = r1.peer.keyids.take_send_id()
    r1.peer.keyids.release(chosen, None)
    assert r2.peer.keyids.take_recv_id(chosen)
    monkeypatch.setattr(r1.peer.keyids, 'random', lambda n: bytes([(chosen - 1) % 255]) * n)
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    world.run(10)
    assert offers[0].keyid == chosen
    assert len(offers) == 2
    assert offers[1].keyid != chosen
    assert r1.connection('ipv4 unicast').rekeys == 1


def test_old_key_is_gone_when_the_socket_lost_it() -> None:
    world, r1, _ = up()
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    world.run(10)
    r1.installer.refuse_next(Remove, Cause.GONE, 'no such key')
    world.run(130)
    assert taken(r1) == (2, 2)


def test_old_key_is_tried_again_when_it_cannot_be_removed() -> None:
    world, r1, _ = up()
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    world.run(10)
    r1.installer.refuse_next(Remove, Cause.REFUSED, 'the kernel is in a mood')
    world.run(130)
    assert len(r1.keys_on('ipv4 unicast')) == 1
    assert taken(r1) == (2, 2)


def test_listener_key_is_tried_again_when_it_cannot_be_removed() -> None:
    world = World()
    r1, r2 = two_routers(world)
    r2.installer.refuse_next(Remove, Cause.REFUSED, 'the kernel is in a mood')
    r1.open('r1 ipv4 unicast', PAIR)
    world.run(0.5)
    assert r2.sessions
    assert r2.listener_keys() == 1
    world.run(2)
    assert r2.listener_keys() == 0


def test_delete_is_not_sent_again_when_its_ids_are_free() -> None:
    world, r1, r2 = up(lifetime=15)
    lose_rsts(world)
    world.lose = lambda datagram: True
    r1.close(PAIR)
    world.run(400)
    assert not r1.peer.undeleted
    assert taken(r1)[0] <= 1
    world.lose = lambda datagram: False
    world.run(100)
    assert not r1.peer.deletes
    assert taken(r1) == taken(r2) == (0, 0)


def test_old_key_frees_its_ids_after_twice_its_lifetime() -> None:
    world, r1, r2 = up(lifetime=600)
    ask(r1.core.state, r1.connection('ipv4 unicast'), world.now)
    r1.pump()
    while not r1.connection('ipv4 unicast').rotation:
        world.run(0.001)
    # r1 is done, and before it can say so its host goes down.
    world.lose = lambda datagram: True
    while not r2.connection('ipv4 unicast').rekeys:
        world.run(0.1)
    assert r2.connection('ipv4 unicast').retiring
    world.run(2500)
    assert not r2.peer.mkts
    assert taken(r2) == (0, 0)

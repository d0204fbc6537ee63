"""Commands of an operator: rekey, revoke, drain, and the ends of the last two."""

from __future__ import annotations

import pytest

from gatekeeper.errors import GatekeeperError
from gatekeeper.reporting.events import EventName
from gatekeeper.state.mkt_record import MktState
from gatekeeper.state.selection import Operation, Selection, parse_selection
from gatekeeper.state.snapshot import snapshot
from tests.gatekeeper.world import FAMILIES, Router, World, pair_of, policies, up

V4, V6 = 'ipv4 unicast', 'ipv6 unicast'
ALL = Selection()
ENDS = [Operation.REVOKE, Operation.DRAIN]
TAKES_BACK = {Operation.REVOKE: Operation.RESTORE, Operation.DRAIN: Operation.UNDRAIN}


def operate(world: World, router: Router, operation: Operation, selection: Selection) -> int:
    count = router.core.operate(operation, selection, world.now).count
    router.pump()
    return count


def test_rekey_replaces_the_keys_that_are_meant() -> None:
    world, r1, r2 = up()
    before = {name: r1.connection(name).mkt_in_use for name in FAMILIES}
    assert operate(world, r2, Operation.REKEY, Selection(session=V4)) == 1
    world.run(5)
    assert r1.connection(V4).mkt_in_use is not before[V4]
    assert r1.connection(V6).mkt_in_use is before[V6]
    assert not r1.closed


@pytest.mark.parametrize(
    ('selection', 'ended'),
    [
        (Selection(neighbor='10.0.0.2', session=V4), 1),
        (Selection(peer_id='fqdn r2.lab'), 2),
        (ALL, 2),
    ],
)
def test_revoke_ends_what_is_meant_at_once(selection: Selection, ended: int) -> None:
    world, r1, r2 = up()
    keys = [r1.connection(name).mkt_in_use for name in FAMILIES]
    assert operate(world, r1, Operation.REVOKE, selection) == ended
    assert len(r1.sessions) == 2 - ended
    assert [key.state for key in keys].count(MktState.REVOKED) == ended
    world.run(2)
    assert len(r2.sessions) == 2 - ended


def test_drain_ends_a_session_with_cease() -> None:
    world, r1, r2 = up()
    assert operate(world, r1, Operation.DRAIN, Selection(session=V4)) == 1
    assert [cause for _, cause in r1.closed] == ['drained by an operator']
    world.run(3)
    assert len(r1.sessions) == len(r2.sessions) == 1


@pytest.mark.parametrize('operation', list(Operation))
def test_operation_is_refused_when_nothing_is_meant(operation: Operation) -> None:
    world, r1, _ = up()
    with pytest.raises(GatekeeperError, match=r'neighbor 10\.0\.0\.9'):
        operate(world, r1, operation, Selection(neighbor='10.0.0.9'))
    assert len(r1.sessions) == 2


@pytest.mark.parametrize('operation', [Operation.REKEY, *ENDS])
def test_operation_is_an_event_of_each_session(operation: Operation) -> None:
    world, r1, _ = up()
    operate(world, r1, operation, ALL)
    told = [note for note in r1.notes if note.event is EventName.OPERATOR]
    assert [event.session for event in told] == list(FAMILIES)
    assert {event.details['command'] for event in told} == {operation.value}


def last_error(router: Router, now: float) -> str:
    return str(snapshot(router.core.state, now)[0]['last_error'])


@pytest.mark.parametrize('operation', ENDS)
@pytest.mark.parametrize('where', ['opener', 'listener'])
def test_session_gets_no_key_until_it_is_taken_back(where: str, operation: Operation) -> None:
    world, r1, r2 = up()
    router = r1 if where == 'opener' else r2
    selection = Selection(session=V4)
    operate(world, router, operation, selection)
    world.run(4)
    # It outlives a reload.
    router.core.configure(policies(router.name), world.now)
    assert r1.open('r1 ipv4 unicast', pair_of(V4)).error is not None or where == 'listener'
    world.run(35)
    assert len(r1.sessions) == 1
    assert 'by an operator' in last_error(router, world.now)
    operate(world, router, TAKES_BACK[operation], selection)
    with pytest.raises(GatekeeperError, match='nothing is'):
        operate(world, router, TAKES_BACK[operation], selection)
    r1.open('r1 ipv4 unicast', pair_of(V4))
    world.run(5)
    assert len(r1.sessions) == len(r2.sessions) == 2


def test_revoking_twice_is_taken_back_once() -> None:
    world, r1, _ = up()
    for _ in range(2):
        operate(world, r1, Operation.REVOKE, ALL)
    operate(world, r1, Operation.RESTORE, ALL)
    with pytest.raises(GatekeeperError):
        operate(world, r1, Operation.RESTORE, ALL)


def test_undrain_does_not_take_a_revocation_back() -> None:
    world, r1, _ = up()
    operate(world, r1, Operation.REVOKE, ALL)
    operate(world, r1, Operation.DRAIN, ALL)
    with pytest.raises(GatekeeperError, match='revoked: all'):
        operate(world, r1, Operation.UNDRAIN, ALL)


@pytest.mark.parametrize(
    'text',
    [
        'neighbor 10.0.0.2',
        'neighbor 10.0.0.2 session ipv4 unicast',
        'session ipv4 unicast peer-id fqdn r2.lab',
        'all',
    ],
)
def test_selection_is_said_as_it_is_read(text: str) -> None:
    assert str(parse_selection(text.split())) == text


@pytest.mark.parametrize(
    'text',
    ['', 'neighbor', 'session ipv4', 'neighbor a neighbor b', 'all neighbor a', 'peer r2', 'ALL'],
)
def test_selection_is_refused_when_words_are_wrong(text: str) -> None:
    with pytest.raises(GatekeeperError, match='expected neighbor ADDRESS'):
        parse_selection(text.split())

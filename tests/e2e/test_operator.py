"""An operator rekeys, drains and revokes sessions of a running router from the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatekeeper.reporting.events import EventName
from tests.e2e import pair
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import FAMILIES
from tests.e2e.conftest import Routers
from tests.e2e.router import PATIENCE, Router, within

pytestmark = under_userspace

V4, V6 = FAMILIES


@pytest.fixture(scope='module')
def up(routers: Routers) -> Routers:
    """Both sessions are up."""
    pair.configure(routers)
    for router in (routers.r2, routers.r1):
        pair.start(router)
    pair.await_up(routers)
    return routers


def tell(router: Router, command: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(''.join(router.ask(f'{command} json')))
    return answer


def row(router: Router, session: str) -> dict[str, Any]:
    return next(row for row in router.show() if row['session'] == session)


def test_rekey_replaces_a_key_without_a_flap(up: Routers) -> None:
    before = up.r1.connections()
    answer = tell(up.r1, f'rekey ikev2 neighbor {pair.R2} session {V4}')
    assert answer == {'done': '1 session: keys being replaced: 1'}
    up.r1.await_event(EventName.OPERATOR, V4, command='rekey')
    within(PATIENCE, lambda: row(up.r1, V4)['rekeys'] == 1, lambda: up.r1.told('a rekey'))
    assert row(up.r1, V6)['rekeys'] == 0
    assert up.r1.connections() == before


@pytest.mark.parametrize(('ends', 'takes_back'), [('drain', 'undrain'), ('revoke', 'restore')])
def test_session_stays_down_until_it_is_taken_back(ends: str, takes_back: str, up: Routers) -> None:
    assert 'done' in tell(up.r2, f'{ends} ikev2 session {V4}')
    for router in (up.r1, up.r2):
        within(
            PATIENCE,
            lambda router=router: set(router.established()) == {V6},  # type: ignore[misc]
            lambda router=router: router.told('one session'),  # type: ignore[misc]
        )
    assert 'by an operator' in row(up.r2, V4)['last_error']
    assert 'done' in tell(up.r2, f'{takes_back} ikev2 session {V4}')
    pair.await_up(up)


@pytest.mark.parametrize('words', ['', 'neighbor 10.0.0.9', 'session ipv5 unicast'])
def test_command_that_means_no_session_is_an_error(words: str, up: Routers) -> None:
    assert 'error' in tell(up.r1, f'revoke ikev2 {words}')
    assert set(up.r1.established()) == set(FAMILIES)

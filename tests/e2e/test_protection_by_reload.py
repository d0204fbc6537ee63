"""Protection is put in, changed and taken out by reload at both ends, in any order.

A session is up within seconds of the second reload, also where none was up before, and no octet is
in clear while either end wants protection. The whole matrix: EVERY_CHANGE=1.
"""

from __future__ import annotations

import os
import time
from itertools import pairwise

import pytest

from lab.demo.capture import Capture
from tests.e2e.backends import under_both
from tests.e2e.conftest import Routers
from tests.e2e.keychains import reload
from tests.e2e.on_the_wire import so_far
from tests.e2e.pair import R2
from tests.e2e.protections import FAMILY, SHORT, Change, Kind, every_change, in_clear, text
from tests.e2e.router import PATIENCE, Router, within

pytestmark = [under_both, pytest.mark.timeout(1500)]

WHOLE = bool(os.environ.get('EVERY_CHANGE'))
SECONDS = 12.0 if WHOLE else 40.0
"""After the second reload; the short form runs on machines that have much else to do."""
BETWEEN = 2.0
"""Seconds between the reloads: SYNs of the first end have been dropped meanwhile."""

OPENER, LISTENER = 'opener first', 'listener first'
WALKS = [(OPENER, False), (LISTENER, True)]
if WHOLE:
    WALKS += [(OPENER, True), (LISTENER, False)]


def walk() -> list[Change]:
    return [Change(*step) for step in pairwise(every_change() if WHOLE else SHORT)]


@pytest.fixture
def ends(routers: Routers) -> Routers:
    """r1 and r2 with a plain session."""
    routers.stop()
    for router in (routers.r2, routers.r1):
        router.configure(text(router, Kind.PLAIN))
        router.start(
            listen=R2 if router is routers.r2 else None,
            environment={'exabgp_daemon_user': 'root'},
        )
    for router in (routers.r1, routers.r2):
        router.await_established(FAMILY)
    return routers


@pytest.mark.parametrize(
    ('first', 'multi_session'),
    WALKS,
    ids=[f'{one} {"multi" if two else ""}'.strip() for one, two in WALKS],
)
def test_session_comes_up_soon_when_protection_changes(
    first: str, multi_session: bool, ends: Routers, wire: Capture
) -> None:
    """Told at the end, all that went wrong at once: a walk takes a while."""
    order = (ends.r1, ends.r2) if first == OPENER else (ends.r2, ends.r1)
    faults, table = [], []
    for change in walk():
        begin = time.time()
        for number, router in enumerate(order):
            _reload(router, change.after, multi_session)
            if number == 0:
                first_done = time.time()
                time.sleep(BETWEEN)
                second_asked = time.time()
        took = _session(ends, change, PATIENCE)
        table.append(f'{change.before} -> {change.after}: {took}')
        if took is None or took > SECONDS:
            faults.append(table[-1])
        start = begin if change.before.is_ours else first_done
        end = time.time() if change.after.is_ours else second_asked
        clear = in_clear(so_far(wire), start, end)
        if clear and (change.before.is_ours or change.after.is_ours):
            faults.append(f'{table[-1]}: in clear {clear}')
    print('\n'.join(table))
    assert not faults, ends.r2.told('\n'.join([*faults, *ends.r1.log.splitlines()[-60:]]))


def _reload(router: Router, kind: Kind, multi_session: bool) -> None:
    reload([router], lambda one: text(one, kind, multi_session=multi_session))


def _session(ends: Routers, change: Change, seconds: float) -> float | None:
    """Seconds from now until both ends have the new session; None if it doesn't come."""
    begin = time.monotonic()
    if change.after is Kind.BROKEN:
        within(PATIENCE, lambda: not ends.r2.connections(), lambda: ends.r2.told('no session'))
        return 0.0
    while time.monotonic() - begin < seconds:
        if all(_is_up(router, change) for router in (ends.r1, ends.r2)):
            return round(time.monotonic() - begin, 1)
        time.sleep(0.2)
    return None


def _is_up(router: Router, change: Change) -> bool:
    if FAMILY not in router.established() or not router.connections():
        return False
    return not change.after.is_ours or [row['state'] for row in router.show()] == ['in use']

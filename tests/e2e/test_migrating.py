"""The paths of docs/migrating.md: a neighbor changes its protection by reloads at both ends.

The outage of each is measured and written down; the plain neighbor beside it keeps its connection.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from tests.e2e.backends import under_userspace
from tests.e2e.configurations import neighbor
from tests.e2e.conftest import Routers
from tests.e2e.keychains import reload
from tests.e2e.pair import R2
from tests.e2e.protections import FAMILY, Kind, text
from tests.e2e.router import PATIENCE, Router, within
from tests.interop_report import FOLDER

pytestmark = [under_userspace, pytest.mark.timeout(300)]

AT_R3, R3 = '10.0.3.1', '10.0.3.3'
PLAIN = 'ipv6 unicast'
PATHS = (
    Kind.PLAIN,
    Kind.IKE,
    Kind.PLAIN,
    Kind.MD5,
    Kind.IKE,
    Kind.MD5,
    Kind.KEYCHAIN,
    Kind.IKE,
    Kind.OTHER_CREDENTIAL,
    Kind.PLAIN,
)
PATIENT_SECONDS = 20.0
"""A bound for machines that have much else to do; the figures are in the table."""
OUTAGES: dict[str, float] = {}


def configuration(router: Router, kind: Kind) -> str:
    beside = neighbor('r1', 'r3', local=AT_R3, remote=R3, families=[PLAIN])
    return text(router, kind) + (beside if router.name == 'r1' else '')


@pytest.fixture(scope='module')
def routers_up(routers: Routers) -> Routers:
    """r1 with plain sessions to r2 and to r3; r1 and r2 stay root, see docs/migrating.md."""
    r1, r2, r3 = routers.r1, routers.r2, routers.r3
    r3.configure(neighbor('r3', 'r1', local=R3, remote=AT_R3, families=[PLAIN], passive=True))
    r3.start(listen=R3, program=('exabgp',))
    for router in (r2, r1):
        router.configure(configuration(router, Kind.PLAIN))
        router.start(
            listen=R2 if router is r2 else None, environment={'exabgp_daemon_user': 'root'}
        )
    r1.await_established(FAMILY, PLAIN)
    return routers


@contextmanager
def measured(router: Router) -> Iterator[list[float]]:
    """Seconds without an established connection to r2, looked at every few milliseconds."""
    total, ended = [0.0], threading.Event()

    def look() -> None:
        before = time.monotonic()
        while not ended.is_set():
            up = any(remote == R2 for _, remote, _ in router.connections())
            now = time.monotonic()
            total[0] += 0.0 if up else now - before
            before = now
            ended.wait(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield total
    finally:
        ended.set()
        thread.join()


def is_up(router: Router, kind: Kind) -> bool:
    if FAMILY not in router.established():
        return False
    return not kind.is_ours or [row['state'] for row in router.show()] == ['in use']


@pytest.mark.parametrize(
    ('before', 'after'), list(pairwise(PATHS)), ids=[f'{a} to {b}' for a, b in pairwise(PATHS)]
)
def test_neighbor_changes_and_others_stay_up(
    before: Kind, after: Kind, routers_up: Routers
) -> None:
    r1, r2, r3 = routers_up.r1, routers_up.r2, routers_up.r3
    beside = r3.connections()
    assert is_up(r1, before)
    with measured(r1) as outage:
        # One after the other, as two people would who talk on the phone: the listener first.
        for router in (r2, r1):
            reload([router], lambda one: configuration(one, after))
        for router in (r1, r2):
            within(
                PATIENCE,
                lambda router=router: is_up(router, after),  # type: ignore[misc]
                lambda router=router: router.told(f'up under {after}'),  # type: ignore[misc]
            )
    OUTAGES[f'{before} to {after}'] = round(outage[0], 2)
    assert outage[0] < PATIENT_SECONDS
    assert r3.connections() == beside


def test_outages_are_written_down(routers_up: Routers) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / 'migration-outages.json').write_text(json.dumps(OUTAGES, indent=2) + '\n')
    assert len(OUTAGES) == len(PATHS) - 1


def test_uninstalling_leaves_no_rules_and_plain_exabgp_starts(routers_up: Routers) -> None:
    """Plain sessions again, the daemon stopped, and ExaBGP without the plugin in its place."""
    r1, r2 = routers_up.r1, routers_up.r2
    for router in (r2, r1):
        router.kill()
        assert 'exabgp-gatekeeper' not in router.node.run(['iptables-save']).stdout
        router.start(
            listen=R2 if router is r2 else None,
            environment={'exabgp_daemon_user': 'root'},
            program=('exabgp',),
        )
    r1.await_established(FAMILY, PLAIN)

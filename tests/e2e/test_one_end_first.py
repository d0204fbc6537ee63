"""One router starts before the other: no failure, and `show ikev2` says what it waits for."""

from __future__ import annotations

from gatekeeper.reporting.reasons import ORDINARY, Reason
from tests.e2e.backends import under_userspace
from tests.e2e.conftest import Routers
from tests.e2e.pair import await_up, configure, start
from tests.e2e.router import PATIENCE, within

pytestmark = under_userspace


def test_healthy_pair_logs_no_failure(routers: Routers) -> None:
    r1, r2 = routers.r1, routers.r2
    configure(routers)
    start(r1)
    within(
        PATIENCE,
        lambda: all(row['reason'] == Reason.NOBODY_AT_PORT.word for row in r1.show()),
        lambda: r1.told(f'nobody listens yet: {r1.show()}'),
    )
    start(r2)
    await_up(routers)
    for router in (r1, r2):
        hints = {reason.hint for reason in ORDINARY if reason.hint}
        failures = [
            line
            for line in router.log_of_this_run.splitlines()
            if any(hint in line for hint in hints)
        ]
        assert failures == []

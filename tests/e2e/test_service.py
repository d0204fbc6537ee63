"""A router with the privileges of the systemd unit, never root: the first protected neighbor comes
by a reload, and the sessions that were up stay up."""

from __future__ import annotations

import os
import pwd
import signal

import pytest

from gatekeeper.reporting.events import EventName
from lab.systemd_unit import as_unit, environment_of, read_unit
from lab.unprivileged import PROJECT
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2
from tests.e2e.router import PATIENCE, Router, let_others_in, within
from tests.e2e.test_fail_closed import ours, ruleset

pytestmark = under_userspace

UNIT = PROJECT / 'configs' / 'systemd' / 'exabgp-gatekeeper.service'
USER = pwd.getpwnam('nobody')
AT_R3, R3 = '10.0.3.1', '10.0.3.3'
PLAIN, PROTECTED = 'ipv4 unicast', 'ipv6 unicast'


def to_r3() -> str:
    return neighbor('r1', 'r3', local=AT_R3, remote=R3, families=[PLAIN])


def to_r2() -> str:
    return neighbor(
        'r1', 'r2', local=R1, remote=R2, protection=ikev2('r1', 'r2'), families=[PROTECTED],
        routes=ROUTES['r1'][1:],
    )  # fmt: skip


def start_as_service(router: Router) -> None:
    """Start the daemon with the unit's privileges, as `nobody` in place of its own user."""
    unit = read_unit(UNIT)
    let_others_in(router.node)
    for path in (router.home, *router.home.iterdir()):
        os.chown(path, USER.pw_uid, USER.pw_gid)
    router.start(
        drop=True,
        environment=environment_of(unit) | {'exabgp_daemon_user': USER.pw_name},
        program=(*as_unit(unit, USER.pw_name, 'nogroup'), 'exabgp-gatekeeper'),
    )


@pytest.fixture(scope='module')
def service(routers: Routers) -> Routers:
    """r1 runs as the service with a plain session to r3; r2 waits for its protected one."""
    r1, r2, r3 = routers.r1, routers.r2, routers.r3
    r3.configure(neighbor('r3', 'r1', local=R3, remote=AT_R3, families=[PLAIN], passive=True))
    r3.start(listen=R3, program=('exabgp',))
    r2.configure(
        neighbor(
            'r2',
            'r1',
            local=R2,
            remote=R1,
            protection=ikev2('r2', 'r1'),
            families=[PROTECTED],
            passive=True,
            routes=ROUTES['r2'][1:],
        )
    )
    r2.start(listen=R2)
    r1.configure(to_r3())
    start_as_service(r1)
    r1.await_established(PLAIN)
    return routers


def test_daemon_is_not_root_and_has_the_two_capabilities(service: Routers) -> None:
    process = service.r1.process
    assert process is not None
    status = (service.r1.node.proc.parent / str(process.pid) / 'status').read_text()
    fields = dict(line.split(':\t', 1) for line in status.splitlines() if ':\t' in line)
    assert fields['Uid'].split()[0] == str(USER.pw_uid)
    # CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN is 12.
    assert int(fields['CapEff'], 16) == int(fields['CapBnd'], 16) == 1 << 10 | 1 << 12


def test_first_protected_neighbor_comes_by_a_reload(service: Routers) -> None:
    r1, r3 = service.r1, service.r3
    before = r3.connections()
    assert before
    r1.configure(to_r3() + to_r2())
    r1.signal(signal.SIGUSR1)
    r1.await_event(EventName.OPEN, PROTECTED)
    r1.await_helper()
    r1.await_routes(ROUTES['r2'][1].split()[0])
    assert r3.connections() == before


def test_service_stops_and_leaves_no_rules(service: Routers) -> None:
    r1 = service.r1
    r1.kill(signal.SIGTERM)
    within(
        PATIENCE,
        lambda: 'exabgp-gatekeeper' not in r1.node.run(['iptables-save']).stdout,
        lambda: r1.told('rules are gone'),
    )


def test_service_clears_the_leftovers_of_a_kill(service: Routers) -> None:
    """The service may not read which queues are listened on."""
    r1 = service.r1
    start_as_service(r1)
    r1.await_established(PLAIN, PROTECTED)
    helper = r1.packet_process()
    assert helper is not None
    os.kill(helper, signal.SIGKILL)
    r1.kill()
    assert ours(ruleset(r1.node))
    start_as_service(r1)
    r1.await_log('left behind by a process that was killed, and removed: ')
    r1.await_established(PLAIN, PROTECTED)
    r1.kill(signal.SIGTERM)
    assert not ours(ruleset(r1.node))

"""The second net under two real daemons: there before the sessions, gone with the daemon's own end,
still there after a kill, and in force where what protects connections is passed by."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from lab.impostors import Ending, Heard, inside, speak
from tcpao.second_net.client import MODULE
from tcpao.second_net.ruleset import PREFIX
from tests.e2e import pair
from tests.e2e.backends import under_both
from tests.e2e.conftest import Routers
from tests.e2e.router import PATIENCE, Router, within

pytestmark = under_both

SHORT_SECONDS = 1.5
"""A SYN is repeated after 1 s."""


def net_of(router: Router) -> str:
    """The rules of the net on this host; '' if there is none."""
    rules = router.node.run(['nft', 'list', 'ruleset']).stdout
    return rules[rules.index(PREFIX) :] if PREFIX in rules else ''


def keeper_of(router: Router) -> int:
    """The process that makes the net's rules, a child of the daemon."""
    assert router.process is not None
    for status in Path('/proc').glob('[0-9]*/status'):
        # Another process may have ended meanwhile. (No list of children: not every kernel has it.)
        with suppress(OSError):
            is_child = f'\nPPid:\t{router.process.pid}\n' in status.read_text()
            if is_child and MODULE in status.with_name('cmdline').read_text():
                return int(status.parent.name)
    raise AssertionError('there is no such process')


def start(router: Router) -> None:
    router.start(
        listen=pair.R2 if router.name == 'r2' else None,
        environment={'exabgp_ikev2_secondnet': 'true'},
    )


@pytest.fixture(scope='module')
def up(routers: Routers) -> Routers:
    """Both sessions are up, both routers have the net."""
    pair.configure(routers)
    for router in (routers.r2, routers.r1):
        start(router)
    pair.await_up(routers)
    return routers


def test_sessions_come_up_and_lose_nothing_to_it(up: Routers) -> None:
    for router, peer in ((up.r1, pair.R2), (up.r2, pair.R1)):
        assert f'{peer} . 179' in net_of(router)
        counted = router.counters()
        assert (counted['second_net_dropped_in'], counted['second_net_dropped_out']) == (0, 0)


def test_nothing_plain_leaves_for_a_protected_peer(up: Routers) -> None:
    with inside(up.r1.node.namespace):
        assert speak(pair.R1, (pair.R2, 179), SHORT_SECONDS) == Heard(Ending.NO_CONNECTION, b'')
    assert up.r1.counters()['second_net_dropped_out'] > 0


def test_net_outlives_a_kill_and_keeps_the_peer_out(up: Routers) -> None:
    up.r2.kill(signal.SIGKILL)
    assert f'{ip_address(pair.R1)} . 179' in net_of(up.r2)
    start(up.r2)
    pair.await_up(up)
    assert net_of(up.r2).count('table inet') <= 1


def test_end_of_the_nets_process_is_told_at_once(up: Routers) -> None:
    connections = up.r1.connections()
    os.kill(keeper_of(up.r1), signal.SIGKILL)
    up.r1.await_log('the process of the second net has ended')
    assert f'{pair.R2} . 179' in net_of(up.r1)
    assert up.r1.connections() == connections


def test_net_goes_with_a_stop(up: Routers) -> None:
    up.r2.kill(signal.SIGTERM)
    within(PATIENCE, lambda: not net_of(up.r2), lambda: up.r2.told('the net is gone'))

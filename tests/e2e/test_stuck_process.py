"""A packet process that answers late, or never: it costs the sessions that it protects, and no
other a KEEPALIVE, also while the configuration is loaded; nor does it hold up the daemon's end.

r1 opens a session to r2 and is plain to r3, with a short hold time.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gatekeeper.reporting.events import EventName
from plugin.reactor.deferred_reload import BUSY
from tcpao.userspace.client.channel import PATIENCE as ANSWERS_WITHIN
from tcpao.userspace.rules.interface import LEFT_AND_REMOVED
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2
from tests.e2e.router import PATIENCE, Router, within
from tests.e2e.test_fail_closed import AT_R3, PLAIN, R3, ours, packet_process, ruleset

pytestmark = under_userspace

STRANGER = '10.0.0.99'
"""Nobody is there."""
STOPS_WITHIN = 5.0
"""Seconds; docs/operating.md promises that."""
SLOW = ANSWERS_WITHIN / 2


def protected(router: Router, peer: str, local: str, remote: str) -> str:
    return neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection=ikev2(router.name, 'r2' if router.name == 'r1' else 'r1'),
        passive=router.name == 'r2',
        families=[PLAIN],
        routes=ROUTES[router.name][:1],
    )


class Scene:
    """The three routers."""

    def __init__(self, routers: Routers, hold_time: int) -> None:
        self.r1, self.r2, self.r3 = routers.r1, routers.r2, routers.r3
        self.hold_time = hold_time
        self.first = protected(self.r1, 'r2', R1, R2) + neighbor(
            'r1', 'r3', local=AT_R3, remote=R3, families=[PLAIN], hold_time=hold_time
        )
        self.r1.configure(self.first)
        self.r2.configure(protected(self.r2, 'r1', R2, R1))
        self.r3.configure(
            neighbor(
                'r3',
                'r1',
                local=R3,
                remote=AT_R3,
                passive=True,
                families=[PLAIN],
                hold_time=hold_time,
            )
        )

    def up(self) -> None:
        self.r3.start(listen=R3, program=('exabgp',))
        self.r2.start(listen=R2, drop=True)
        self.r1.start(listen=R1, drop=True)
        self.r1.await_event(EventName.OPEN, PLAIN)
        self.r2.await_established(PLAIN)
        self.r3.await_established(PLAIN)

    def load_one_more(self) -> None:
        """Have r1 protect a further address, which needs a rule before it is in force."""
        self.r1.configure(self.first + protected(self.r1, 'r2', R1, STRANGER))
        self.r1.signal(signal.SIGUSR1)

    @contextmanager
    def plain_session_stays(self) -> Iterator[None]:
        """For longer than its hold time after the block, too."""
        before = self.r3.connections()
        assert before
        yield
        now = self.r3.established()[PLAIN]
        within(
            PATIENCE,
            lambda: self.r3.established().get(PLAIN, 0) > now + self.hold_time + 1,
            lambda: self.r3.told(f'the plain session goes on; {self.r1.told("")}'),
        )
        assert self.r3.connections() == before, self.r1.told('the session is the same')


@pytest.fixture(params=[3, 9], ids=['hold3', 'hold9'])
def scene(request: pytest.FixtureRequest, routers: Routers) -> Iterator[Scene]:
    yield Scene(routers, request.param)
    routers.stop()
    routers.r1.node.run(['nft', 'flush', 'ruleset'])


@pytest.fixture
def two(routers: Routers) -> Iterator[Scene]:
    yield Scene(routers, 9)
    routers.stop()
    routers.r1.node.run(['nft', 'flush', 'ruleset'])


def test_a_plain_neighbor_stays_beside_a_stuck_process(scene: Scene) -> None:
    scene.up()
    with scene.plain_session_stays():
        os.kill(packet_process(scene.r1), signal.SIGSTOP)
        scene.load_one_more()
        within(
            PATIENCE,
            lambda: scene.r1.packet_process() is None,
            lambda: scene.r1.told('the stuck process is killed'),
        )
        scene.r1.await_log('the userspace backend is dead')
    assert ours(ruleset(scene.r1.node)), 'shut'


def test_a_load_waits_for_a_slow_process_and_is_done(scene: Scene) -> None:
    scene.up()
    r1 = scene.r1
    stuck = packet_process(r1)
    with scene.plain_session_stays():
        os.kill(stuck, signal.SIGSTOP)
        try:
            scene.load_one_more()
            r1.await_log(BUSY, SLOW)
            assert 'loaded new configuration' not in r1.log_of_this_run.rpartition(BUSY)[2]
        finally:
            os.kill(stuck, signal.SIGCONT)
        within(
            PATIENCE,
            lambda: any(row['neighbor'] == STRANGER for row in r1.show()),
            lambda: r1.told('the further neighbor is there'),
        )
    assert r1.established().keys() >= {PLAIN}
    assert 'could not load' not in r1.log_of_this_run


def test_a_daemon_ends_beside_a_stuck_process(two: Scene) -> None:
    r1 = two.r1
    two.up()
    stuck = packet_process(r1)
    os.kill(stuck, signal.SIGSTOP)
    began = time.monotonic()
    r1.kill(signal.SIGTERM)
    assert time.monotonic() - began < STOPS_WITHIN
    assert ours(ruleset(r1.node)) == []
    assert (r1.node.proc / 'net/netfilter/nfnetlink_queue').read_text() == ''
    r1.start(listen=R1, drop=True)
    r1.await_event(EventName.OPEN, PLAIN)
    assert LEFT_AND_REMOVED not in r1.log_of_this_run

"""A packet process that answers late, or never: it costs the sessions that it protects, and no
other a KEEPALIVE, also while the configuration is loaded; nor does it hold up the daemon's end.

r1 opens a session to r2 and is plain to r3, with a short hold time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from gatekeeper.reporting.events import EventName
from plugin.reactor.deferred_reload import BUSY
from tcpao.userspace.client.channel import PATIENCE as ANSWERS_WITHIN
from tcpao.userspace.rules.interface import LEFT_AND_REMOVED
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2
from tests.e2e.router import HOME, PATIENCE, Router, within
from tests.e2e.test_fail_closed import AT_R3, PLAIN, R3, ours, packet_process, ruleset

pytestmark = under_userspace

STRANGER = '10.0.0.99'
"""No process is there."""
HOLD_TIME = 9
"""Seconds, of what is protected: a peer that was not told finds out soon."""
STOPS_WITHIN = 5.0
"""Seconds; docs/operating.md promises that."""
OPEN_FOR = 1.0
"""Seconds that a flush takes, and half a second, as docs/userspace-tcp-ao.md says."""
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
        hold_time=HOLD_TIME,
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

    def up(self, environment: Mapping[str, str] | None = None) -> None:
        """Every session; `environment` is for r1's daemon."""
        self.r3.start(listen=R3, program=('exabgp',))
        self.r2.start(listen=R2, drop=True)
        self.r1.start(listen=R1, drop=True, environment=environment)
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
    yield Scene(routers, HOLD_TIME)
    routers.stop()
    routers.r1.node.run(['nft', 'flush', 'ruleset'])


def test_plain_neighbor_stays_beside_a_stuck_process(scene: Scene) -> None:
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


def test_load_waits_for_a_slow_process_and_is_done(scene: Scene) -> None:
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


def legacy(router: Router) -> tuple[dict[str, str], Path]:
    """An environment whose iptables is the old one, with a lock; and that."""
    tools = router.home / 'bin'
    tools.mkdir(exist_ok=True)
    for command in ('iptables', 'ip6tables'):
        for suffix in ('', '-save', '-restore'):
            link = tools / f'{command}{suffix}'
            link.unlink(missing_ok=True)
            link.symlink_to(shutil.which(f'{command}-legacy{suffix}') or 'missing')
    lock = router.write('xtables.lock', '')
    path = [f'/{HOME}/bin', str(Path(sys.executable).parent), os.environ['PATH']]
    return {'PATH': os.pathsep.join(path), 'XTABLES_LOCKFILE': str(lock)}, router.home / lock.name


def test_load_behind_a_lock_is_refused_with_the_reason(scene: Scene) -> None:
    environment, lock = legacy(scene.r1)
    scene.up(environment)
    with scene.plain_session_stays(), lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        scene.load_one_more()
        scene.r1.await_log('holding the xtables lock')
    assert scene.r1.log_of_this_run.count(BUSY) == 1
    assert scene.r1.established().keys() >= {PLAIN}


def test_flush_behind_a_lock_ends_what_it_opens(two: Scene) -> None:
    r1 = two.r1
    environment, lock = legacy(r1)
    two.up(environment)
    script = f'iptables -t mangle -F; exec flock /{HOME}/{lock.name} sleep {PATIENCE}'
    began = time.monotonic()
    holder = r1.node.popen(['sh', '-c', script], environment=environment)
    try:
        within(
            OPEN_FOR,
            lambda: not any(one[1] == R2 for one in r1.connections()),
            lambda: r1.told(f'reset, {time.monotonic() - began:.2f} s after the flush began'),
        )
    finally:
        # flock has the command beside it, and that has the lock too.
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
    r1.await_event(EventName.OPEN, PLAIN, count=2)
    two.r2.await_established(PLAIN)


def test_daemon_ends_beside_a_stuck_process(two: Scene) -> None:
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

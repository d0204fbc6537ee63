"""A daemon and its packet process are killed at once; the next daemon has no packet process.

What drops the peer's packets until then would do so for ever: no other process takes those
rules away.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from gatekeeper.reporting.events import EventName
from tcpao.backend import Preference
from tcpao.second_net.ruleset import PREFIX
from tcpao.userspace.rules.interface import LEFT_AND_REMOVED, NAME
from tests.e2e.backends import KERNEL, USERSPACE
from tests.e2e.configurations import ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2
from tests.e2e.router import Router
from tests.e2e.test_fail_closed import ours, ruleset

FAMILY = 'ipv4 unicast'
# As a packet process with rules of nftables leaves it, where there is one: a new interpreter takes
# long in User Mode Linux.
LEFT = f"""
table inet {NAME}-queue-20000 {{
    chain in {{
        type filter hook input priority -160;
        tcp sport 179 queue num 20000
        tcp dport 179 queue num 20000
    }}
}}
"""


@pytest.fixture(scope='module', autouse=True)
def clean(routers: Routers) -> Iterator[None]:
    yield
    routers.stop()
    for router in (routers.r1, routers.r2):
        router.node.run(['nft', 'flush', 'ruleset'])


def text(router: Router, *, protected: bool) -> str:
    peer, local, remote = ('r2', R1, R2) if router.name == 'r1' else ('r1', R2, R1)
    return neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection=ikev2(router.name, peer) if protected else '',
        passive=router.name == 'r2',
        families=[FAMILY],
        routes=ROUTES[router.name][:1],
    )


def start(routers: Routers, *, protected: bool) -> None:
    for router in (routers.r2, routers.r1):
        router.configure(text(router, protected=protected))
        router.start(listen=R2 if router is routers.r2 else None)


def kill_together(router: Router) -> None:
    helper = router.packet_process()
    assert helper is not None
    # So that it can't act on the daemon's death.
    os.kill(helper, signal.SIGSTOP)
    os.kill(helper, signal.SIGKILL)
    router.kill()


@pytest.mark.parametrize('backend', [USERSPACE], indirect=True, scope='module')
def test_plain_neighbors_come_up_and_no_rule_is_left(routers: Routers) -> None:
    both = (routers.r1, routers.r2)
    start(routers, protected=True)
    routers.r1.await_event(EventName.OPEN, FAMILY)
    for router in both:
        kill_together(router)
        assert ours(ruleset(router.node))
    start(routers, protected=False)
    for router in both:
        router.await_established(FAMILY)
        router.await_log(f'{LEFT_AND_REMOVED}: ')
        assert router.packet_process() is None
        assert ours(ruleset(router.node)) == []


@pytest.mark.parametrize('backend', [KERNEL], indirect=True, scope='module')
def test_kernel_protected_neighbors_come_up_and_no_rule_is_left(
    routers: Routers,
) -> None:
    both = (routers.r1, routers.r2)
    for router in both:
        router.node.run(['nft', '-f', '-'], input=LEFT)
    start(routers, protected=True)
    for router in both:
        router.await_event(EventName.OPEN, FAMILY)
        router.await_established(FAMILY)
        router.await_log(f'{LEFT_AND_REMOVED}: nftables: table inet {NAME}-queue-20000')
        # The second net is for the daemon that runs.
        assert [line for line in ours(ruleset(router.node)) if PREFIX not in line] == []
        assert router.backend is Preference.KERNEL

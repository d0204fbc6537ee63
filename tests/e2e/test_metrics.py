"""A running router serves its metrics, and goes on without them being read."""

from __future__ import annotations

import sys

import pytest

from tests.e2e import pair
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import FAMILIES
from tests.e2e.conftest import Routers
from tests.e2e.router import Router

pytestmark = under_userspace

ENDPOINT = '127.0.0.1:9179'
READ = f"""
from urllib.request import urlopen
print(urlopen('http://{ENDPOINT}/metrics', timeout=5).read().decode())
"""


def scraped(router: Router) -> dict[str, float]:
    lines = router.node.run([sys.executable, '-c', READ]).stdout.splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(' ') for line in lines if line[:1].isalpha())
    }


@pytest.fixture(scope='module')
def up(routers: Routers) -> Routers:
    """Both sessions are up; r1 serves metrics and has become `nobody`."""
    pair.configure(routers)
    pair.start(routers.r2)
    routers.r1.start(drop=True, environment={'exabgp_ikev2_metrics': ENDPOINT})
    pair.await_up(routers)
    return routers


def test_sessions_are_up_with_lifetimes_and_good_segments(up: Routers) -> None:
    found = scraped(up.r1)
    assert found['gatekeeper_up'] == 1
    for family in FAMILIES:
        whose = f'{{neighbor="{pair.R2}",session="{family}"}}'
        assert found[f'gatekeeper_session_up{whose}'] == 1
        assert 0 < found[f'gatekeeper_key_expires_seconds{whose}'] <= 600
    assert found['gatekeeper_segments_total{verdict="good"}'] > 0
    assert found['gatekeeper_events_total{event="established"}'] == len(FAMILIES)


def test_metrics_are_for_loopback_only(up: Routers) -> None:
    reach = f"import socket; socket.create_connection(('{pair.R1}', 9179), 5)"
    done = up.r2.node.run([sys.executable, '-c', reach], check=False)
    assert 'ConnectionRefusedError' in done.stdout

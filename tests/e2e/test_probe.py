"""`gatekeeper probe` beside a daemon, with its identity and from its address: it tells what it
finds, and the daemon's sessions notice nothing. And the daemon's own IKE key log.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gatekeeper.reporting.events import EventName
from ikev2.constants import ExchangeType, PayloadType
from lab.demo.capture import Capture
from tests.e2e import pair
from tests.e2e.configurations import FAMILIES
from tests.e2e.conftest import Routers
from tests.e2e.on_the_wire import so_far
from tests.e2e.pair import PORTS, R2
from tests.e2e.router import HOME
from tests.ikev2.wireshark import read_capture

pytestmark = pytest.mark.kernel

KEY_LOG = 'ike-keys'
IDENTITIES = ('--local-id', 'fqdn', 'r1.lab', '--peer-id', 'fqdn', 'r2.lab')
SESSION = ('--session', 'ipv4', 'unicast')


@pytest.fixture(scope='module')
def both(routers: Routers, wire: Capture) -> Routers:
    """Both sessions are up; r1 logs the keys of its IKE SAs."""
    pair.configure(routers)
    log = {'exabgp_ikev2_ikekeylog': f'/{HOME}/{KEY_LOG}'}
    routers.r2.start(listen=R2)
    routers.r1.start(environment=log)
    pair.await_up(routers)
    return routers


def probe(both: Routers, *options: str) -> tuple[int, list[Mapping[str, Any]], str]:
    """Exit status, steps, and what was said besides."""
    command = ['gatekeeper', 'probe', R2, *IDENTITIES, '--psk-file', f'/{HOME}/psk', '--json']
    done = both.r1.node.run([*command, *options], check=False)
    lines = done.stdout.splitlines()
    steps = [json.loads(line) for line in lines if line.startswith('{')]
    return done.returncode, steps, '\n'.join(line for line in lines if not line.startswith('{'))


def keys(both: Routers) -> list[str]:
    """All that either daemon has ever had."""
    return [key['master_key'] for router in (both.r1, both.r2) for key in router.key_list()]


def test_probe_proves_ike_and_the_sessions_keep_their_keys(both: Routers) -> None:
    before = keys(both)
    status, steps, _ = probe(both)
    assert status == 0, steps
    assert 'proven: the peer is fqdn r2.lab' in [step['text'] for step in steps]
    for router in (both.r1, both.r2):
        router.await_established(*FAMILIES)
        assert not router.named(EventName.END)
    assert keys(both) == before


def test_socket_pair_of_a_running_session_is_not_asked_for(both: Routers) -> None:
    port = str(PORTS['ipv4 unicast'])
    status, steps, said = probe(both, *SESSION, '--source-port', port)
    assert status == 2
    assert not steps
    assert f'TCP port {port} of 10.0.0.1 cannot be reserved' in said
    both.r1.await_established(*FAMILIES)


def test_port_that_no_session_of_the_peer_has_is_explained(both: Routers) -> None:
    status, steps, _ = probe(both, *SESSION)
    assert status == 1
    (failure,) = [step for step in steps if step['result'] == 'failed' and 'advice' in step]
    assert 'TS_UNACCEPTABLE' in failure['text']
    assert 'peer-port' in failure['advice']
    both.r2.await_event(EventName.REFUSED, step='request from the peer')
    both.r1.await_established(*FAMILIES)


def test_key_is_agreed_and_gone_again_when_its_session_is_down(both: Routers) -> None:
    """r1's daemon has gone, so its port is free: what r2 would say to it is said to the probe."""
    both.r1.kill()
    for session in FAMILIES:
        # r2 has noticed, and its gatekeeper too.
        both.r2.await_event(EventName.MKT_REMOVED, session)
    port = str(PORTS['ipv4 unicast'])
    status, steps, said = probe(both, *SESSION, '--source-port', port)
    assert status == 0, (steps, said)
    (agreed,) = [step for step in steps if 'send_id' in step]
    assert agreed['algorithm'] == 'hmac-sha-1-96'
    both.r2.await_event(EventName.MKT_INSTALLED, recv_id=agreed['send_id'])
    both.r1.start()
    pair.await_up(both)


def test_wireshark_reads_the_daemons_ike_with_its_key_log(
    both: Routers, wire: Capture, tmp_path: Path
) -> None:
    log = both.r1.home / KEY_LOG
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert 'THE KEYS OF EVERY IKE SA' in both.r1.log
    seen = read_capture(so_far(wire), log, tmp_path / 'home')
    named = {
        name
        for one in seen
        if one.exchange == ExchangeType.IKE_AUTH and PayloadType.AUTH in one.payloads
        for name in one.names
    }
    assert named == {'r1.lab', 'r2.lab'}

"""Neighbors whose IKE never answers, beside one that has nothing to do with any of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from gatekeeper.reporting.events import EventName
from lab.demo.capture import Capture
from tcpao.verification.capture import read_packets
from tcpao.verification.segment import parse_ip
from tests.e2e.backends import under_userspace
from tests.e2e.configurations import ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.on_the_wire import so_far
from tests.e2e.pair import R1, R2, throughout
from tests.e2e.router import Router

pytestmark = under_userspace

NOBODY, DEAF = '10.0.0.88', '10.0.0.99'
"""An address that no host has, and one of r2's: what comes to it is dropped in silence."""
DEAD = {'r2': R2, 'nobody': NOBODY, 'deaf': DEAF}
"""r2 has no daemon: it answers that nothing listens on UDP 500."""
SAID = {R2: 'port unreachable', NOBODY: 'no route to host', DEAF: 'no IKE answer'}
"""What ICMP says is told at once; only silence is no answer."""
HINTED = {
    R2: 'start the daemon there',
    NOBODY: 'start the daemon there',
    DEAF: 'check that the peer',
}
DEAFNESS = f"""
table inet deafness {{
    chain incoming {{
        type filter hook prerouting priority -300
        ip daddr {DEAF} drop
    }}
}}
"""
AT_R3, R3 = '10.0.3.1', '10.0.3.3'
FAMILY = 'ipv4 unicast'
HOLD_TIME = 9
"""Seconds; keepalives are due after a third of it."""
MISSED = 2 * HOLD_TIME / 3
"""Between two keepalives: one was left out."""
GATE_SECONDS = 5
KEEPALIVE = 4
LENGTH = slice(16, 18)
TYPE = 18


@pytest.fixture(scope='module')
def wire(routers: Routers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """The link between r1 and r3."""
    capture = Capture(routers.r3.node, 'eth1', tmp_path_factory.mktemp('wire') / 'wire.pcap')
    yield capture
    capture.close()


@pytest.fixture(scope='module')
def dead_wire(routers: Routers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """The link to the dead peers, from before r1's first packet on."""
    capture = Capture(routers.r1.node, 'eth1', tmp_path_factory.mktemp('dead') / 'wire.pcap')
    yield capture
    capture.close()


@pytest.fixture(scope='module')
def deaf(routers: Routers) -> Iterator[None]:
    """r2 has the address on which no daemon listens."""
    node = routers.r2.node
    node.run(['ip', 'address', 'add', f'{DEAF}/24', 'dev', 'eth1'])
    node.run(['nft', '-f', '-'], input=DEAFNESS)
    yield
    node.run(['nft', 'delete', 'table', 'inet', 'deafness'])
    node.run(['ip', 'address', 'del', f'{DEAF}/24', 'dev', 'eth1'])


@pytest.fixture(scope='module')
def r1(routers: Routers, wire: Capture, dead_wire: Capture, deaf: None) -> Router:
    """r1 has gated neighbors, all of them dead, and r3, with which it is up."""
    one, r3 = routers.r1, routers.r3
    r3.configure(
        neighbor(
            'r3',
            'r1',
            local=R3,
            remote=AT_R3,
            passive=True,
            families=[FAMILY],
            hold_time=HOLD_TIME,
        )
    )
    r3.start(listen=R3, program=('exabgp',))
    dead = [
        neighbor(
            'r1',
            'r2',
            local=R1,
            remote=address,
            protection=ikev2('r1', name, timeout=GATE_SECONDS),
            families=[FAMILY],
        )
        for name, address in DEAD.items()
    ]
    plain = neighbor('r1', 'r3', local=AT_R3, remote=R3, families=[FAMILY], hold_time=HOLD_TIME)
    one.configure(''.join([*dead, plain]))
    one.start()
    for router in (one, r3):
        router.await_established(FAMILY)
    return one


def test_other_neighbors_miss_no_keepalive(r1: Router, routers: Routers, wire: Capture) -> None:
    uptimes = dict.fromkeys((r1, routers.r3), 0)

    def look() -> None:
        for router, before in uptimes.items():
            now = router.established()[FAMILY]
            assert now >= before, router.told('the plain session was lost')
            uptimes[router] = now

    throughout(2 * HOLD_TIME, look)
    times = list(keepalives(wire, AT_R3))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) > 3
    assert max(gaps) < MISSED


def keepalives(wire: Capture, source: str) -> Iterator[float]:
    """When messages of that kind were sent."""
    for packet in read_packets(so_far(wire)):
        segment = parse_ip(packet.octets)
        if segment is None or str(segment.source) != source:
            continue
        octets = segment.payload
        while octets:
            if octets[TYPE] == KEEPALIVE:
                yield packet.time
            octets = octets[int.from_bytes(octets[LENGTH], 'big') :]


@pytest.mark.parametrize('address', DEAD.values(), ids=DEAD)
def test_dead_peer_is_tried_again_and_the_cause_is_told(r1: Router, address: str) -> None:
    again = r1.await_event(EventName.REFUSED, FAMILY, count=2, neighbor=address)
    assert str(again.details['step']).startswith('IKE')
    assert SAID[address] in str(again.details['cause'])


@pytest.mark.parametrize('address', DEAD.values(), ids=DEAD)
def test_log_tells_which_session_fails_why_and_what_to_try(r1: Router, address: str) -> None:
    said = f'neighbor {address} session {FAMILY}: IKE'
    r1.await_log(said)
    line = next(line for line in r1.log.splitlines() if said in line)
    assert SAID[address] in line
    assert HINTED[address] in line


@pytest.mark.parametrize('address', DEAD.values(), ids=DEAD)
def test_show_ikev2_tells_it_too(r1: Router, address: str) -> None:
    r1.await_event(EventName.REFUSED, FAMILY, neighbor=address)
    (row,) = (row for row in r1.show() if row['neighbor'] == address)
    assert row['state'] in ('down', 'waiting for IKE')
    assert SAID[address] in row['last_error']
    (line,) = (line for line in r1.ask('show ikev2') if line.startswith(f'{address} '))
    assert SAID[address] in line


def test_dead_peer_gets_no_syn(r1: Router, dead_wire: Capture) -> None:
    for address in DEAD.values():
        r1.await_event(EventName.REFUSED, FAMILY, count=2, neighbor=address)
    packets = list(read_packets(so_far(dead_wire)))
    assert packets, 'not even IKE was captured'
    assert not [packet for packet in packets if parse_ip(packet.octets) is not None]

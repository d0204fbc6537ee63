"""GTSM (RFC 5082) under TCP-AO, between two hosts: both ends expect a TTL of 255."""

from __future__ import annotations

from pathlib import Path

from lab.demo.capture import Capture
from tcpao.verification.capture import read_packets
from tcpao.verification.segment import parse_ip
from tests.e2e.backends import under_both
from tests.e2e.configurations import FAMILIES, ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import R1, R2
from tests.e2e.router import Router, within

pytestmark = under_both

SESSION = FAMILIES[0]
TTL_AT = 8
EXPECTED = 255
FROM_FAR = """
table inet far {
    chain out { type filter hook postrouting priority 0; ip protocol tcp ip ttl set 254; }
}
"""


def text(router: Router) -> str:
    opens = router.name == 'r1'
    peer, local, remote = ('r2', R1, R2) if opens else ('r1', R2, R1)
    block = neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection=ikev2(router.name, peer),
        passive=not opens,
        families=[SESSION],
        routes=ROUTES[router.name][:1],
    )
    ttl = f'    incoming-ttl {EXPECTED};\n    outgoing-ttl {EXPECTED};\n'
    return block.replace('    router-id', f'{ttl}    router-id', 1)


def start(routers: Routers) -> None:
    for router in (routers.r2, routers.r1):
        router.configure(text(router))
        router.start(listen=R2 if router.name == 'r2' else None)


def has_ttl(packet: bytes) -> bool:
    """An IPv4 packet of a connection; the RST for one that is unknown comes from no socket."""
    segment = parse_ip(packet) if packet[0] >> 4 == 4 else None
    return segment is not None and not segment.has_rst


def test_session_comes_up_when_both_ends_expect_neighbors(routers: Routers, tmp_path: Path) -> None:
    """SYN-ACKs too: they have the listening socket's TTL."""
    wire = Capture(routers.r1.node, 'eth1', tmp_path / 'wire.pcap')
    start(routers)
    routers.r2.await_established(SESSION)
    routers.stop()
    wire.close()
    ttls = {one.octets[TTL_AT] for one in read_packets(wire.path) if has_ttl(one.octets)}
    assert ttls == {EXPECTED}


def test_segments_are_dropped_when_the_peer_is_further_away(routers: Routers) -> None:
    routers.stop()
    r1, r2 = routers.r1, routers.r2
    r1.node.run(['sh', '-c', f"echo '{FROM_FAR}' | nft -f -"])
    dropped = r2.counter('TCPMinTTLDrop')
    try:
        start(routers)
        within(60.0, lambda: r2.counter('TCPMinTTLDrop') > dropped, lambda: r2.told('drops'))
        assert 'receive-update' not in r2.log_of_this_run
    finally:
        r1.node.run(['nft', 'delete', 'table', 'inet', 'far'])

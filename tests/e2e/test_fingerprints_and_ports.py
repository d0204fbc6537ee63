"""Raw keys of which each side knows only the other's fingerprint, so that the keys themselves come
in IKE (RFC 7670), and IKE on other UDP ports than 500; both daemons have become `nobody`.
"""

from __future__ import annotations

from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.reporting.events import EventName
from ikev2 import Fingerprint, Identity, Peer, PrivateKey
from ikev2.authentication.signatures.keys import PublicKey
from ikev2.events import IkeSaFailed, IkeSaUp
from lab.demo.capture import Capture
from lab.impostors import IkeSpeaker, inside
from tcpao.verification.capture import read_packets
from tests.e2e import pair
from tests.e2e.configurations import ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.on_the_wire import so_far
from tests.e2e.pair import R1, R2
from tests.e2e.router import PATIENCE

pytestmark = pytest.mark.kernel

IKE_PORTS = {'r1': (1500, 14500), 'r2': (2500, 24500)}
"""For IKE, and for IKE behind the non-ESP marker."""
STRANGE_PORTS = (3500, 34500)
NOBODY = '65534'
UDP = 17


@pytest.fixture(scope='module')
def both(routers: Routers, wire: Capture) -> Routers:
    """Both sessions are up, with routes both ways."""
    r1, r2 = routers.r1, routers.r2
    for router, peer, local, remote in ((r2, r1, R2, R1), (r1, r2, R1, R2)):
        # Of the peer's public key, which the router itself isn't given.
        fingerprint = PublicKey.load((router.home / 'peer.pub').read_bytes()).fingerprint
        credential = (
            f'private-key "private.pem"; peer-fingerprint {fingerprint}; '
            f'ike-port {IKE_PORTS[peer.name][0]};'
        )
        router.configure(
            neighbor(
                router.name,
                peer.name,
                local=local,
                remote=remote,
                protection=ikev2(router.name, peer.name, credential=credential),
                passive=router is r2,
                routes=ROUTES[router.name],
            )
        )
        first, second = IKE_PORTS[router.name]
        router.start(
            listen=R2 if router is r2 else None,
            drop=True,
            environment={'exabgp_ikev2_port': f'{first} {second}'},
        )
    pair.await_up(routers)
    return routers


def test_keys_come_in_the_ike_sa(both: Routers) -> None:
    for router in (both.r1, both.r2):
        authentication = router.await_event(EventName.IKE_AUTH, sent=False)
        assert 'CERT' in str(authentication.details['detail']).split(', ')


def test_key_is_refused_when_its_fingerprint_is_another(both: Routers) -> None:
    stranger = Peer(
        name='r2',
        local_id=Identity.parse('fqdn', 'r1.lab'),
        remote_id=Identity.parse('fqdn', 'r2.lab'),
        credential=PrivateKey(Ed25519PrivateKey.generate()),
        # Whatever r2 proves to be.
        remote_credential=Fingerprint(bytes(32)),
        addresses=((ip_address(R1), ip_address(R2)),),
        remote_port=IKE_PORTS['r2'][0],
    )
    with (
        inside(both.r1.node.namespace),
        closing(IkeSpeaker(stranger, STRANGE_PORTS)) as speaker,
    ):
        speaker.connect()
        events = speaker.run(PATIENCE)
        outcome = next(one for one in events if isinstance(one, IkeSaUp | IkeSaFailed))
    assert isinstance(outcome, IkeSaFailed)
    refused = both.r2.await_event(EventName.REFUSED, step='IKE_AUTH')
    assert 'fingerprint' in str(refused.details['text'])


def test_ike_uses_no_other_ports(both: Routers, wire: Capture) -> None:
    allowed = {IKE_PORTS['r1'][0], IKE_PORTS['r2'][0], *STRANGE_PORTS}
    used = {port for packet in read_packets(so_far(wire)) for port in udp_ports(packet.octets)}
    assert {IKE_PORTS['r1'][0], IKE_PORTS['r2'][0]} <= used <= allowed


def udp_ports(packet: bytes) -> set[int]:
    """Both of them, if it is UDP over IPv4."""
    if packet[0] >> 4 != 4 or packet[9] != UDP:
        return set()
    datagram = packet[(packet[0] & 0x0F) * 4 :]
    return {int.from_bytes(datagram[at : at + 2], 'big') for at in (0, 2)}


def test_daemons_run_as_nobody(both: Routers) -> None:
    for router in (both.r1, both.r2):
        assert router.process is not None
        status = Path(f'/proc/{router.process.pid}/status').read_text()
        (users,) = (line.split()[1:] for line in status.splitlines() if line.startswith('Uid:'))
        assert set(users) == {NOBODY}

"""The configuration of configs/certificates in real daemons: hybrid IKE between certificates, a
revocation, and certificates that prove nothing; the cause is where an operator looks for it.
"""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import closing
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from gatekeeper.reporting.events import EventName
from ikev2 import Identity, Peer, PrivateKey
from ikev2.authentication.auth import CertifiedKey, PresharedKey, TrustAnchors
from ikev2.authentication.ppk import Ppk
from ikev2.constants import ExchangeType
from ikev2.events import IkeSaFailed, IkeSaUp
from ikev2.proposals.policies import policy_named
from keymaterial import read_secret_file
from lab.certificates import Authority, Certified
from lab.demo.capture import Capture
from lab.impostors import IkeSpeaker, inside
from tcpao.verification.capture import read_packets
from tests.e2e.configurations import ROUTES
from tests.e2e.conftest import Routers
from tests.e2e.on_the_wire import so_far
from tests.e2e.pair import R1, R2
from tests.e2e.router import PATIENCE, Router, within

pytestmark = pytest.mark.kernel

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'certificates'
SESSION = 'ipv4 unicast'
STRANGE_PORTS = (3500, 34500)
HOUR = timedelta(hours=1)
UDP = 17
AUTHORITY = Authority.new()
ROUTERS = {name: AUTHORITY.certify(name, f'{name}.lab') for name in ('r1', 'r2')}
REVOKED = AUTHORITY.certify('r1', 'r1.lab')


def furnish(router: Router) -> None:
    """Write the files that the configuration names, as `lab.keys` would."""
    (router.home / 'keys').mkdir(exist_ok=True)
    own = ROUTERS[router.name]
    router.write('keys/router.pem', own.private, 0o600)
    router.write('keys/router.crt', own.chain)
    router.write('keys/ca.crt', AUTHORITY.trust_anchor)
    router.write('keys/ca.crl', AUTHORITY.crls(REVOKED))
    shutil.copy(router.home / 'ppk', router.home / 'keys' / 'ppk')
    router.configure((CONFIGS / f'{router.name}.conf').read_text())


@pytest.fixture(scope='module')
def both(routers: Routers, wire: Capture) -> Routers:
    """The session is up; both daemons have become `nobody`."""
    for router in (routers.r2, routers.r1):
        furnish(router)
        router.start(listen=R2 if router is routers.r2 else None, drop=True)
    # ExaBGP doesn't reload while it has routes to send.
    for router, peer in ((routers.r1, 'r2'), (routers.r2, 'r1')):
        router.await_established(SESSION)
        router.await_routes(ROUTES[peer][0].split()[0])
    return routers


def row_of(router: Router) -> dict[str, object]:
    (row,) = router.show()
    return row


def test_session_is_up_by_certificates_and_hybrid_ike(both: Routers, wire: Capture) -> None:
    for router in (both.r1, both.r2):
        authentication = router.await_event(EventName.IKE_AUTH, sent=False)
        assert 'CERT' in str(authentication.details['detail']).split(', ')
        row = row_of(router)
        assert row['algorithm'] == 'hmac-sha-256-128'
        assert row['last_error'] is None
        assert 'ml-kem-768' in str(row['ike_suite']).lower()
        # The CRLs end with the week, as the certificates do.
        assert 0 < float(str(row['proven_until'])) - time.time() <= 7 * 86400
    exchanges = {exchange_of(packet.octets) for packet in read_packets(so_far(wire))}
    # ML-KEM goes there (RFC 9370).
    assert ExchangeType.IKE_INTERMEDIATE in exchanges


def exchange_of(packet: bytes) -> int | None:
    """The exchange type of an IKE message over IPv4 on port 500."""
    if packet[0] >> 4 != 4 or packet[9] != UDP:
        return None
    datagram = packet[(packet[0] & 0x0F) * 4 :]
    ports = {int.from_bytes(datagram[at : at + 2], 'big') for at in (0, 2)}
    # 8 octets of UDP; 16 of SPIs, next payload and version are before it (RFC 7296, 3.1).
    return datagram[8 + 18] if ports == {500} else None


def stranger(own: Certified | PrivateKey, ppk: Path) -> Peer:
    """A process on r1's host that claims to be r1."""
    key = own if isinstance(own, PrivateKey) else PrivateKey(own.key)
    credential = key if own is key else CertifiedKey.load(key, getattr(own, 'chain'))  # noqa: B009
    return Peer(
        name='r2',
        local_id=Identity.parse('fqdn', 'r1.lab'),
        remote_id=Identity.parse('fqdn', 'r2.lab'),
        credential=credential,
        remote_credential=TrustAnchors.load(AUTHORITY.trust_anchor),
        addresses=((ip_address(R1), ip_address(R2)),),
        policy=policy_named('hybrid'),
        ppk=Ppk('r1 and r2', PresharedKey.load(read_secret_file(ppk)).secret),
    )


@pytest.mark.parametrize(
    ('own', 'cause'),
    [
        (REVOKED, 'was revoked'),
        (AUTHORITY.certify('r1', 'r1.lab', since=-2 * HOUR, until=-HOUR), 'has expired'),
        (AUTHORITY.certify('r1', 'r9.lab'), 'not for fqdn r1.lab'),
        (Authority.new().certify('r1', 'r1.lab'), 'not issued by a configured trust anchor'),
        (PrivateKey(REVOKED.key), 'the peer sent no certificate'),
    ],
    ids=['revoked', 'expired', 'wrong name', 'another CA', 'raw key'],
)
def test_certificate_that_proves_nothing_is_refused_with_cause(
    own: Certified | PrivateKey, cause: str, both: Routers
) -> None:
    peer = stranger(own, both.r2.home / 'ppk')
    with inside(both.r1.node.namespace), closing(IkeSpeaker(peer, STRANGE_PORTS)) as speaker:
        speaker.connect()
        events = speaker.run(PATIENCE)
        outcome = next(one for one in events if isinstance(one, IkeSaUp | IkeSaFailed))
    assert isinstance(outcome, IkeSaFailed)
    within(
        PATIENCE,
        lambda: any(
            cause in str(event.details.get('text'))
            for event in both.r2.named(EventName.REFUSED, step='IKE_AUTH')
        ),
        lambda: both.r2.told(f'{cause!r} in an event'),
    )
    # The log has the first three in an hour: a peer with invented certificates can't fill it.
    # The true r1 isn't touched.
    assert row_of(both.r2)['state'] == 'in use'


def reload(router: Router, *revoked: Certified) -> None:
    """With a new CRL, as the user `nobody`."""
    helper = router.cli_helper()
    router.write('keys/ca.crl', AUTHORITY.crls(*revoked))
    router.signal(signal.SIGUSR1)
    router.await_helper(helper)


def test_session_is_untouched_when_a_crl_lacks_the_peer(both: Routers) -> None:
    before = row_of(both.r1)
    reload(both.r1, REVOKED, ROUTERS['r1'])
    after = row_of(both.r1)
    assert after['since'] == pytest.approx(before['since'], abs=0.1)
    assert (after['state'], after['send_id'], after['rekeys']) == ('in use', before['send_id'], 0)


def test_revoked_peer_is_off_at_once_and_stays_off_with_cause(both: Routers) -> None:
    reload(both.r1, ROUTERS['r2'])
    cause = 'CN=r2,O=lab was revoked'
    both.r1.await_log(cause)
    within(PATIENCE, lambda: not both.r1.connections(), lambda: both.r1.told('no connection'))
    within(
        PATIENCE,
        lambda: cause in str(row_of(both.r1)['last_error']),
        lambda: both.r1.told('the cause in show ikev2'),
    )
    # It tries again, in vain.
    both.r1.await_event(EventName.REFUSED, step='IKE_AUTH')
    assert SESSION not in both.r1.established()
    assert any(cause in line for line in both.r1.ask('show ikev2'))


def test_peer_comes_back_when_it_is_not_revoked_any_more(both: Routers) -> None:
    reload(both.r1, REVOKED)
    both.r1.await_established(SESSION)
    assert row_of(both.r1)['state'] == 'in use'

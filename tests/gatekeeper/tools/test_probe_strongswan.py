"""Probes of a real strongSwan: what works with it, and each way in which it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ikev2.authentication.identity import Identity
from ikev2.events import IkeSaUp
from tests.gatekeeper.prober import OTHER_PSK, PSK, near
from tests.ikev2.interop.driver import Driver
from tests.ikev2.interop.swan import Swan
from tests.ikev2.interop.wire import OUR_ADDRESS, OUR_NAME, PEER_ADDRESS, PEER_NAME, Wire, wired
from tests.ikev2.pki import DAY, Holder, root

pytestmark = pytest.mark.netns

Row = dict[str, Any]
NOW: dict[str, Any] = {'not_before': time.time() - DAY, 'not_after': time.time() + DAY}
Probe = Callable[..., tuple[int, list[Row]]]

_CONNECTION = """
    version = 2
    proposals = {proposals}
    childless = {childless}
    local_addrs = {local}
    remote_addrs = {remote}
    local {{ auth = {auth}
             {certs}
             id = {local_id} }}
    remote {{ auth = {auth}
              id = {remote_id} }}
    children {{ tcp {{ mode = transport
                       esp_proposals = aes256gcm16
                       local_ts = {local}[tcp/179]
                       remote_ts = {remote}[tcp] }} }}
"""


def connection(**changes: str) -> str:
    """A connection for us."""
    words = {
        'proposals': 'aes256gcm16-prfsha256-x25519',
        'childless': 'allow',
        'auth': 'psk',
        'certs': '',
        'local': str(PEER_ADDRESS),
        'remote': str(OUR_ADDRESS),
        'local_id': PEER_NAME,
        'remote_id': OUR_NAME,
    }
    return _CONNECTION.format(**{**words, **changes})


@pytest.fixture(scope='module')
def network() -> Iterator[Wire]:
    with wired() as both:
        yield both


@pytest.fixture(scope='module')
def swan(network: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swan]:
    made = Swan(network.theirs, tmp_path_factory.mktemp('swan'))
    yield made
    made.stop()


@pytest.fixture
def configured(swan: Swan) -> Callable[..., None]:
    """Gives it another connection."""

    def configure(**changes: str) -> None:
        secret = f'ike {{ id-1 = {OUR_NAME}\n id-2 = {PEER_NAME}\n secret = "{PSK.decode()}" }}'
        (swan.folder / 'swanctl.conf').write_text(
            f'connections {{ ours {{ {connection(**changes)} }} }}\nsecrets {{ {secret} }}\n'
        )
        swan.control('--load-all')

    return configure


@pytest.fixture
def probe(network: Wire, tmp_path: Path) -> Probe:
    """Runs one; exit status and steps."""

    def run(*options: str, psk: bytes | None = PSK, peer: str = PEER_NAME) -> tuple[int, list[Row]]:
        path = tmp_path / 'psk'
        path.write_bytes(psk or b'')
        path.chmod(0o600)
        tool = str(Path(sys.executable).parent / 'gatekeeper')
        command = ['ip', 'netns', 'exec', network.ours, tool, 'probe', str(PEER_ADDRESS), '--json']
        command += ['--local-id', 'fqdn', OUR_NAME, '--peer-id', 'fqdn', peer]
        command += ['--timeout', '20', *(['--psk-file', str(path)] if psk else [])]
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=100, check=False
        )
        assert not done.stderr, done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    return run


def failure(rows: list[Row]) -> Row:
    """Why it failed."""
    (found,) = [row for row in rows if row['result'] == 'failed' and 'advice' in row]
    return found


def test_strongswan_is_proven_and_nothing_is_left(
    swan: Swan, configured: Callable[..., None], probe: Probe
) -> None:
    configured()
    status, rows = probe()
    assert status == 0, rows
    texts = [row['text'] for row in rows if row['result'] == 'ok']
    assert texts == [
        f'proven: the peer is fqdn {PEER_NAME}',
        'the IKE SA is deleted',
        'IKE: all is proven',
    ]
    assert 'ours' not in swan.control('--list-sas')


def test_running_ike_sa_of_the_same_identity_stays(
    swan: Swan, configured: Callable[..., None], probe: Probe, network: Wire
) -> None:
    """One that another process of ours holds: no INITIAL_CONTACT ends it."""
    configured()
    driver = Driver(
        network.ours,
        near(
            local_id=Identity.parse('fqdn', OUR_NAME),
            remote_id=Identity.parse('fqdn', PEER_NAME),
            addresses=((OUR_ADDRESS, PEER_ADDRESS),),
        ),
    )
    try:
        driver.endpoint.connect('peer', driver.now())
        driver.wait_for(IkeSaUp)
        before = spis(swan.control('--list-sas'))
        assert len(before) == 2
        status, rows = probe()
        assert status == 0, rows
        assert spis(swan.control('--list-sas')) == before
    finally:
        driver.close()


def spis(listed: str) -> set[str]:
    """Return the SPIs of the IKE SAs that swanctl lists."""
    return {word for word in listed.split() if word.endswith(('_i', '_r', '_i*', '_r*'))}


def test_strongswan_gets_no_key_request_without_the_profile(
    configured: Callable[..., None], probe: Probe
) -> None:
    configured()
    status, rows = probe('--session', 'ipv4', 'unicast')
    assert status == 1
    assert failure(rows)['cause'] == 'NO_PROFILE'
    assert any('no Vendor ID of this profile' in row['text'] for row in rows)


REFUSALS: dict[str, tuple[dict[str, str], list[str], dict[str, Any], str, str, str]] = {
    'no proposal': (
        {},
        ['--ike-policy', 'high'],
        {},
        'IKE_SA_INIT',
        'NO_PROPOSAL_CHOSEN',
        'compare ike-policy at both ends (here: high',
    ),
    'no connection for our address': (
        {'remote': '10.77.0.9'},
        [],
        {},
        'IKE_SA_INIT',
        'NO_PROPOSAL_CHOSEN',
        'no connection of theirs is for 10.77.0.1',
    ),
    'never childless': (
        {'childless': 'never'},
        [],
        {},
        'IKE_SA_INIT',
        'does not support childless IKE_AUTH',
        'childless = allow',
    ),
    'another PSK': (
        {},
        [],
        {'psk': OTHER_PSK},
        'IKE_AUTH',
        'refused our identity or our proof of it',
        "why is in the peer's log only",
    ),
    'another name of ours': (
        {'remote_id': 'other.example'},
        [],
        {},
        'IKE_AUTH',
        'refused our identity or our proof of it',
        'compare our fqdn ours.example with its peer-id',
    ),
    'another name of its own': (
        {},
        [],
        {'peer': 'wrong.example'},
        'IKE_AUTH',
        'refused our identity or our proof of it',
        'our fqdn wrong.example with its local-id',
    ),
    'nobody on that port': (
        {},
        ['--ike-port', '501', '--timeout', '3'],
        {},
        'IKE_SA_INIT',
        'ICMP says: port unreachable',
        'give the --ike-port that it listens on',
    ),
}


@pytest.mark.parametrize('name', REFUSALS)
def test_refusal_tells_where_and_why_and_what_to_try(
    name: str, configured: Callable[..., None], probe: Probe
) -> None:
    changes, options, named, exchange, text, try_next = REFUSALS[name]
    configured(**changes)
    status, rows = probe(*options, **named)
    assert status == 1, rows
    why = failure(rows)
    assert why['exchange'] == exchange
    assert text in why['text']
    assert try_next in why['advice']


def test_another_group_is_asked_for_and_taken(
    configured: Callable[..., None], probe: Probe
) -> None:
    configured(proposals='aes256gcm16-prfsha256-ecp256')
    status, rows = probe()
    assert status == 0, rows
    assert any('wants key exchange by ecp-256 instead' in row['text'] for row in rows)


def issued(ca: Holder, name: str) -> Holder:
    """A certificate that holds now."""
    return ca.leaf(f'CN={name}', x509.DNSName(name), **NOW)


def as_pem(holder: Holder) -> bytes:
    """Return the holder's private key in PEM."""
    octets: bytes = holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return octets


@pytest.fixture
def certified(
    swan: Swan, configured: Callable[..., None], tmp_path: Path
) -> Iterator[tuple[list[str], Path]]:
    """strongSwan with a certificate; our options, and a CA that has issued nothing."""
    ca, other = root(**NOW), root('CN=other', **NOW)
    theirs, ours = issued(ca, PEER_NAME), issued(ca, OUR_NAME)
    files = {
        swan.folder / 'x509' / 'swan.pem': theirs.pem,
        swan.folder / 'x509ca' / 'ca.pem': ca.pem,
        swan.folder / 'private' / 'swan.pem': as_pem(theirs),
        tmp_path / 'ours.pem': as_pem(ours),
        tmp_path / 'ours.crt': ours.pem,
        tmp_path / 'ca.crt': ca.pem,
        tmp_path / 'other.crt': other.pem,
    }
    for path, octets in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(octets)
        path.chmod(0o600)
    configured(auth='pubkey', certs='certs = swan.pem')
    private, certificate = str(tmp_path / 'ours.pem'), str(tmp_path / 'ours.crt')
    yield ['--private-key', private, '--certificate', certificate], tmp_path
    for path in files:
        path.unlink()


def test_certificates_of_both_are_told_and_proven(
    certified: tuple[list[str], Path], probe: Probe
) -> None:
    options, folder = certified
    status, rows = probe(*options, '--trust-anchor', str(folder / 'ca.crt'), psk=None)
    assert status == 0, rows
    (claim,) = [
        row for row in rows if row['exchange'] == 'IKE_AUTH' and row['result'] == 'received'
    ]
    assert f'certificate of CN={PEER_NAME}' in claim['text']
    assert 'a signature (ecdsa-sha256, RFC 7427)' in claim['text']


def test_untrusted_ca_of_a_certificate_is_explained(
    certified: tuple[list[str], Path], probe: Probe
) -> None:
    options, folder = certified
    status, rows = probe(*options, '--trust-anchor', str(folder / 'other.crt'), psk=None)
    assert status == 1, rows
    why = failure(rows)
    assert "the peer's certificate: " in why['text']
    assert 'the CA of its certificate' in why['advice']

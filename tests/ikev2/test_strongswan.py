"""strongSwan as peer: IKE SAs in both roles, with PSK and with Ed25519 raw keys."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ikev2.auth import PresharedKey, PrivateKey
from ikev2.cipher import CHACHA20_POLY1305
from ikev2.constants import KeyExchangeId, NotifyType
from ikev2.endpoint import Endpoint
from ikev2.events import (
    Cause,
    IkeMessage,
    IkeSaDown,
    IkeSaFailed,
    IkeSaUp,
    RpSaFailed,
    RpSaRequest,
    Selector,
)
from ikev2.identity import Identity
from ikev2.limits import Limits
from ikev2.peer import Peer
from ikev2.proposals import IkePolicy
from keymaterial import Secret
from tests.ikev2.swan import (
    CHARON,
    OUR_ADDRESS,
    OUR_NAME,
    SWAN_ADDRESS,
    SWAN_NAME,
    Driver,
    Swan,
    namespaces,
)

pytestmark = pytest.mark.netns

CUTTING = Limits(fragment_ipv4=130)
PSK = 'correct horse battery staple, and then some more'
CHILD = f"""
    children {{ tcp {{
        mode = transport
        esp_proposals = aes256gcm16
        local_ts = {SWAN_ADDRESS}[tcp/179]
        remote_ts = {OUR_ADDRESS}[tcp]
    }} }}
"""


class Pair:
    """Both sides of one test, configured for each other."""

    def __init__(self, network: tuple[str, str], folder: Path) -> None:
        self._ours, self._theirs = network
        self._folder = folder
        self.fragment_size = 1280
        self.swan: Swan | None = None
        self.driver: Driver | None = None

    def psk(self, *, options: str = '', policy: IkePolicy | None = None, ours: str = PSK) -> None:
        """Both know a pre-shared key; `ours` is what we think that it is."""
        self._start(
            'auth = psk',
            'auth = psk',
            f'ike {{ id-1 = {OUR_NAME}\n id-2 = {SWAN_NAME}\n secret = "{PSK}" }}',
            PresharedKey(Secret(ours.encode())),
            PresharedKey(Secret(ours.encode())),
            options,
            policy,
        )

    def ed25519(self, *, options: str = '') -> None:
        """Each has the other's public key."""
        ours, theirs = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        for name in ('private', 'pubkey'):
            (self._folder / name).mkdir()
        (self._folder / 'private' / 'swan.pem').write_bytes(
            theirs.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        for name, key in (('swan', theirs), ('ours', ours)):
            (self._folder / 'pubkey' / f'{name}.pem').write_bytes(
                key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            )
        self._start(
            'auth = pubkey\n pubkeys = swan.pem',
            'auth = pubkey\n pubkeys = ours.pem',
            '',
            PrivateKey(ours),
            PrivateKey(theirs).public_key,
            options,
            None,
        )

    def _start(
        self,
        local: str,
        remote: str,
        secrets: str,
        credential: PresharedKey | PrivateKey,
        remote_credential: PresharedKey | object,
        options: str,
        policy: IkePolicy | None,
    ) -> None:
        proposals = '' if 'proposals' in options else 'proposals = aes256gcm16-prfsha256-x25519'
        self.swan = Swan(
            self._theirs,
            self._folder,
            f"""
            version = 2
            {proposals}
            local_addrs = {SWAN_ADDRESS}
            remote_addrs = {OUR_ADDRESS}
            local {{ {local}\n id = {SWAN_NAME} }}
            remote {{ {remote}\n id = {OUR_NAME} }}
            {options}
            {CHILD}
            """,
            secrets,
            self.fragment_size,
        )
        self.driver = Driver(
            self._ours,
            Peer(
                name='swan',
                local_id=Identity.parse('fqdn', OUR_NAME),
                remote_id=Identity.parse('fqdn', SWAN_NAME),
                credential=credential,
                remote_credential=remote_credential,  # type: ignore[arg-type]
                addresses=((OUR_ADDRESS, SWAN_ADDRESS),),
                policy=policy or IkePolicy(),
            ),
        )

    def both(self) -> tuple[Driver, Swan]:
        """The two, once they are started."""
        assert self.driver
        assert self.swan
        return self.driver, self.swan

    def close(self) -> None:
        """End both."""
        if self.driver:
            self.driver.close()
        if self.swan:
            self.swan.stop()


@pytest.fixture(scope='module')
def network() -> Iterator[tuple[str, str]]:
    assert CHARON.exists(), 'strongSwan is missing: apt-get install strongswan-charon'
    with namespaces() as names:
        yield names


@pytest.fixture
def pair(network: tuple[str, str], tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(network, tmp_path)
    try:
        yield pair
    finally:
        pair.close()


def connect(pair: Pair) -> tuple[Driver, Swan]:
    """We begin, and it comes up at both ends."""
    driver, swan = pair.both()
    driver.endpoint.connect('swan', driver.now())
    up = driver.wait_for(IkeSaUp)
    assert up.initiator
    assert not up.profile
    assert not up.nat
    assert swan.established(), swan.log_text()
    return driver, swan


def be_connected(pair: Pair, *arguments: str) -> tuple[Driver, Swan]:
    """strongSwan begins, and it comes up at both ends."""
    driver, swan = pair.both()
    command = swan.start('--initiate', *arguments, '--timeout', '20')
    try:
        up = driver.wait_for(IkeSaUp)
        assert not up.initiator
        assert driver.run_until_exit(command)
    finally:
        command.kill()
        command.wait()
    assert swan.established(), swan.log_text()
    return driver, swan


def test_we_begin_with_a_pre_shared_key(pair: Pair) -> None:
    pair.psk(options='childless = allow')
    connect(pair)


def test_we_begin_with_ed25519_keys(pair: Pair) -> None:
    pair.ed25519(options='childless = allow')
    connect(pair)


def small_fragments(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends cut IKE_AUTH into pieces."""
    pair.fragment_size = 130
    monkeypatch.setattr('tests.ikev2.swan.Endpoint', partial(Endpoint, limits=CUTTING))
    pair.ed25519(options='childless = allow\n mobike = no\n fragmentation = yes')


def test_we_begin_and_ike_auth_goes_in_fragments_both_ways(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_fragments(pair, monkeypatch)
    _, swan = connect(pair)
    log = swan.log_text()
    assert 'received fragment #1 of' in log
    assert 'splitting IKE message' in log


def test_it_begins_and_ike_auth_goes_in_fragments_both_ways(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_fragments(pair, monkeypatch)
    _, swan = be_connected(pair, '--ike', 'ours')
    log = swan.log_text()
    assert 'received fragment #1 of' in log
    assert 'splitting IKE message' in log


def test_it_begins_with_a_pre_shared_key_and_goes_on_over_port_4500(pair: Pair) -> None:
    pair.psk(options='childless = force')
    driver, _ = be_connected(pair, '--ike', 'ours')
    (sa,) = driver.endpoint.snapshot().peer('swan').ike_sas
    assert (sa.path.local_port, sa.path.remote_port) == (4500, 4500)


def test_it_begins_with_ed25519_keys_and_stays_on_port_500(pair: Pair) -> None:
    pair.ed25519(options='childless = force\n mobike = no')
    driver, _ = be_connected(pair, '--ike', 'ours')
    (sa,) = driver.endpoint.snapshot().peer('swan').ike_sas
    assert (sa.path.local_port, sa.path.remote_port) == (500, 500)


def test_esp_in_its_ike_auth_is_refused_and_the_ike_sa_stays_up(pair: Pair) -> None:
    pair.psk()
    driver, swan = be_connected(pair, '--child', 'tcp')
    assert 'NO_PROPOSAL_CHOSEN' in swan.log_text()
    assert not driver.all(IkeSaDown)


def test_a_routing_protocol_sa_is_not_asked_for_unless_forced_and_then_refused(
    pair: Pair,
) -> None:
    pair.psk(options='childless = allow')
    driver, swan = connect(pair)
    request = RpSaRequest(
        keyid=1,
        suites=('hmac-sha-1-96',),
        tcp_options=True,
        tsi=Selector(OUR_ADDRESS, 40001),
        tsr=Selector(SWAN_ADDRESS, 179),
        session_id=b'\x01\x00\x01\x01bgp',
        lifetime=60,
    )
    driver.endpoint.request('swan', request, driver.now())
    assert driver.wait_for(RpSaFailed).notify is None
    driver.endpoint.request('swan', request, driver.now(), without_profile=True)
    failed = driver.wait_for(RpSaFailed)
    assert failed.cause == Cause.NO_PROFILE
    assert failed.notify == NotifyType.NO_PROPOSAL_CHOSEN
    assert swan.established()
    assert driver.endpoint.snapshot().peer('swan').up


def test_chacha20_poly1305_and_p256(pair: Pair) -> None:
    pair.psk(
        options='childless = allow\n proposals = chacha20poly1305-prfsha256-ecp256',
        policy=IkePolicy(encryptions=(CHACHA20_POLY1305,), groups=(KeyExchangeId.ECP_256,)),
    )
    driver, _ = connect(pair)
    assert driver.all(IkeSaUp)[0].suite == 'chacha20-poly1305/hmac-sha2-256/ecp-256'


def test_it_names_its_group_and_we_come_again(pair: Pair) -> None:
    pair.psk(options='childless = allow\n proposals = aes256gcm16-prfsha256-ecp256')
    driver, _ = connect(pair)
    details = [m.detail for m in driver.all(IkeMessage) if m.exchange == 'IKE_SA_INIT']
    assert details[1] == 'N(INVALID_KE_PAYLOAD)'


def test_it_comes_again_with_the_group_that_we_name(pair: Pair) -> None:
    pair.psk(
        options='childless = force\n proposals = aes256gcm16-prfsha256-x25519-ecp256',
        policy=IkePolicy(groups=(KeyExchangeId.ECP_256,)),
    )
    driver, _ = be_connected(pair, '--ike', 'ours')
    assert driver.all(IkeSaUp)[0].suite.endswith('ecp-256')


def test_a_wrong_pre_shared_key_is_told_at_our_end(pair: Pair) -> None:
    pair.psk(options='childless = allow', ours='something else entirely, as long')
    driver, swan = pair.both()
    driver.endpoint.connect('swan', driver.now())
    failed = driver.wait_for(IkeSaFailed)
    assert (failed.step, failed.cause) == ('IKE_AUTH', Cause.AUTHENTICATION_FAILED)
    assert not swan.established()


def test_its_wrong_pre_shared_key_is_refused_by_us(pair: Pair) -> None:
    pair.psk(options='childless = force', ours='something else entirely, as long')
    driver, swan = pair.both()
    command = swan.start('--initiate', '--ike', 'ours', '--timeout', '20')
    failed = driver.wait_for(IkeSaFailed)
    assert (failed.step, failed.cause) == ('IKE_AUTH', Cause.AUTHENTICATION_FAILED)
    assert driver.run_until_exit(command)
    assert command.returncode
    assert not swan.established()


def test_we_rekey_the_ike_sa(pair: Pair) -> None:
    pair.psk(options='childless = allow')
    driver, swan = connect(pair)
    before = driver.endpoint.snapshot().peer('swan').ike_sas[0].spis
    driver.endpoint.rekey_ike_sa('swan', driver.now())

    def replaced() -> bool:
        ike_sas = driver.endpoint.snapshot().peer('swan').ike_sas
        return len(ike_sas) == 1 and ike_sas[0].spis != before

    assert driver.run_until(replaced, 20), swan.log_text()
    assert swan.control('--list-sas').count('ESTABLISHED') == 1
    assert not driver.all(IkeSaDown)


def test_it_rekeys_the_ike_sa(pair: Pair) -> None:
    pair.psk(options='childless = allow')
    driver, swan = connect(pair)
    before = driver.endpoint.snapshot().peer('swan').ike_sas[0].spis
    command = swan.start('--rekey', '--ike', 'ours')

    def replaced() -> bool:
        ike_sas = driver.endpoint.snapshot().peer('swan').ike_sas
        return len(ike_sas) == 1 and ike_sas[0].spis != before

    assert driver.run_until(replaced, 20), swan.log_text()
    command.wait(10)
    assert not driver.all(IkeSaDown)


def test_we_ask_whether_it_lives_and_delete_the_ike_sa(pair: Pair) -> None:
    pair.psk(options='childless = allow')
    driver, swan = connect(pair)
    heard = driver.endpoint.snapshot().peer('swan').ike_sas[0].heard
    driver.endpoint.check_liveness('swan', driver.now())
    assert driver.run_until(
        lambda: driver.endpoint.snapshot().peer('swan').ike_sas[0].heard > heard, 10
    )
    driver.endpoint.remove_peer('swan', driver.now())
    assert driver.run_until(lambda: 'received DELETE for IKE_SA' in swan.log_text(), 10)
    assert not swan.established()


def test_it_deletes_the_ike_sa(pair: Pair) -> None:
    pair.psk(options='childless = allow')
    driver, swan = connect(pair)
    command = swan.start('--terminate', '--ike', 'ours', '--timeout', '20')
    assert driver.wait_for(IkeSaDown).cause == Cause.DELETED
    assert driver.run_until_exit(command)

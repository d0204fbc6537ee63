"""libreswan as peer: PSK, RSA and ECDSA, in both roles as far as it can."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ikev2.authentication.ppk import Ppk
from ikev2.constants import KeyExchangeId, NotifyType, PrfId
from ikev2.crypto.cipher import (
    AES_128_CBC_HMAC_SHA2_256_128,
    AES_128_GCM_16,
    AES_256_CBC_HMAC_SHA2_256_128,
    CHACHA20_POLY1305,
)
from ikev2.crypto.key_exchange import ADDITIONAL_METHODS
from ikev2.events import Cause, IkeSaDown, IkeSaFailed, RpSaFailed
from ikev2.limits import Limits
from ikev2.proposals.ike import IkePolicy
from keymaterial import Secret
from tests.ikev2.interop.driver import Driver
from tests.ikev2.interop.pair import ROLES, RP_SA, Pair, Setup
from tests.ikev2.interop.pluto import Pluto
from tests.ikev2.interop.proofs import both_certified, proofs, shared
from tests.ikev2.interop.wire import OUR_ADDRESS, OUR_NAME, PEER_ADDRESS, PEER_NAME, Wire

pytestmark = pytest.mark.native


@pytest.fixture(scope='module')
def pluto(wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pluto]:
    pluto = Pluto(wire.theirs, tmp_path_factory.mktemp('pluto'))
    yield pluto
    pluto.stop()


@pytest.fixture
def pair(wire: Wire, pluto: Pluto) -> Iterator[Pair]:
    """We and libreswan."""
    pair = Pair(wire, pluto)
    yield pair
    pair.close()


# Both proofs, its word for `authby`, what it says of the proof of ours that it took.
PROOFS = [
    ('PSK', 'secret', 'authby=secret'),
    ('certified rsa', 'rsa-sha2_256', 'RSA'),
    ('certified rsa-3072', 'rsa-sha2_512', 'RSA'),
    ('certified ecdsa-p256', 'ecdsa', 'P-256 ECDSA'),
    ('certified ecdsa-p384', 'ecdsa', 'P-384 ECDSA'),
    ('certified ecdsa-p521', 'ecdsa', 'P-521 ECDSA'),
]
PSK = Setup(shared(), shared())
IDENTITIES = {
    'ip': (str(OUR_ADDRESS), str(PEER_ADDRESS)),
    'user-fqdn': (f'bgp@{OUR_NAME}', f'bgp@{PEER_NAME}'),
    'key-id': ('router-1', 'router-2'),
}
both_roles = pytest.mark.parametrize('role', ROLES)


@both_roles
@pytest.mark.parametrize(('words', 'auth', 'said'), PROOFS)
def test_libreswan_authenticates_with_each_credential(
    pair: Pair, role: str, words: str, auth: str, said: str
) -> None:
    ours, theirs = proofs(words)
    with pair.row(role, 'authentication', str(ours)):
        driver = pair.bring_up(Setup(ours, theirs, their_auth=auth), role)
        log = pair.other.log_text()
        assert re.search(rf'established IKE SA; authenticated peer .*{said}', log), log
        assert driver.proves_alive()


@both_roles
def test_libreswan_accepts_chain_in_fragments(pair: Pair, role: str) -> None:
    ours, theirs = both_certified('rsa', 4)
    with pair.row(role, 'chain in fragmented IKE_AUTH', str(ours)):
        driver = pair.bring_up(Setup(ours, theirs, their_auth='rsa-sha2_256'), role)
        assert driver.proves_alive()


@pytest.mark.parametrize('kind', ['ed25519', 'ml-dsa-65'])
def test_libreswan_refuses_keys_it_does_not_know(pair: Pair, pluto: Pluto, kind: str) -> None:
    ours, theirs = both_certified(kind)
    with pair.row('responder', 'authentication', str(ours)) as row:
        refusal = pluto.refusal(Setup(ours, theirs, their_auth='ecdsa'))
        if refusal:
            row.unsupported(refusal)
        else:
            assert pair.bring_up(Setup(ours, theirs), 'responder').proves_alive()


PPK = Ppk('lab', Secret(bytes(range(32))))


@both_roles
def test_libreswan_agrees_with_post_quantum_psk(pair: Pair, role: str) -> None:
    with pair.row(role, 'PPK (RFC 8784)', 'required at both ends'):
        driver = pair.bring_up(Setup(shared(), shared(), ppk=PPK), role)
        assert driver.proves_alive()
        assert 'PPK AUTH calculated as' in pair.other.log_text()


@both_roles
@pytest.mark.parametrize('kind', IDENTITIES)
def test_libreswan_accepts_each_identity_type(pair: Pair, role: str, kind: str) -> None:
    our_id, their_id = IDENTITIES[kind]
    with pair.row(role, 'identity with a PSK', kind):
        setup = Setup(shared(), shared(), our_id=(kind, our_id), their_id=(kind, their_id))
        pair.bring_up(setup, role)


def test_libreswan_liveness_check_is_answered(pair: Pair) -> None:
    with pair.row('responder', 'liveness (DPD)', 'it asks') as row:
        options = 'dpddelay=1s\ndpdtimeout=5s\ndpdaction=clear'
        driver = pair.bring_up(Setup(shared(), shared(), options=options), 'responder')
        asked = driver.run_until(lambda: bool(driver.messages('INFORMATIONAL')), 2.5)
        pair.same_at_both_ends()
        if not asked:
            row.unsupported('it asks for CHILD_SAs only: with dpddelay=1s nothing came in 2.5 s')


def test_libreswan_is_refused_when_secret_differs(pair: Pair, pluto: Pluto) -> None:
    other = shared('not what they have, but as long')
    with pair.row('responder', 'authentication refused', 'PSK, not the right one'):
        pair.configure(Setup(other, shared(), believed=other))
        with pair.initiated():
            failed = pair.wait_for(IkeSaFailed)
            pluto.wait_until(lambda: 'AUTHENTICATION_FAILED' in pluto.log_text())
        assert failed.cause == Cause.AUTHENTICATION_FAILED
        assert not pluto.sas()


def test_libreswan_child_is_refused(pair: Pair) -> None:
    with pair.row('responder', 'ESP in IKE_AUTH', 'refused by us, the IKE SA stays up'):
        driver = pair.bring_up(PSK, 'responder')
        assert 'rejected Child SA with NO_PROPOSAL_CHOSEN' in pair.other.log_text()
        assert driver.proves_alive()
        pair.same_at_both_ends()


SUITES = [
    (IkePolicy(encryptions=(AES_128_GCM_16,)), 'aes_gcm128-sha2_256;dh31', 'AES_GCM_16_128'),
    (IkePolicy(encryptions=(CHACHA20_POLY1305,)), 'chacha20_poly1305-sha2_256;dh31', 'CHACHA20'),
    (
        IkePolicy(encryptions=(AES_256_CBC_HMAC_SHA2_256_128,)),
        'aes256-sha2_256;dh31',
        'AES_CBC_256',
    ),
    (
        IkePolicy(encryptions=(AES_128_CBC_HMAC_SHA2_256_128,)),
        'aes128-sha2_256;dh31',
        'AES_CBC_128',
    ),
    (IkePolicy(prfs=(PrfId.HMAC_SHA2_384,)), 'aes_gcm256-sha2_384;dh31', 'HMAC_SHA2_384'),
    (IkePolicy(prfs=(PrfId.HMAC_SHA2_512,)), 'aes_gcm256-sha2_512;dh31', 'HMAC_SHA2_512'),
    *(
        (IkePolicy(groups=(group,)), f'aes_gcm256-sha2_256;{word}', word.upper())
        for group, word in (
            (KeyExchangeId.ECP_256, 'dh19'),
            (KeyExchangeId.ECP_384, 'dh20'),
            (KeyExchangeId.MODP_2048, 'modp2048'),
            (KeyExchangeId.MODP_3072, 'modp3072'),
            (KeyExchangeId.MODP_4096, 'modp4096'),
        )
    ),
]


@both_roles
@pytest.mark.parametrize(
    ('policy', 'proposal', 'listed'), SUITES, ids=[words for _, words, _ in SUITES]
)
def test_libreswan_agrees_on_each_suite(
    pair: Pair, role: str, policy: IkePolicy, proposal: str, listed: str
) -> None:
    with pair.row(role, 'suite', proposal):
        setup = Setup(shared(), shared(), policy=policy, proposal=proposal)
        driver = pair.bring_up(setup, role)
        assert listed in pair.algorithms()
        assert driver.proves_alive()


@both_roles
def test_libreswan_gets_invalid_ke_payload_when_group_differs(pair: Pair, role: str) -> None:
    who = 'we ask for another' if role == 'responder' else 'it asks for another'
    groups, proposal = (
        ((KeyExchangeId.ECP_256,), 'dh31+dh19')
        if role == 'responder'
        else ((KeyExchangeId.CURVE25519, KeyExchangeId.ECP_256), 'dh19')
    )
    with pair.row(role, 'INVALID_KE_PAYLOAD', who):
        setup = Setup(
            shared(),
            shared(),
            policy=IkePolicy(groups=groups),
            proposal=f'aes_gcm256-sha2_256;{proposal}',
        )
        driver = pair.bring_up(setup, role)
        assert driver.messages('IKE_SA_INIT')[1] == 'N(INVALID_KE_PAYLOAD)'
        assert pair.algorithms().endswith('DH19')


@pytest.mark.parametrize('method', sorted(ADDITIONAL_METHODS), ids=lambda method: method.name)
def test_libreswan_does_additional_key_exchange(pair: Pair, method: KeyExchangeId) -> None:
    with pair.row('initiator', 'additional key exchange', method.name) as row:
        policy = IkePolicy(additional=(method,), additional_required=True)
        found = pair.outcome(Setup(shared(), shared(), policy=policy), 'initiator')
        if isinstance(found, IkeSaFailed):
            assert found.cause == Cause.NO_PROPOSAL_CHOSEN
            row.unsupported('it answers the offer with NO_PROPOSAL_CHOSEN')
        else:
            assert found.suite.endswith(method.name.lower().replace('_', '-'))


def test_libreswan_returns_our_cookie(pair: Pair) -> None:
    with pair.row('responder', 'COOKIE', 'we demand it'):
        limits = Limits(half_open_before_cookies=0)
        driver = pair.bring_up(Setup(shared(), shared(), limits=limits), 'responder')
        demand, request, _ = driver.different_messages('IKE_SA_INIT')
        assert demand == 'N(COOKIE)'
        assert request.startswith('N(COOKIE), SA(IKE)')


def test_libreswan_cookie_is_returned(pair: Pair, pluto: Pluto) -> None:
    with pair.row('initiator', 'COOKIE', 'it demands it'):
        driver = pair.configure(PSK)
        pluto.control('--ddos-busy')
        pair.connect(PSK, 'initiator')
        first, demand, second, answer = driver.different_messages('IKE_SA_INIT')
        assert demand == 'N(COOKIE)'
        assert second == f'N(COOKIE), {first}'
        assert answer.startswith('SA(IKE), KE, Nonce')


def replaced(pair: Pair, driver: Driver, before: str) -> None:
    """Another IKE SA than before, and it works."""
    came = driver.run_until(lambda: len(driver.sas) == 1 and driver.only_sa().spis != before)
    assert came, pair.other.log_text()
    assert driver.proves_alive()
    assert not driver.all(IkeSaDown)
    assert len(pair.other.sas()) == 1, pair.other.log_text()


@both_roles
def test_libreswan_accepts_our_rekey(pair: Pair, role: str) -> None:
    with pair.row(role, 'IKE SA rekey', 'we begin'):
        driver = pair.bring_up(PSK, role)
        before = driver.only_sa().spis
        driver.endpoint.rekey_ike_sa('theirs', driver.now())
        replaced(pair, driver, before)


@both_roles
def test_libreswan_rekey_is_accepted(pair: Pair, pluto: Pluto, role: str) -> None:
    with pair.row(role, 'IKE SA rekey', 'it begins'):
        driver = pair.bring_up(PSK, role)
        before = driver.only_sa().spis
        command = pluto.start('--rekey-ike', '--name', 'ours')
        replaced(pair, driver, before)
        assert driver.run_until_exit(command)


@both_roles
def test_libreswan_answers_our_liveness_check(pair: Pair, role: str) -> None:
    with pair.row(role, 'liveness', 'we ask'):
        driver = pair.bring_up(PSK, role)
        assert driver.proves_alive()
        assert len(pair.other.sas()) == 1


@both_roles
def test_libreswan_accepts_our_delete(pair: Pair, pluto: Pluto, role: str) -> None:
    with pair.row(role, 'Delete', 'we begin'):
        driver = pair.bring_up(PSK, role)
        driver.endpoint.remove_peer('theirs', driver.now())
        assert driver.run_until(lambda: not pluto.sas()), pluto.log_text()


@both_roles
def test_libreswan_delete_is_accepted(pair: Pair, pluto: Pluto, role: str) -> None:
    with pair.row(role, 'Delete', 'it begins'):
        pair.bring_up(PSK, role)
        pluto.start('--terminate', '--name', 'ours').wait(30)
        assert pair.wait_for(IkeSaDown).cause == Cause.DELETED
        # It has our answer still to read.
        pluto.wait_until(lambda: not pluto.sas())


@both_roles
def test_libreswan_refuses_rp_sa_and_keeps_ike_sa(pair: Pair, role: str) -> None:
    with pair.row(role, 'RP SA', 'forced: it refuses, the IKE SA stays up') as row:
        driver = pair.bring_up(PSK, role)
        driver.endpoint.request('theirs', RP_SA, driver.now(), without_profile=True)
        failed = pair.wait_for(RpSaFailed)
        assert failed.cause == Cause.NO_PROFILE
        assert failed.notify is not None
        row.note = f'it says {NotifyType(failed.notify).name}'
        assert driver.proves_alive()
        assert len(pair.other.sas()) == 1


@both_roles
def test_libreswan_agrees_when_two_of_ten_datagrams_are_lost(pair: Pair, role: str) -> None:
    ours, theirs = both_certified('rsa', 1)
    with (
        pair.row(role, '20 % loss', 'IKE_SA_INIT, fragmented IKE_AUTH, liveness'),
        pair.wire.lossy(),
    ):
        driver = pair.bring_up(Setup(ours, theirs, their_auth='rsa-sha2_256'), role)
        for _ in range(4):
            assert driver.proves_alive()
        if role == 'responder':
            assert 'retransmission; will wait' in pair.other.log_text()
        pair.same_at_both_ends()

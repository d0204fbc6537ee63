"""strongSwan as peer: every algorithm of ours for the IKE SA, in both roles."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ikev2.constants import KeyExchangeId, PrfId
from ikev2.crypto.cipher import (
    AES_128_CBC_HMAC_SHA2_256_128,
    AES_128_GCM_16,
    AES_256_CBC_HMAC_SHA2_256_128,
    AES_256_GCM_16,
    CHACHA20_POLY1305,
    Encryption,
)
from ikev2.crypto.key_exchange import ADDITIONAL_METHODS, GROUPS
from ikev2.crypto.prf import PRFS
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.policies import policy_named
from tests.ikev2.interop.pair import ROLES, Pair, Setup
from tests.ikev2.interop.proofs import shared
from tests.ikev2.interop.swan import Swan

pytestmark = pytest.mark.native

both_roles = pytest.mark.parametrize('role', ROLES)

# Ours; what it calls it in a proposal; how it lists it.
ENCRYPTIONS = [
    (AES_256_GCM_16, 'aes256gcm16', 'AES_GCM_16 256'),
    (AES_128_GCM_16, 'aes128gcm16', 'AES_GCM_16 128'),
    (CHACHA20_POLY1305, 'chacha20poly1305', 'CHACHA20_POLY1305'),
    (AES_256_CBC_HMAC_SHA2_256_128, 'aes256-sha256', 'AES_CBC 256 HMAC_SHA2_256_128'),
    (AES_128_CBC_HMAC_SHA2_256_128, 'aes128-sha256', 'AES_CBC 128 HMAC_SHA2_256_128'),
]
PSEUDORANDOM = [
    (PrfId.HMAC_SHA2_256, 'prfsha256', 'PRF_HMAC_SHA2_256'),
    (PrfId.HMAC_SHA2_384, 'prfsha384', 'PRF_HMAC_SHA2_384'),
    (PrfId.HMAC_SHA2_512, 'prfsha512', 'PRF_HMAC_SHA2_512'),
]
EXCHANGES = [
    (KeyExchangeId.CURVE25519, 'x25519', 'CURVE_25519'),
    (KeyExchangeId.ECP_256, 'ecp256', 'ECP_256'),
    (KeyExchangeId.ECP_384, 'ecp384', 'ECP_384'),
    (KeyExchangeId.MODP_2048, 'modp2048', 'MODP_2048'),
    (KeyExchangeId.MODP_3072, 'modp3072', 'MODP_3072'),
    (KeyExchangeId.MODP_4096, 'modp4096', 'MODP_4096'),
]


def words(table: Sequence[tuple[object, str, str]]) -> list[str]:
    return [word for _, word, _ in table]


OTHER_GROUP = {
    'we ask for another': ('x25519-ecp256', (KeyExchangeId.ECP_256,)),
    'it asks for another': ('ecp256', (KeyExchangeId.CURVE25519, KeyExchangeId.ECP_256)),
}


def agreed(pair: Pair, role: str, policy: IkePolicy, proposal: str, listed: str) -> None:
    """Check that the IKE SA comes up with that suite at both ends, and that its keys work."""
    driver = pair.bring_up(Setup(shared(), shared(), policy=policy, proposal=proposal), role)
    assert pair.algorithms() == listed
    suite = driver.only_sa().suite
    assert all(
        word in suite
        for word in (
            policy.encryptions[0].name,
            *(one.name.lower().replace('_', '-') for one in (policy.prfs[0], policy.groups[0])),
        )
    )
    assert driver.proves_alive()


def test_suite_tables_cover_all_our_algorithms() -> None:
    assert {prf for prf, *_ in PSEUDORANDOM} == PRFS
    assert {group for group, *_ in EXCHANGES} == GROUPS


@both_roles
@pytest.mark.parametrize(('encryption', 'word', 'listed'), ENCRYPTIONS, ids=words(ENCRYPTIONS))
def test_strongswan_agrees_on_each_encryption(
    pair: Pair, role: str, encryption: Encryption, word: str, listed: str
) -> None:
    with pair.row(role, 'encryption', encryption.name):
        policy = IkePolicy(encryptions=(encryption,))
        suite = f'{listed} PRF_HMAC_SHA2_256 CURVE_25519'
        agreed(pair, role, policy, f'{word}-prfsha256-x25519', suite)


@both_roles
@pytest.mark.parametrize(('prf', 'word', 'listed'), PSEUDORANDOM, ids=words(PSEUDORANDOM))
def test_strongswan_agrees_on_each_prf(
    pair: Pair, role: str, prf: PrfId, word: str, listed: str
) -> None:
    with pair.row(role, 'PRF', prf.name):
        suite = f'AES_GCM_16 256 {listed} CURVE_25519'
        agreed(pair, role, IkePolicy(prfs=(prf,)), f'aes256gcm16-{word}-x25519', suite)


@both_roles
@pytest.mark.parametrize(('group', 'word', 'listed'), EXCHANGES, ids=words(EXCHANGES))
def test_strongswan_agrees_on_each_key_exchange(
    pair: Pair, role: str, group: KeyExchangeId, word: str, listed: str
) -> None:
    with pair.row(role, 'key exchange', group.name):
        suite = f'AES_GCM_16 256 PRF_HMAC_SHA2_256 {listed}'
        agreed(pair, role, IkePolicy(groups=(group,)), f'aes256gcm16-prfsha256-{word}', suite)


@both_roles
@pytest.mark.parametrize('name', ['default', 'compatible', 'high', 'hybrid-optional'])
def test_strongswan_agrees_on_each_policy(pair: Pair, role: str, name: str) -> None:
    # With all that it offers by default.
    with pair.row(role, 'policy', name):
        setup = Setup(shared(), shared(), policy=policy_named(name), proposal='default')
        driver = pair.bring_up(setup, role)
        assert driver.proves_alive()


@both_roles
def test_strongswan_gets_invalid_ke_payload_when_group_differs(pair: Pair, role: str) -> None:
    who = 'we ask for another' if role == 'responder' else 'it asks for another'
    offer, groups = OTHER_GROUP[who]
    with pair.row(role, 'INVALID_KE_PAYLOAD', who):
        setup = Setup(
            shared(),
            shared(),
            policy=IkePolicy(groups=groups),
            proposal=f'aes256gcm16-prfsha256-{offer}',
        )
        driver = pair.bring_up(setup, role)
        assert driver.messages('IKE_SA_INIT')[1] == 'N(INVALID_KE_PAYLOAD)'
        assert 'N(INVAL_KE)' in pair.other.log_text()
        assert driver.only_sa().suite.endswith('ecp-256')
        assert pair.algorithms().endswith('ECP_256')


@both_roles
def test_strongswan_is_refused_when_nothing_is_in_common(pair: Pair, role: str) -> None:
    with pair.row(role, 'nothing in common', 'refused with NO_PROPOSAL_CHOSEN'):
        policy = IkePolicy(groups=(KeyExchangeId.ECP_384,))
        pair.nothing_in_common(Setup(shared(), shared(), policy=policy), role)


@both_roles
@pytest.mark.parametrize('method', sorted(ADDITIONAL_METHODS), ids=lambda method: method.name)
def test_strongswan_does_additional_key_exchange(
    pair: Pair, swan: Swan, role: str, method: KeyExchangeId
) -> None:
    word = method.name.lower().replace('ml_kem_', 'mlkem')
    proposal = f'aes256gcm16-prfsha256-x25519-ke1_{word}'
    with pair.row(role, 'additional key exchange', method.name) as row:
        policy = IkePolicy(additional=(method,), additional_required=True)
        refusal = swan.refusal(Setup(shared(), shared(), proposal=proposal))
        if refusal:
            row.unsupported(refusal)
            # Nor without being told: it can't answer such an offer.
            pair.nothing_in_common(Setup(shared(), shared(), policy=policy), role)
            return
        setup = Setup(shared(), shared(), policy=policy, proposal=proposal)
        driver = pair.bring_up(setup, role)
        assert driver.only_sa().suite.endswith(method.name.lower().replace('_', '-'))
        assert driver.proves_alive()

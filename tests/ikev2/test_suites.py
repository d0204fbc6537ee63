"""Everything that IKE can be configured with, from end to end: an IKE SA comes up by it, a
routing-protocol SA under it, and a rekey of both, with the same keys at both ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ikev2.authentication.auth import PrivateKey, verify_auth
from ikev2.authentication.signatures.schemes import SCHEMES, kind_of, schemes_of
from ikev2.constants import AuthMethod, KeyExchangeId, NotifyType, PrfId
from ikev2.crypto.cipher import ENCRYPTIONS
from ikev2.events import IkeSaFailed, IkeSaUp, RpSaNegotiated
from ikev2.proposals.ike import IkePolicy
from ikev2.proposals.policies import POLICIES
from ikev2.wire.payloads import NotifyPayload
from tests.ikev2.bench import Bench, peer_a, peer_b, rp_request
from tests.ikev2.pki import KIND_NAMES, keys

K = KeyExchangeId


def between(one: IkePolicy, other: IkePolicy | None = None) -> Bench:
    return Bench(b=replace(peer_b(), policy=one), a=replace(peer_a(), policy=other or one))


def works(bench: Bench) -> str:
    """The IKE suite, once everything has been done under it."""
    bench.negotiate(rp_request(1))
    up = bench.a.last(IkeSaUp)
    bench.a.endpoint.rekey_ike_sa('b', bench.now)
    bench.run(5)
    bench.negotiate(rp_request(2, rekey=1))
    ours = [event.keys.master_key for event in bench.a.all(RpSaNegotiated)]
    theirs = [keys.master_key for keys in bench.b.accepted]
    assert ours == theirs
    assert len(ours) == 2
    assert ours[0] != ours[1]
    assert bench.b.last(IkeSaUp).suite == up.suite
    return up.suite


@pytest.mark.parametrize('name', sorted(ENCRYPTIONS))
@pytest.mark.parametrize('prf', [PrfId.HMAC_SHA2_256, PrfId.HMAC_SHA2_384, PrfId.HMAC_SHA2_512])
def test_ike_sa_comes_up_with_every_encryption_and_prf(name: str, prf: PrfId) -> None:
    policy = IkePolicy(encryptions=(ENCRYPTIONS[name],), prfs=(prf,))
    assert name in works(between(policy))


@pytest.mark.parametrize(
    'group', [K.CURVE25519, K.ECP_256, K.ECP_384, K.MODP_2048, K.MODP_3072, K.MODP_4096]
)
@pytest.mark.parametrize('additional', [None, K.ML_KEM_768, K.ML_KEM_1024])
def test_ike_sa_comes_up_with_every_group_and_ml_kem(group: K, additional: K | None) -> None:
    policy = IkePolicy(
        groups=(group,),
        additional=(additional,) if additional is not None else (),
        additional_required=additional is not None,
    )
    assert works(between(policy))


@pytest.mark.parametrize('name', POLICIES)
def test_ike_sa_comes_up_with_every_policy(name: str) -> None:
    assert works(between(POLICIES[name]))


@pytest.mark.parametrize(
    ('one', 'other', 'meet'),
    [
        ('default', 'compatible', True),
        ('default', 'hybrid-optional', True),
        ('hybrid', 'hybrid-optional', True),
        ('compatible', 'high', True),
        ('default', 'hybrid', False),
        ('default', 'high', False),
        ('compatible', 'cnsa-2', False),
    ],
)
@pytest.mark.parametrize('turned', [False, True])
def test_policies_meet_as_documented(one: str, other: str, meet: bool, turned: bool) -> None:
    pair = (other, one) if turned else (one, other)
    bench = between(*(POLICIES[name] for name in pair))
    if meet:
        works(bench)
        return
    bench.connect()
    # Any host could have said that there is no proposal: it has a while to be told better.
    bench.run(60)
    assert not bench.a.all(IkeSaUp)
    assert bench.a.last(IkeSaFailed).step == 'IKE_SA_INIT'


# --- signatures ---------------------------------------------------------------------------------


def pinned(one: Any, other: Any) -> Bench:
    """Raw keys, by fingerprint: each comes in a CERT payload (RFC 7670)."""
    a, b = PrivateKey(one), PrivateKey(other)
    return Bench(b=peer_b(a, b.public_key.fingerprint), a=peer_a(b, a.public_key.fingerprint))


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """Method and data of each AUTH payload that was verified, the initiator's first."""
    seen: list[tuple[int, bytes]] = []

    def spy(credential: Any, prf: int, octets: bytes, auth: Any, *rest: Any, **more: Any) -> Any:
        seen.append((auth.method, auth.data))
        return verify_auth(credential, prf, octets, auth, *rest, **more)

    monkeypatch.setattr('ikev2.exchanges.ike_auth.verify_auth', spy)
    return seen


@pytest.mark.parametrize('kind', KIND_NAMES)
def test_ike_sa_comes_up_with_every_raw_key_by_fingerprint(
    kind: str, methods: list[tuple[int, bytes]]
) -> None:
    works(pinned(keys(kind, 1), keys('ed25519', 2)))
    works(pinned(keys('ed25519', 2), keys(kind, 1)))
    assert {method for method, _ in methods} == {AuthMethod.DIGITAL_SIGNATURE}
    best = schemes_of(kind_of(keys(kind, 1).public_key()))[0].identifier
    assert sum(data[1:].startswith(best) for _, data in methods) >= 2


@pytest.mark.parametrize('scheme', [s.name for s in SCHEMES if s.name.startswith(('rsa', 'ecdsa'))])
def test_ike_sa_comes_up_with_every_announced_scheme(
    scheme: str, methods: list[tuple[int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (wanted,) = (one for one in SCHEMES if one.name == scheme)
    identifier = wanted.identifier
    only = NotifyPayload(
        NotifyType.SUPPORTED_AUTH_METHODS, bytes([3 + len(identifier), 14, 0]) + identifier
    )
    for place in (
        'ikev2.exchanges.ike_init_responder.announce',
        'ikev2.exchanges.ike_auth.announce',
    ):
        monkeypatch.setattr(place, lambda credential: only)
    kind = 'rsa' if scheme.startswith('rsa') else 'ecdsa-p256'
    works(pinned(keys(kind, 1), keys(kind, 2)))
    assert all(data[1:].startswith(identifier) for _, data in methods)


@pytest.mark.parametrize(
    ('kind', 'method'),
    [
        ('rsa', AuthMethod.RSA_DIGITAL_SIGNATURE),
        ('ecdsa-p256', AuthMethod.ECDSA_SHA256_P256),
        ('ecdsa-p384', AuthMethod.ECDSA_SHA384_P384),
        ('ecdsa-p521', AuthMethod.ECDSA_SHA512_P521),
    ],
)
def test_ike_sa_comes_up_with_classic_methods_without_hashes(
    kind: str,
    method: AuthMethod,
    methods: list[tuple[int, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = NotifyPayload(40_999)
    for place in ('ikev2.exchanges.ike_init_responder', 'ikev2.exchanges.ike_init_initiator'):
        monkeypatch.setattr(f'{place}.signature_hashes', lambda: silent)
    works(pinned(keys(kind, 1), keys(kind, 2)))
    assert [one for one, _ in methods] == [method, method]

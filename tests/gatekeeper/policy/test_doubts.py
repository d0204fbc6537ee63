"""Policies that are served and most likely don't do what their operator wants."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gatekeeper.policy.doubts import LONG_LIFETIME, doubts_about
from gatekeeper.policy.sessions import SessionPolicy
from ikev2.authentication.identity import Identity
from ikev2.authentication.signatures.keys import PrivateKey
from keymaterial import Secret
from tests.gatekeeper.manual_world import key, sessions
from tests.gatekeeper.world import policies

WALL = 1_800_000_000.0


def session(**changes: object) -> SessionPolicy:
    return replace(policies('r1')[0], **changes)  # type: ignore[arg-type]


def with_entry(**changes: object) -> SessionPolicy:
    one = session()
    return replace(one, pad=replace(one.entry, **changes))  # type: ignore[arg-type]


def doubt(policy: SessionPolicy, wall: float = WALL) -> str:
    (found,) = doubts_about([policy], wall)
    return found


def test_good_policies_raise_no_doubt() -> None:
    assert doubts_about(policies('r1') + policies('r2'), WALL) == []


def test_passive_with_source_port_is_told() -> None:
    assert 'source-port 40001 means nothing' in doubt(session(connect_port=None))


def test_lifetime_of_a_year_is_told() -> None:
    assert 'a lifetime of 365 days' in doubt(session(lifetime=365 * 86400))
    assert doubts_about([session(lifetime=LONG_LIFETIME)], WALL) == []


@pytest.mark.parametrize('address', ['10.0.0.2', 'fd00::2'])
def test_fqdn_of_an_address_is_told(address: str) -> None:
    told = doubt(with_entry(peer_id=Identity.parse('fqdn', address)))
    assert f'peer-id ip {address} says that' in told


def test_our_own_key_as_peer_key_is_told() -> None:
    made = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    own = PrivateKey.load(Secret(made))
    for pinned in (own.public_key, own.public_key.fingerprint):
        told = doubt(with_entry(local_credential=own, peer_credential=pinned))
        assert "the peer's key is our own" in told


def test_expired_keychain_is_told() -> None:
    (one,) = sessions('r1', [key(1)])
    assert one.keychain is not None
    (only,) = one.keychain.keys
    ended = replace(only, send=replace(only.send, start=0.0, end=1.0))
    told = doubt(replace(one, keychain=replace(one.keychain, keys=(ended,))))
    assert 'its sessions stay down, since keychain core has expired' in told

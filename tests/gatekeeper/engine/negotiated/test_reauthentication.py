"""Another credential, other CRLs or IKE policy while sessions run: who stays, and who goes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509

from gatekeeper.policy.sessions import PadEntry
from gatekeeper.state.connection import Phase
from gatekeeper.state.deadlines import Due
from gatekeeper.state.limits import REPROVE_WITHIN
from gatekeeper.state.mkt_record import MktState
from gatekeeper.state.snapshot import snapshot
from ikev2.authentication.auth import PresharedKey, PrivateKey
from ikev2.authentication.ppk import Ppk
from ikev2.proposals.policies import policy_named
from keymaterial import Secret
from tests.gatekeeper.world import FAMILIES, Router, World, open_both, pair_of, policies
from tests.ikev2.pki import DAY, Holder, keys, root

NOW = time.time()
VALID: Any = {'not_before': NOW - DAY, 'not_after': NOW + DAY}
CRL: Any = {'this_update': NOW - DAY, 'next_update': NOW + DAY}
CA = root('CN=ca', **VALID)
OTHER_CA = root('CN=other ca', **VALID)
OWN = {name: CA.leaf(name, x509.DNSName(f'{name}.lab'), **VALID) for name in ('r1', 'r2')}


def renewed(name: str, ca: Holder = CA) -> Holder:
    return ca.leaf(name, x509.DNSName(f'{name}.lab'), **VALID)


def certified(name: str) -> dict[str, Any]:
    return {'local_credential': OWN[name].credential(), 'peer_credential': CA.trust()}


def shared(secret: bytes) -> dict[str, Any]:
    key = PresharedKey(Secret(secret))
    return {'local_credential': key, 'peer_credential': key}


def pinned(own: int, peer: int) -> dict[str, Any]:
    """Raw keys, by their numbers."""
    return {
        'local_credential': PrivateKey(keys('ed25519', own)),
        'peer_credential': PrivateKey(keys('ed25519', peer)).public_key,
    }


def entry(name: str, credentials: dict[str, Any]) -> PadEntry:
    return replace(policies(name)[0].entry, **credentials)


def up(r1: dict[str, Any], r2: dict[str, Any]) -> tuple[World, Router, Router]:
    """Both sessions, with these parts of the PAD entries."""
    world = World()
    two = world.router('r2', policies('r2', pad=entry('r2', r2)), listens=True)
    one = world.router('r1', policies('r1', pad=entry('r1', r1)), listens=False)
    for router in (one, two):
        router.core.set_clock(time.time(), world.now)
    open_both(one)
    world.run(5)
    assert len(one.sessions) == len(two.sessions) == 2
    return world, one, two


def reload(router: Router, **changes: Any) -> None:
    """The router's PAD entry changes."""
    before = router.peer.pad
    wanted = policies(router.name, pad=replace(before, **changes))
    router.core.configure(wanted, router.world.now)
    router.pump()


def send_ids(router: Router) -> dict[str, int]:
    return {name: router.connection(name).mkt_in_use.send_id for name in FAMILIES}


def assert_renegotiated(before: dict[str, int], *routers: Router) -> None:
    """Every session has another key than before, and none was closed."""
    for router in routers:
        assert not router.closed
        assert not router.errors
    after = send_ids(routers[0])
    assert all(after[name] != before[name] for name in FAMILIES)


# --- what is still trusted ----------------------------------------------------------------------


def test_keys_are_replaced_when_our_certificate_is_renewed() -> None:
    world, r1, r2 = up(certified('r1'), certified('r2'))
    before = send_ids(r1)
    fresh = renewed('r1')
    reload(r1, local_credential=fresh.credential())
    world.run(30)
    assert_renegotiated(before, r1, r2)
    for name in FAMILIES:
        proof = r2.connection(name).mkt_in_use.proof
        assert proof is not None
        assert proof.sent is not None
        assert proof.sent.certificates[0] == fresh.der


def test_session_is_untouched_when_a_crl_revokes_others() -> None:
    world, r1, r2 = up(certified('r1'), certified('r2'))
    before, messages = send_ids(r1), len(r1.noted('ike_init'))
    reload(r1, peer_credential=CA.trust(CA.crl(OWN['r1'], **CRL), crl_required=True))
    world.run(2 * REPROVE_WITHIN)
    assert send_ids(r1) == before
    assert len(r1.noted('ike_init')) == messages
    assert r1.peer.up
    assert not r1.closed
    assert not r2.closed


def test_proof_holds_as_long_as_the_new_crl() -> None:
    world, r1, r2 = up(certified('r1'), certified('r2'))
    follow_the_clock(world, r1, r2)
    old = CA.crl(this_update=NOW - DAY, next_update=NOW + 1800)
    new = CA.crl(this_update=NOW, next_update=NOW + DAY)
    for crl, seconds in ((old, 1000), (new, 7200)):
        reload(r1, peer_credential=CA.trust(crl))
        world.run(seconds)
        assert r1.peer.up
        assert len(r1.sessions) == 2
    reload(r1, peer_credential=CA.trust(CA.crl(this_update=NOW, next_update=NOW + 9000)))
    world.run(1800)
    assert not r1.peer.up
    assert 'no current CRL' in str(r1.peer.trouble)


def test_session_stays_when_one_trust_anchor_replaces_another() -> None:
    world, r1, r2 = up(certified('r1'), certified('r2'))
    both = replace(CA.trust(), anchors=(CA.certificate, OTHER_CA.certificate))
    reload(r1, peer_credential=both)
    world.run(30)
    reload(r2, local_credential=renewed('r2', OTHER_CA).credential())
    world.run(30)
    reload(r1, peer_credential=OTHER_CA.trust())
    world.run(2 * REPROVE_WITHIN)
    assert r1.peer.up
    assert len(r1.sessions) == len(r2.sessions) == 2
    assert not r1.closed
    assert not r2.closed


@pytest.mark.parametrize(
    ('r1', 'r2', 'new_r1', 'new_r2'),
    [
        (shared(b'a'), shared(b'a'), shared(b'b'), shared(b'b')),
        (pinned(1, 2), pinned(2, 1), pinned(1, 3), pinned(3, 1)),
        (shared(b'a'), shared(b'a'), certified('r1'), certified('r2')),
        (certified('r1'), certified('r2'), pinned(1, 2), pinned(2, 1)),
    ],
    ids=['pre-shared key', 'raw key', 'to certificates', 'from certificates'],
)
@pytest.mark.parametrize('first', ['r1', 'r2'])
def test_session_stays_when_both_ends_change_within_a_minute(
    first: str,
    r1: dict[str, Any],
    r2: dict[str, Any],
    new_r1: dict[str, Any],
    new_r2: dict[str, Any],
) -> None:
    world, one, two = up(r1, r2)
    before = send_ids(one)
    changes = [(one, new_r1), (two, new_r2)]
    for router, change in changes if first == 'r1' else changes[::-1]:
        reload(router, **change)
        world.run(REPROVE_WITHIN / 2)
        assert len(one.sessions) == len(two.sessions) == 2
    world.run(2 * REPROVE_WITHIN)
    assert_renegotiated(before, one, two)


@pytest.mark.parametrize(
    'change',
    [
        {'ike_policy': policy_named('hybrid')},
        {'ppk': Ppk('r1 and r2', Secret(bytes(range(32))))},
    ],
    ids=['policy', 'ppk'],
)
def test_peer_has_no_time_limit_when_its_identity_is_the_same(
    change: dict[str, Any],
) -> None:
    world, r1, r2 = up(certified('r1'), certified('r2'))
    before = send_ids(r1)
    reload(r1, **change)
    world.run(3 * REPROVE_WITHIN)
    assert len(r1.sessions) == len(r2.sessions) == 2
    reload(r2, **change)
    world.run(2 * REPROVE_WITHIN)
    assert_renegotiated(before, r1, r2)


def test_another_rotation_follows_one_that_is_running() -> None:
    world, r1, r2 = up(certified('r1'), certified('r2'))
    conn = r1.connection('ipv4 unicast')
    r1.core.state.deadlines.set(Due.REKEY, conn, world.now)
    world.run(0.1)
    assert conn.rotation is not None
    successor = conn.rotation.new
    reload(r1, local_credential=renewed('r1').credential())
    world.run(60)
    assert conn.mkt_in_use is not successor
    assert conn.rekeys == 2
    assert not r1.closed
    assert not r2.closed


# --- what isn't ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('trust', 'cause'),
    [
        (CA.trust(CA.crl(OWN['r2'], **CRL)), 'CN=r2 was revoked'),
        (OTHER_CA.trust(), 'was not issued by a configured trust anchor'),
        (
            CA.trust(CA.crl(this_update=NOW - 2 * DAY, next_update=NOW - DAY)),
            'there is no current CRL of the issuer of CN=r2',
        ),
    ],
    ids=['revoked', 'another CA', 'an old CRL'],
)
def test_session_ends_at_once_when_the_peer_is_not_trusted(trust: Any, cause: str) -> None:
    world, r1, r2 = up(certified('r1'), certified('r2'))
    before = [r1.connection(name).mkt_in_use for name in FAMILIES]
    reload(r1, peer_credential=trust)
    assert not r1.sessions
    assert all(cause in why for _, why in r1.closed)
    world.run(1)
    assert not r2.sessions
    assert r2.listener_keys() == 0
    assert all(mkt.state is MktState.REVOKED for mkt in before)
    row = snapshot(r1.core.state, world.now)[0]
    assert cause in str(row['last_error'])
    # And stays off, with the cause.
    ticket = r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(40)
    assert cause in str(ticket.error)
    assert "renew the peer's certificate, or correct trust-anchor, crl" in str(ticket.error)


@pytest.mark.parametrize(
    ('r1', 'r2', 'change'),
    [
        (shared(b'a'), shared(b'a'), shared(b'b')),
        (pinned(1, 2), pinned(2, 1), pinned(1, 3)),
        (shared(b'a'), shared(b'a'), certified('r1')),
    ],
)
def test_peer_has_a_minute_to_prove_the_new_credential(
    r1: dict[str, Any], r2: dict[str, Any], change: dict[str, Any]
) -> None:
    world, one, two = up(r1, r2)
    reload(one, **change)
    world.run(REPROVE_WITHIN - 1)
    assert len(one.sessions) == 2
    world.run(1.5)
    assert not one.sessions
    assert not two.sessions
    assert all('did not prove itself by its new credential' in why for _, why in one.closed)


def test_reloads_do_not_put_off_the_end_of_that_minute() -> None:
    world, r1, _ = up(shared(b'a'), shared(b'a'))
    for secret in (b'b', b'c', b'd'):
        reload(r1, **shared(secret))
        world.run(REPROVE_WITHIN / 3)
    world.run(1)
    assert not r1.sessions


def test_unused_connection_does_not_outlive_the_change() -> None:
    world = World()
    world.network.deliver = lambda segment: False
    r2 = world.router('r2', policies('r2', pad=entry('r2', certified('r2'))), listens=True)
    r1 = world.router('r1', policies('r1', pad=entry('r1', certified('r1'))), listens=False)
    r1.open('r1 ipv4 unicast', pair_of('ipv4 unicast'))
    world.run(2)
    assert r2.listener_keys() == 1
    reload(r2, local_credential=renewed('r2').credential())
    assert r2.listener_keys() == 0
    assert all(c.phase is Phase.ENDING for c in r2.core.state.connections.values())


def test_deleted_peer_is_not_waited_for() -> None:
    world, r1, _ = up(shared(b'a'), shared(b'a'))
    reload(r1, **shared(b'b'))
    r1.core.configure([], world.now)
    r1.pump()
    world.run(2 * REPROVE_WITHIN)
    assert r1.core.state.deadlines.next() is None


# --- what ends by itself ------------------------------------------------------------------------


def follow_the_clock(world: World, *routers: Router) -> None:
    """The wall clock goes on with the world's."""
    begun = world.now
    for router in routers:
        router.core.set_clock(NOW, world.now)
        router.core.endpoint._context.wall_clock = lambda: NOW + world.now - begun


@pytest.mark.parametrize('ends', ['certificate', 'crl'])
def test_session_ends_with_its_last_key_when_the_proof_ended(ends: str) -> None:
    half_an_hour = NOW + 1800
    own, trust = OWN['r2'], CA.trust()
    if ends == 'certificate':
        own = CA.leaf('r2', x509.DNSName('r2.lab'), not_before=NOW - DAY, not_after=half_an_hour)
    else:
        trust = CA.trust(CA.crl(this_update=NOW - DAY, next_update=half_an_hour))
    world = World()
    two = entry('r2', certified('r2') | {'local_credential': own.credential()})
    r2 = world.router('r2', policies('r2', pad=two), listens=True)
    one = entry('r1', certified('r1') | {'peer_credential': trust})
    r1 = world.router('r1', policies('r1', pad=one), listens=False)
    follow_the_clock(world, r1, r2)
    open_both(r1)
    world.run(5)
    row = snapshot(r1.core.state, world.now)[0]
    assert row['proven_until'] == pytest.approx(half_an_hour, abs=6)
    assert row['certificate_expires'] == OWN['r1'].certificate.not_after
    assert row['ike_suite'] == 'aes-256-gcm-16/hmac-sha2-256/curve25519'
    world.run(1900)
    assert not r1.peer.up
    assert len(r1.sessions) == 2
    row = snapshot(r1.core.state, world.now)[0]
    assert row['proven_until'] is row['ike_suite'] is None
    why = 'CN=r2 has expired' if ends == 'certificate' else 'there is no current CRL of the issuer'
    assert why in str(row['last_error'])
    world.run(1800)
    assert not r1.sessions
    assert not r2.sessions


def test_session_is_untouched_when_a_certificate_is_renewed() -> None:
    world = World()
    old = CA.leaf('r2', x509.DNSName('r2.lab'), not_before=NOW - DAY, not_after=NOW + 7200)
    two = entry('r2', certified('r2') | {'local_credential': old.credential()})
    r2 = world.router('r2', policies('r2', pad=two), listens=True)
    r1 = world.router('r1', policies('r1', pad=entry('r1', certified('r1'))), listens=False)
    follow_the_clock(world, r1, r2)
    open_both(r1)
    world.run(3600)
    reload(r2, local_credential=OWN['r2'].credential())
    world.run(4 * 3600)
    assert r1.peer.up
    assert not r1.closed
    assert not r2.closed


def test_identities_are_proven_anew_as_often_as_configured() -> None:
    world, r1, r2 = up(
        certified('r1') | {'reauthentication': 600, 'ike_lifetime': 3600, 'liveness': 60},
        certified('r2'),
    )
    before = len(r1.noted('ike_auth'))
    world.run(3600)
    # Request and answer, five times and more; MKTs aren't an IKE SA's.
    assert len(r1.noted('ike_auth')) - before >= 10
    assert not r1.closed
    assert not r2.closed


def test_failure_is_not_told_when_both_get_another_secret() -> None:
    _, one, two = up(shared(b'a' * 32), shared(b'a' * 32))
    for router in (one, two):
        reload(router, **shared(b'b' * 32))
    one.world.run(30)
    assert [*one.noted('refused'), *two.noted('refused')] == []

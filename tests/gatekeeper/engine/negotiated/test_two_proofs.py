"""Two IKE SAs with one peer, each with a proof of its own: what ends with which."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from gatekeeper.engine.negotiated.rekeying import ask
from gatekeeper.state.limits import REPROVE_WITHIN
from gatekeeper.state.mkt_record import MktState
from ikev2.authentication.auth import PresharedKey
from ikev2.constants import NotifyType
from keymaterial import Secret
from tests.gatekeeper.engine.negotiated.test_reauthentication import (
    CA,
    CRL,
    NOW,
    OWN,
    certified,
    follow_the_clock,
    reload,
    shared,
    up,
)
from tests.gatekeeper.second_holder import SecondHolder
from tests.gatekeeper.world import FAMILIES, Router, World
from tests.ikev2.pki import DAY

STOLEN = CA.leaf('stolen', x509.DNSName('r1.lab'), not_before=NOW - DAY, not_after=NOW + 7200)
OLD, NEW = b'the old secret of both, long', b'the new secret of both, long'
FAMILY = 'ipv4 unicast'


def revoked() -> Any:
    return CA.trust(CA.crl(STOLEN, **CRL))


def renewed_while_stolen() -> tuple[World, Router, Router, SecondHolder]:
    """r1 had the certificate STOLEN, which a thief has too, and has another one now.

    The thief keeps its IKE SA with r2: it is at r1's address.
    """
    world, r1, r2 = up(certified('r1') | {'local_credential': STOLEN.credential()}, certified('r2'))
    follow_the_clock(world, r1, r2)
    thief = SecondHolder(world, STOLEN.credential(), CA.trust())
    thief.connect()
    world.run(1)
    reload(r1, local_credential=OWN['r1'].credential())
    world.run(30)
    assert len(r1.sessions) == len(r2.sessions) == 2
    assert len(ike_sas(r2)) == 2
    return world, r1, r2, thief


def ike_sas(router: Router) -> tuple[Any, ...]:
    """The IKE SAs that serve."""
    found = router.core.endpoint.snapshot().peer(router.peer.pad.name).ike_sas
    return tuple(one for one in found if one.state == 'established')


def test_revocation_ends_only_the_ike_sa_of_the_revoked_proof() -> None:
    world, r1, r2, thief = renewed_while_stolen()
    before = {name: r2.connection(name).mkt_in_use for name in FAMILIES}
    (ours,) = (one for one in ike_sas(r2) if one.proven_until != STOLEN.certificate.not_after)
    reload(r2, peer_credential=revoked())
    world.run(1)
    assert [one.spis for one in ike_sas(r2)] == [ours.spis]
    assert {name: r2.connection(name).mkt_in_use for name in FAMILIES} == before
    told = [str(event.details.get('cause')) for event in r2.noted('refused')]
    assert any('CN=stolen was revoked' in cause for cause in told)
    thief.request_key(FAMILY, 77)
    world.run(5)
    assert not thief.has_key()
    assert not r1.closed
    assert not r2.closed


def test_proof_does_not_prolong_that_of_another_ike_sa() -> None:
    world, _, r2, _ = renewed_while_stolen()
    reload(r2, peer_credential=CA.trust(CA.crl(OWN['r2'], **CRL)))
    world.run(1)
    ends = sorted(one.proven_until for one in ike_sas(r2))
    assert ends[0] == STOLEN.certificate.not_after
    assert ends[1] > ends[0]


def test_mkt_of_a_revoked_proof_ends_and_the_others_stay() -> None:
    world, r1, r2, thief = renewed_while_stolen()
    # The thief replaces the connection of one session.
    thief.request_key(FAMILY, 77)
    world.run(2)
    assert thief.has_key()
    (stolen,) = (mkt for mkt in r2.peer.mkts if mkt.recv_id == 77)
    kept = r2.connection('ipv6 unicast').mkt_in_use
    assert r2.listener_keys() == 1
    reload(r2, peer_credential=revoked())
    assert stolen.ended
    assert r2.listener_keys() == 0
    world.run(1)
    assert r2.connection('ipv6 unicast').mkt_in_use is kept
    assert len(r1.sessions) == 1


def test_session_stays_when_the_successors_proof_is_revoked() -> None:
    world, r1, r2, thief = renewed_while_stolen()
    conn = r2.connection(FAMILY)
    thief.request_successor(FAMILY, 77, conn.mkt_in_use.recv_id or 0)
    world.run(0.1)
    assert conn.rotation is not None
    successor, kept = conn.rotation.new, conn.mkt_in_use
    reload(r2, peer_credential=revoked())
    world.run(1)
    assert successor.state is MktState.REVOKED
    assert conn.mkt_in_use is kept
    assert r2.keys_on(FAMILY) == [(kept.send_id, kept.recv_id)]
    world.run(60)
    assert not r1.closed
    assert not r2.closed


def test_old_mkt_goes_at_once_when_its_proof_is_revoked() -> None:
    world, r1, r2, _ = renewed_while_stolen()
    conn = r2.connection(FAMILY)
    assert conn.retiring
    assert len(r2.keys_on(FAMILY)) == 2
    reload(r2, peer_credential=revoked())
    world.run(0.1)
    assert r2.keys_on(FAMILY) == [(conn.mkt_in_use.send_id, conn.mkt_in_use.recv_id)]
    world.run(60)
    assert not r1.closed
    assert not r2.closed


def test_ike_sa_ends_when_the_clock_was_set_beyond_its_proof() -> None:
    world, r1, r2, _ = renewed_while_stolen()
    endpoint = r2.core.endpoint
    ahead = endpoint._context.wall_clock() + 3 * 3600
    begun = world.now
    endpoint._context.wall_clock = lambda: ahead + world.now - begun
    r2.core.set_clock(ahead, world.now)
    r2.pump()
    assert STOLEN.certificate.not_after not in [one.proven_until for one in ike_sas(r2)]
    assert len(ike_sas(r2)) == 1
    world.run(5)
    assert not r1.closed
    assert not r2.closed


# --- another credential -------------------------------------------------------------------------


def stolen_session(refuses_with: NotifyType) -> tuple[World, Router, SecondHolder, float]:
    """A thief holds both sessions under the old pre-shared key; r1 proves itself by the new one."""
    world, thief, r2 = up(shared(OLD), shared(OLD))
    changed = world.now
    reload(r2, **shared(NEW))
    key = PresharedKey(Secret(NEW))
    r1 = SecondHolder(world, key, key, refuses_with=refuses_with)
    r1.connect()
    # It keeps its connections alive.
    for _ in range(2000):
        world.run(0.1)
        for pair in thief.sessions.values():
            if thief.sockets[pair].is_established():
                thief.sockets[pair].send(b'x')
        if not r2.sessions:
            break
    return world, r2, r1, world.now - changed


def test_key_ends_at_once_when_the_true_peer_does_not_know_it() -> None:
    _, r2, _, seconds = stolen_session(NotifyType.CHILD_SA_NOT_FOUND)
    assert seconds < 5
    assert all('does not know the key from before' in why for _, why in r2.closed)


def test_key_has_a_minute_when_the_true_peer_does_not_replace_it() -> None:
    _, r2, _, seconds = stolen_session(NotifyType.TEMPORARY_FAILURE)
    assert seconds == pytest.approx(REPROVE_WITHIN, abs=0.5)
    assert all('the peer did not replace it within 60 s' in why for _, why in r2.closed)


def test_old_key_ends_within_a_minute_when_no_delete_comes() -> None:
    """The session has a successor under the new proof; the old key must not open it longer."""
    world, r1, r2 = up(shared(OLD), shared(OLD))
    conn = r2.connection(FAMILY)
    before = conn.mkt_in_use
    for router in (r1, r2):
        reload(router, **shared(NEW))
    while not conn.rekeys:
        world.run(0.05)
    # From here on neither end deletes anything.
    world.lose = lambda _: True
    world.run(REPROVE_WITHIN)
    assert before.ended
    assert len(r2.keys_on(FAMILY)) == 1
    assert not r1.closed
    assert not r2.closed


def test_second_change_limits_the_key_of_the_first() -> None:
    world, r1, r2 = up(shared(OLD), shared(OLD))
    for secret in (NEW, OLD):
        changed = world.now
        for router in (r1, r2):
            reload(router, **shared(secret))
        world.run(30)
        assert r2.connection(FAMILY).mkt_in_use.authenticated > changed
    world.run(2 * REPROVE_WITHIN)
    assert not r1.closed
    assert not r2.closed


def test_refused_rekey_does_not_end_a_key_without_limit() -> None:
    world, r1, r2 = up(shared(OLD), shared(OLD))
    ask(r2.core.state, r2.connection(FAMILY), world.now)
    world.run(2 * REPROVE_WITHIN)
    assert not r1.closed
    assert r2.connection(FAMILY).mkt_in_use.limited is None


def test_our_other_credential_limits_the_earlier_keys() -> None:
    """The peer can't be reached meanwhile: no new proof, no successor."""
    world, r1, r2 = up(certified('r1'), certified('r2'))
    world.lose = lambda _: True
    reload(r1, local_credential=OWN['r1'].credential())
    assert len(r1.sessions) == 2
    reload(r1, local_credential=STOLEN.credential())
    world.run(REPROVE_WITHIN - 1)
    assert len(r1.sessions) == 2
    world.run(1.5)
    assert not r1.sessions
    assert not r2.sessions

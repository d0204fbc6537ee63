"""Warnings of expiry: once when the end is near, once more, and when it has come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from cryptography import x509

from gatekeeper.engine.expiry_warnings import Forewarning, news
from gatekeeper.policy.keychain import ChainKey, Keychain
from gatekeeper.policy.sessions import SessionPolicy
from gatekeeper.reporting.expiry import DAY, ExpiryStage, ends_of
from tests.gatekeeper.manual_world import key, reload, sessions, two_routers
from tests.gatekeeper.world import World, policies
from tests.ikev2.pki import root

NOW = float(int(time.time()))
CA_LIFE: Any = {'not_before': NOW - 300 * DAY, 'not_after': NOW + 3000 * DAY}
CA = root('CN=ca', **CA_LIFE)


def with_certificate(*, since: float, until: float, trust: Any = None) -> SessionPolicy:
    """r1's session, with a certificate of that life (seconds from now)."""
    own = CA.leaf(
        'r1', x509.DNSName('r1.lab'), not_before=NOW + since * DAY, not_after=NOW + until * DAY
    )
    policy = policies('r1')[0]
    pad = replace(
        policy.entry, local_credential=own.credential(), peer_credential=trust or CA.trust()
    )
    return replace(policy, pad=pad)


def with_keys(*chain: ChainKey, neighbor: str = '10.0.0.2') -> SessionPolicy:
    (policy,) = sessions('r1', list(chain))
    return replace(policy, neighbor=neighbor)


def told_over(
    policies: Sequence[SessionPolicy], days: Sequence[float]
) -> list[tuple[float, Forewarning]]:
    """Return the warnings if an operator looks on each of these days from now."""
    told: dict[tuple[str, float], ExpiryStage] = {}
    found = []
    for day in days:
        found += [(day, one) for one in news(policies, NOW + day * DAY, told)[0]]
    return found


def by_deadlines(policies: Sequence[SessionPolicy]) -> list[float]:
    """Days from now on which something is told, looking only when it said to look again."""
    told: dict[tuple[str, float], ExpiryStage] = {}
    days, when = [], NOW
    while when < inf:
        found, again = news(policies, when, told)
        days += [round((when - NOW) / DAY, 2)] * len(found)
        assert again > when
        when = again
    return days


# --- when ---------------------------------------------------------------------------------------


def test_certificate_of_a_year_is_told_at_its_three_times() -> None:
    assert by_deadlines([with_certificate(since=-265, until=100)])[:3] == [70, 97, 100]


def test_certificate_of_days_is_told_at_a_third_of_its_life() -> None:
    assert by_deadlines([with_certificate(since=-1, until=5)])[:3] == [3, 4.8, 5]


def test_near_end_is_told_at_once_when_loaded() -> None:
    found = told_over([with_certificate(since=-300, until=20)], [0, 1, 2])
    assert [day for day, _ in found] == [0]
    ((_, said),) = found
    assert said.neighbors == '10.0.0.2'
    assert said.cause.startswith('our certificate CN=r1 ends in 20 days, at 20')
    assert said.cause.endswith('no peer takes our proof any more, and sessions end with their keys')
    assert said.hint == 'put a renewed one in its place, and reload'


def test_end_in_years_is_not_told() -> None:
    assert not told_over([with_certificate(since=-1, until=700)], [0, 100, 600])


def test_endless_credential_has_no_deadline() -> None:
    assert news([with_keys(key(1))], NOW, {}) == ([], inf)
    assert news(policies('r1'), NOW, {}) == ([], inf)
    assert news([], NOW, {}) == ([], inf)


# --- certificates, anchors, CRLs ----------------------------------------------------------------


def test_intermediate_ca_is_named_when_it_ends_first() -> None:
    issuer = CA.ca('CN=issuer', not_before=NOW - 300 * DAY, not_after=NOW + 10 * DAY)
    own = issuer.leaf('r1', x509.DNSName('r1.lab'), **CA_LIFE)
    policy = with_certificate(since=-1, until=1)
    pad = replace(policy.entry, local_credential=own.credential(issuer))
    ((_, said),) = told_over([replace(policy, pad=pad)], [0])
    assert said.cause.startswith('of our certificates that of the CA CN=issuer ends in 10 days')


def test_last_of_several_trust_anchors_counts() -> None:
    """The next one beside the old one is how anchors are replaced."""
    old = root('CN=old', not_before=NOW - 900 * DAY, not_after=NOW + 5 * DAY).trust()
    alone = with_certificate(since=-1, until=700, trust=old)
    assert [said.cause[:19] for _, said in told_over([alone], [0])] == ['trust anchor CN=old']
    both = replace(old, anchors=(*old.anchors, *CA.trust().anchors))
    assert not told_over([with_certificate(since=-1, until=700, trust=both)], [0, 4.9, 5.1])


def test_crl_is_told_when_a_tenth_of_its_life_is_left() -> None:
    crl = CA.crl(this_update=NOW - DAY, next_update=NOW + 9 * DAY)
    policy = with_certificate(since=-1, until=700, trust=CA.trust(crl))
    found = told_over([policy], [0, 7.9, 8, 8.5, 8.9, 9.1])
    assert [day for day, _ in found] == [8, 8.9, 9.1]
    assert found[0][1].cause.startswith('the CRL of CN=ca ends in 24 hours, at ')
    assert found[2][1].cause.startswith('the CRL of CN=ca has ended: no certificate of that CA')
    assert found[0][1].hint == 'put the new one in its place, and reload'


def test_later_of_two_crls_of_a_ca_counts() -> None:
    older = CA.crl(this_update=NOW - 10 * DAY, next_update=NOW - DAY)
    newer = CA.crl(this_update=NOW - DAY, next_update=NOW + 9 * DAY)
    policy = with_certificate(since=-1, until=700, trust=CA.trust(older, newer))
    assert not told_over([policy], [0])


# --- keychains ----------------------------------------------------------------------------------


def days(start: float, end: float) -> tuple[float, float]:
    return NOW + start * DAY, NOW + end * DAY


def test_last_key_of_a_chain_is_told_at_a_tenth_of_its_life() -> None:
    found = told_over([with_keys(key(1, send=days(-10, 90)))], [0, 79, 80, 85, 89, 89.5])
    assert [day for day, _ in found] == [80, 89]
    said = found[0][1]
    assert said.cause.startswith(
        'keychain core: key 1 (SendID 11, RecvID 21) has no successor, and ends in 10 days, at '
    )
    assert said.cause.endswith(': then its sessions go down')
    assert said.hint == 'add a key to the keychain at both ends, and reload'


def test_key_is_not_told_when_it_has_a_successor() -> None:
    chain = with_keys(key(1, send=days(-99, 1)), key(2, send=days(0.5, inf)))
    assert by_deadlines([chain]) == []


def test_end_of_the_last_of_several_keys_counts() -> None:
    chain = with_keys(key(1, send=days(-99, 1)), key(2, send=days(0, 100)))
    assert by_deadlines([chain])[:2] == [90, 99]


def test_gap_counts_as_an_end() -> None:
    chain = with_keys(key(1, send=days(-10, 10)), key(2, send=days(11, inf)))
    assert by_deadlines([chain])[:2] == [8, 9.8]


def test_denying_chain_is_told_once_when_it_is_loaded() -> None:
    """No other event would tell the side that waits for a SYN under it."""
    found = told_over([with_keys(key(1, send=days(-10, -1)))], [0, 1, 2])
    ((day, said),) = found
    assert day == 0
    assert said.cause.startswith('keychain core has expired: key 1 (SendID 11, RecvID 21) was the')
    assert said.cause.endswith(': its sessions are down')


def test_one_line_is_told_for_all_neighbors_that_share_it() -> None:
    chain = Keychain('core', (key(1, send=days(-10, 0.1)),))
    shared = [
        replace(with_keys(key(1)), keychain=chain, neighbor=f'10.0.{n}.2', key=str(n))
        for n in range(100)
    ]
    ((_, said),) = told_over(shared, [0])
    assert said.neighbors == '10.0.0.2, 10.0.1.2, 10.0.2.2 and 97 more'
    assert len(ends_of(shared, NOW)) == 1


# --- in the gatekeeper --------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    return World()


def test_gatekeeper_tells_it_by_a_deadline_and_once(world: World) -> None:
    start = world.now
    r1, _ = two_routers(world, [key(1, send=(start - 1000, start + 9000))])
    assert not r1.noted('expires')
    world.run(7990)
    assert not r1.noted('expires')
    world.run(20)
    (note,) = r1.noted('expires')
    assert 'has no successor, and ends in 17 minutes' in str(note.details['cause'])
    assert note.details['neighbor'] == '10.0.0.2'
    world.run(800)
    assert len(r1.noted('expires')) == 1
    world.run(150)
    assert len(r1.noted('expires')) == 2
    world.run(100)
    assert 'has expired' in str(r1.noted('expires')[-1].details['cause'])
    world.run(1000)
    assert len(r1.noted('expires')) == 3


def test_reload_ends_the_warning_or_repeats_it(
    world: World,
) -> None:
    start = world.now
    ends = key(1, send=(start - 1000, start + 50))
    r1, _ = two_routers(world, [ends])
    assert len(r1.noted('expires')) == 1
    reload(r1, [ends])
    assert len(r1.noted('expires')) == 2
    reload(r1, [ends, key(2, send=(start + 10, inf))])
    world.run(100)
    assert len(r1.noted('expires')) == 2


def test_clock_step_is_noticed(world: World) -> None:
    start = world.now
    r1, _ = two_routers(world, [key(1, send=(start - 1000, start + 9000))])
    r1.core.set_clock(start + 8500, world.now)
    r1.pump()
    assert len(r1.noted('expires')) == 1

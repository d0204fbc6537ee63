"""Policies, and sets of them that can't be served."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from gatekeeper.errors import PolicyError
from gatekeeper.policy.sessions import SessionId, check
from ikev2.authentication.identity import Identity
from tests.gatekeeper.world import policies


def test_session_id_is_the_families_in_order_then_the_service() -> None:
    session = SessionId('bgp', 'both', ((2, 1), (1, 1)))
    assert session.encode() == bytes.fromhex('02 0001 01 0002 01') + b'bgp'


def test_two_families_of_one_peer_are_served_together() -> None:
    check(policies('r1'))
    check(policies('r2'))


def test_address_belongs_to_one_identity() -> None:
    one, other = policies('r2')
    stranger = replace(other.entry, peer_id=Identity.parse('fqdn', 'other.lab'))
    with pytest.raises(PolicyError, match='an address belongs to one identity'):
        check([one, replace(other, pad=stranger)])


def test_pair_of_identities_has_one_credential() -> None:
    one, other = policies('r2')
    with pytest.raises(PolicyError, match='different credentials'):
        check([one, replace(other, pad=policies('r2', psk=b'another secret')[0].pad)])


def test_sessions_are_refused_when_a_responder_cannot_tell_them() -> None:
    one, other = policies('r2')
    with pytest.raises(PolicyError, match='cannot be told apart'):
        check([one, replace(other, peer_port=one.peer_port)])


def test_two_sessions_cannot_share_a_source_port() -> None:
    one, other = policies('r1')
    with pytest.raises(PolicyError, match='both have source-port'):
        check([one, replace(other, source_port=one.source_port)])


def test_source_port_may_serve_two_peers() -> None:
    one, other = policies('r1')
    pad = replace(other.entry, peer_id=Identity.parse('fqdn', 'r3.lab'))
    check(
        [one, replace(other, source_port=one.source_port, remote=ip_address('10.0.0.3'), pad=pad)]
    )


def test_lifetime_is_refused_when_too_short_to_rotate_in() -> None:
    with pytest.raises(PolicyError, match='shorter than 15 seconds'):
        check(policies('r1', lifetime=14))


def test_peer_is_refused_when_it_has_our_own_identity() -> None:
    one, _ = policies('r1')
    with pytest.raises(PolicyError, match='same identity'):
        check([replace(one, pad=replace(one.entry, peer_id=one.entry.local_id))])


@pytest.mark.parametrize(
    ('address', 'what'),
    [
        ('0.0.0.0', 'unspecified'),
        ('224.0.0.5', 'multicast'),
        ('255.255.255.255', 'broadcast'),
        ('10.0.0.1', 'its own local-address'),
    ],
)
def test_check_refuses_a_neighbor_when_its_address_is_absent(address: str, what: str) -> None:
    one, _ = policies('r1')
    with pytest.raises(PolicyError, match=what):
        check([replace(one, local=ip_address('10.0.0.1'), remote=ip_address(address))])


@pytest.mark.parametrize('address', ['::', 'ff02::1', 'fd00::1'])
def test_check_refuses_an_ipv6_neighbor_when_it_is_absent(address: str) -> None:
    one, _ = policies('r1')
    with pytest.raises(PolicyError, match='a session has one peer'):
        check([replace(one, local=ip_address('fd00::1'), remote=ip_address(address))])

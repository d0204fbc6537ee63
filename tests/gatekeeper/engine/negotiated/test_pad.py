"""The Peer Authorization Database: identities, their credentials, their addresses, their sessions.

r2 has two peers, r1 and r3. r3 is a gatekeeper with a good credential of its own, whose operator
wants keys for what is r1's. It never gets one, and r1 never notices.
"""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
from cryptography import x509

from gatekeeper.policy.sessions import PadEntry, SessionId, SessionPolicy
from ikev2.authentication.auth import LocalCredential, PeerCredential, PrivateKey
from ikev2.authentication.identity import Identity
from ikev2.events import Datagram, RpSaRequest, Selector
from tcpao.mkt import IPAddress, SocketPair
from tests.gatekeeper.world import R1, R2, Router, World
from tests.ikev2.pki import DAY, keys, root

R3 = ip_address('10.0.0.3')
NOW = time.time()
VALID: Any = {'not_before': NOW - DAY, 'not_after': NOW + DAY}
CA = root('CN=ca', **VALID)
ADDRESSES: dict[str, IPAddress] = {'r1': R1, 'r2': R2, 'r3': R3}
OWN = {name: CA.leaf(name, x509.DNSName(f'{name}.lab'), **VALID) for name in ADDRESSES}
SESSION = SessionId('bgp', 'ipv4 unicast', ((1, 1),))
R1S_PORT = 40001


def entry(
    own: str,
    peer: str,
    credential: LocalCredential | None = None,
    trusted: PeerCredential | None = None,
) -> PadEntry:
    return PadEntry(
        Identity.parse('fqdn', f'{own}.lab'),
        Identity.parse('fqdn', f'{peer}.lab'),
        credential or OWN[own].credential(),
        trusted or CA.trust(),
    )


def policy(own: str, peer: str, **changes: Any) -> SessionPolicy:
    """r2 listens, the others connect."""
    listens = own == 'r2'
    made = SessionPolicy(
        key=f'{own} {peer}',
        neighbor=str(ADDRESSES[peer]),
        session=SESSION,
        local=ADDRESSES[own],
        remote=ADDRESSES[peer],
        connect_port=None if listens else 179,
        listen_port=179 if listens else None,
        pad=entry(own, peer),
    )
    return replace(made, **changes)


def hub(world: World) -> Router:
    """r2, that knows both."""
    return world.router('r2', [policy('r2', 'r1'), policy('r2', 'r3')], listens=True)


def open_to_r2(router: Router, port: int = R1S_PORT) -> None:
    router.open(f'{router.name} r2', SocketPair(router.address, port, R2, 179))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def r2(world: World) -> Router:
    """With r1's session up."""
    two = hub(world)
    one = world.router('r1', [policy('r1', 'r2')], listens=False)
    open_to_r2(one)
    world.run(3)
    assert 'r2 r1' in two.sessions
    return two


def rogue(world: World, **changes: Any) -> Router:
    """r3, configured as its operator likes."""
    made = world.router('r3', [policy('r3', 'r2', **changes)], listens=False)
    world.run(3)
    return made


def r1s_session_is_untouched(r2: Router) -> bool:
    conn = r2.core.state.connections[r2.sessions['r2 r1']]
    return conn.rekeys == 0 and not r2.closed and not r2.listener_keys()


def ask(r3: Router, *, tsi: Selector, tsr: Selector, rekey_keyid: int | None = None) -> None:
    """r3 asks for a key, past its own gatekeeper."""
    r3.core.endpoint.request(
        r3.peer.pad.name,
        RpSaRequest(
            keyid=200,
            suites=('hmac-sha-1-96',),
            tcp_options=True,
            tsi=tsi,
            tsr=tsr,
            session_id=SESSION.encode() if rekey_keyid is None else None,
            lifetime=3600,
            rekey_keyid=rekey_keyid,
        ),
        r3.world.now,
    )
    r3.world.run(3)


# --- addresses and sessions ---------------------------------------------------------------------


def test_peer_gets_its_own_sessions(world: World, r2: Router) -> None:
    r3 = rogue(world)
    open_to_r2(r3)
    world.run(3)
    assert 'r2 r3' in r2.sessions
    assert r1s_session_is_untouched(r2)


@pytest.mark.parametrize('port', [R1S_PORT, 40002], ids=['the pair in use', 'another pair'])
def test_peer_gets_no_key_when_the_address_is_anothers(port: int, world: World, r2: Router) -> None:
    r3 = rogue(world)
    ask(r3, tsi=Selector(R1, port), tsr=Selector(R2, 179))
    refused = r2.noted('refused')[-1].details
    assert refused['notify'] == 'TS_UNACCEPTABLE'
    assert refused['peer_id'] == 'fqdn r3.lab'
    assert 'no session of this peer from 10.0.0.1' in str(refused['cause'])
    assert r1s_session_is_untouched(r2)


def test_peer_gets_no_key_when_no_neighbor_has_the_address(world: World, r2: Router) -> None:
    r3 = rogue(world)
    for tsi, tsr in (
        (Selector(ip_address('10.0.0.4'), 40003), Selector(R2, 179)),
        (Selector(R3, 40003), Selector(ip_address('10.0.0.9'), 179)),
        (Selector(R3, 40003), Selector(R1, 179)),
        (Selector(R3, 40003), Selector(R2, 180)),
        (Selector(R2, 179), Selector(R1, R1S_PORT)),
    ):
        before = len(r2.noted('refused'))
        ask(r3, tsi=tsi, tsr=tsr)
        assert r2.noted('refused')[before].details['notify'] == 'TS_UNACCEPTABLE'
    assert r1s_session_is_untouched(r2)


def test_peer_gets_no_session_when_none_is_configured_for_it(world: World) -> None:
    other = SessionId('bgp', 'ipv6 unicast', ((2, 1),))
    r2 = world.router('r2', [policy('r2', 'r1', session=other), policy('r2', 'r3')], listens=True)
    r3 = rogue(world, session=other)
    open_to_r2(r3)
    world.run(3)
    assert 'no such session at the peer' in r3.errors[0]
    assert not r2.sessions


def test_peer_cannot_rekey_anothers_key(world: World, r2: Router) -> None:
    r3 = rogue(world)
    conn = r2.core.state.connections[r2.sessions['r2 r1']]
    assert conn.mkt_in_use.recv_id is not None
    ask(r3, tsi=Selector(R1, R1S_PORT), tsr=Selector(R2, 179), rekey_keyid=conn.mkt_in_use.recv_id)
    assert 'no MKT with KeyID' in str(r2.noted('refused')[-1].details['cause'])
    assert r1s_session_is_untouched(r2)


def test_peer_cannot_delete_anothers_key(world: World, r2: Router) -> None:
    r3 = rogue(world)
    r3.core.endpoint.delete(r3.peer.pad.name, tuple(range(1, 256)), world.now)
    world.run(30)
    assert 'r2 r1' in r2.sessions
    assert r1s_session_is_untouched(r2)


def test_initial_contact_ends_nothing_of_another_peer(world: World, r2: Router) -> None:
    r3 = rogue(world)
    r3.kill()
    rogue(world)
    world.run(30)
    assert r1s_session_is_untouched(r2)


# --- identities and credentials -----------------------------------------------------------------


class Liar(Router):
    """Sends from where it likes; what comes back is read on the way."""

    def hears(self, datagram: Datagram) -> bool:
        return datagram.remote == self.core.state.policies['r3 r2'].local


@pytest.mark.parametrize(
    ('source', 'pad', 'cause'),
    [
        # r3's own address, another router's name
        (R3, entry('r1', 'r2', OWN['r3'].credential()), 'peer identity is not the configured'),
        # r1's address, and who it truly is
        (R1, entry('r3', 'r2'), 'peer identity is not the configured'),
        # r1's address and name, its own certificate, key or CA
        (R1, entry('r1', 'r2', OWN['r3'].credential()), 'authentication failed'),
        (R1, entry('r1', 'r2', PrivateKey(OWN['r3'].key)), 'authentication failed'),
        (
            R1,
            entry(
                'r1',
                'r2',
                root('CN=ca', **VALID).leaf('r1', x509.DNSName('r1.lab'), **VALID).credential(),
            ),
            'authentication failed',
        ),
    ],
    ids=['name', 'address', 'certificate', 'raw key', 'CA'],
)
def test_peer_cannot_have_another_identity(
    source: IPv4Address, pad: PadEntry, cause: str, world: World
) -> None:
    r2 = hub(world)
    r3 = Liar(world, 'r3', [policy('r3', 'r2', local=source, pad=pad)], listens=False)
    world.routers.append(r3)
    r3.pump()
    open_to_r2(r3)
    world.run(3)
    assert not any(peer.up for peer in r2.core.state.peers.values())
    assert any(cause in str(note.details['cause']) for note in r2.noted('refused'))
    assert not r2.listener_keys()
    assert not r2.core.state.connections


def test_unknown_address_gets_no_answer(world: World) -> None:
    r2, stranger = hub(world), ip_address('10.0.0.4')
    r3 = Liar(world, 'r3', [policy('r3', 'r2', local=stranger)], listens=False)
    world.routers.append(r3)
    r3.pump()
    answered: list[IPAddress] = []

    def watch(datagram: Datagram) -> bool:
        if datagram.local == R2:
            answered.append(datagram.remote)
        return False

    world.lose = watch
    world.run(30)
    assert stranger not in answered
    assert r2.core.endpoint.snapshot().unknown_sources.unknown_address > 0


# --- every type of identity, with the credentials that can stand for it -------------------------

NAMES: dict[str, tuple[str, x509.GeneralName | None]] = {
    'ip': ('10.0.0.{}', x509.IPAddress(ip_address('10.0.0.1'))),
    'fqdn': ('r{}.lab', x509.DNSName('r1.lab')),
    'user-fqdn': ('bgp@r{}.lab', x509.RFC822Name('bgp@r1.lab')),
    'dn': ('CN=r{},O=lab', None),
}


def identities(kind: str, pattern: str) -> tuple[Identity, Identity]:
    return Identity.parse(kind, pattern.format(1)), Identity.parse(kind, pattern.format(2))


def meet(world: World, kind: str, pattern: str, r1: Any, trusted_by_r2: Any) -> Router:
    """r1 with this credential, r2 with a raw key: they come up, or don't."""
    one, two = identities(kind, pattern)
    r2s = PrivateKey(keys('ed25519', 2))
    pad1, pad2 = PadEntry(one, two, r1, r2s.public_key), PadEntry(two, one, r2s, trusted_by_r2)
    router = world.router('r2', [policy('r2', 'r1', pad=pad2)], listens=True)
    open_to_r2(world.router('r1', [policy('r1', 'r2', pad=pad1)], listens=False))
    world.run(3)
    return router


@pytest.mark.parametrize('kind', NAMES)
@pytest.mark.parametrize('mine', [True, False], ids=['its own', "another's"])
def test_certificate_proves_the_identities_that_are_in_it(
    kind: str, mine: bool, world: World
) -> None:
    pattern, name = NAMES[kind]
    subject = 'CN=r1,O=lab' if mine or name is not None else 'CN=r9,O=lab'
    names = [name] if name is not None else []
    if not mine:
        names = [x509.DNSName('r9.lab')]
    holder = CA.leaf(subject, *names, **VALID)
    r2 = meet(world, kind, pattern, holder.credential(), CA.trust())
    assert bool(r2.sessions) is mine
    if not mine:
        assert ', not for' in str(r2.peer.trouble)


@pytest.mark.parametrize(('kind', 'pattern'), [(k, p) for k, (p, _) in NAMES.items()])
def test_pinned_key_proves_any_identity(kind: str, pattern: str, world: World) -> None:
    own = PrivateKey(keys('ed25519', 1))
    assert meet(world, kind, pattern, own, own.public_key.fingerprint).sessions


@pytest.mark.parametrize('pattern', ['router {}', '0xff0{}'])
def test_key_id_has_a_pinned_key(pattern: str, world: World) -> None:
    own = PrivateKey(keys('ed25519', 1))
    assert meet(world, 'key-id', pattern, own, own.public_key).sessions


def test_identities_of_equal_text_differ_by_their_type(world: World) -> None:
    own = PrivateKey(keys('ed25519', 1))
    r2s = PrivateKey(keys('ed25519', 2))
    one, two = identities('fqdn', 'r{}.lab')
    claimed = Identity.parse('key-id', 'r1.lab')
    pad1, pad2 = (
        PadEntry(claimed, two, own, r2s.public_key),
        PadEntry(two, one, r2s, own.public_key),
    )
    r2 = world.router('r2', [policy('r2', 'r1', pad=pad2)], listens=True)
    open_to_r2(world.router('r1', [policy('r1', 'r2', pad=pad1)], listens=False))
    world.run(3)
    assert not r2.sessions
    assert 'key-id r1.lab, not fqdn r1.lab' in str(r2.peer.trouble)

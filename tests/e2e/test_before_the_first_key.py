"""r2 listens and has no connection yet: who gets what from it.

r1's node speaks for itself, without ExaBGP: as a host without TCP-AO, as a host
with wrong credentials, and as r1 with the right ones that then misbehaves.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatekeeper.reporting.events import EventName
from ikev2 import Identity, PresharedKey
from keymaterial import Secret
from lab.impostors import (
    Ending,
    Heard,
    IkeOutcome,
    TcpKey,
    ask_for_ike_sa,
    bgp_open,
    inside,
    speak,
)
from tcpao.backend import Preference
from tests.e2e.backends import under_both
from tests.e2e.configurations import ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.insider import insider, preshared
from tests.e2e.router import Dropped, Router

pytestmark = under_both

R1, STRANGER, R2 = '10.0.0.1', '10.0.0.77', '10.0.0.2'
PORTS = {'ipv4 unicast': 40001, 'ipv6 unicast': 40002}
OPEN = bgp_open(65001, R1)
MARKER = bytes((0xFF,)) * 16
"""Every BGP message begins with it (RFC 4271 4.1)."""
# A SYN is repeated after 1 s.
SYN_SECONDS = 1.5
# A connection that should end is given this long.
END_SECONDS = 60.0


@pytest.fixture(scope='module')
def r2(routers: Routers) -> Iterator[Router]:
    """r2, up and listening; in this thread's network we are r1."""
    router = routers.r2
    ports = {session: f'peer-port {port};' for session, port in PORTS.items()}
    router.configure(
        neighbor(
            'r2',
            'r1',
            local=R2,
            remote=R1,
            protection=ikev2('r2', 'r1', sessions=ports),
            passive=True,
            routes=ROUTES['r2'],
        )
    )
    router.start(listen=R2)
    # The gatekeeper makes itself known to its peers as soon as it runs.
    router.await_event(EventName.IKE_INIT, sent=True)
    router.await_listening()
    with inside(routers.r1.node.namespace):
        yield router


def connect(
    source: str, port: int, key: TcpKey | None = None, seconds: float = END_SECONDS
) -> Heard:
    return speak(source, (R2, 179), seconds, source_port=port, key=key, hello=OPEN)


def ask(name: str, credential: PresharedKey, source: str = R1, seconds: float = 60.0) -> IkeOutcome:
    return ask_for_ike_sa(
        source=source,
        target=R2,
        local_id=Identity.parse('fqdn', name),
        remote_id=Identity.parse('fqdn', 'r2.lab'),
        credential=credential,
        expected=credential,
        seconds=seconds,
    )


def test_unsigned_syn_from_a_protected_peer_is_dropped(r2: Router) -> None:
    before = r2.dropped(Dropped.UNSIGNED)
    assert connect(R1, PORTS['ipv4 unicast'], seconds=SYN_SECONDS) == Heard(
        Ending.NO_CONNECTION, b''
    )
    r2.await_dropped(Dropped.UNSIGNED, before)


def test_speaker_gets_no_octet_when_no_neighbor_has_its_address(r2: Router) -> None:
    heard = connect(STRANGER, 0)
    assert heard.ending in (Ending.RESET, Ending.CLOSED)
    assert heard.octets == b''
    refused = r2.await_event(EventName.REFUSED, step='accept')
    assert STRANGER in str(refused.details['cause'])


def test_peer_gets_no_ike_sa_when_its_psk_is_wrong(r2: Router) -> None:
    outcome = ask('r1.lab', PresharedKey(Secret(b'not the key that r2 has')))
    assert not outcome.up
    assert 'authentication failed' in outcome.text
    r2.await_event(EventName.REFUSED, step='IKE_AUTH', cause='authentication failed')


def test_peer_gets_no_ike_sa_when_its_identity_is_unknown(r2: Router) -> None:
    outcome = ask('mallory.lab', preshared(r2.home / 'psk'))
    assert not outcome.up
    refused = r2.await_event(
        EventName.REFUSED, step='IKE_AUTH', cause='peer identity is not the configured one'
    )
    assert 'mallory.lab' in str(refused.details['text'])


def test_ike_gets_no_answer_when_no_neighbor_has_the_address(r2: Router) -> None:
    outcome = ask('r1.lab', preshared(r2.home / 'psk'), source=STRANGER, seconds=2.0)
    assert outcome == IkeOutcome(up=False, answered=False, text='no answer')


def refused(r2: Router, key: TcpKey) -> str | None:
    """Try a key of the other session. What r2 aborts the connection for; None if it can't even
    come up, because the backend matches keys by ports too."""
    unknown = r2.dropped(Dropped.KEY_NOT_FOUND)
    seen = len(r2.named(EventName.REFUSED, step='proof'))
    if r2.backend is Preference.USERSPACE:
        heard = connect(R1, PORTS['ipv6 unicast'], key, SYN_SECONDS)
        assert heard == Heard(Ending.NO_CONNECTION, b'')
        r2.await_dropped(Dropped.KEY_NOT_FOUND, unknown)
        return None
    assert connect(R1, PORTS['ipv6 unicast'], key) == Heard(Ending.RESET, b'')
    # r2 may be refused other things meanwhile: no daemon answers its IKE.
    said = r2.await_event(EventName.REFUSED, step='proof', count=seen + 1)
    return str(said.details['cause'])


def test_connection_is_refused_under_the_other_sessions_key(
    r2: Router,
) -> None:
    with insider(preshared(r2.home / 'psk'), R1, R2) as r1:
        key = r1.ask_for_key('ipv4 unicast', PORTS['ipv4 unicast'])
        cause = refused(r2, key)
    assert cause in (None, 'no MKT was negotiated for it')


def test_connection_is_refused_under_the_wrong_one_of_two_keys(
    r2: Router,
) -> None:
    with insider(preshared(r2.home / 'psk'), R1, R2) as r1:
        key = r1.ask_for_key('ipv4 unicast', PORTS['ipv4 unicast'])
        r1.ask_for_key('ipv6 unicast', PORTS['ipv6 unicast'])
        cause = refused(r2, key)
    assert cause is None or 'came up under another key' in cause


def test_connection_is_dropped_when_its_key_was_not_negotiated(r2: Router) -> None:
    with insider(preshared(r2.home / 'psk'), R1, R2) as r1:
        key = r1.ask_for_key('ipv4 unicast', PORTS['ipv4 unicast'])
        wrong = TcpKey(key.algorithm, key.send_id, key.recv_id, bytes(20))
        before = r2.dropped(Dropped.BAD)
        heard = connect(R1, PORTS['ipv4 unicast'], wrong, seconds=SYN_SECONDS)
    assert heard == Heard(Ending.NO_CONNECTION, b'')
    r2.await_dropped(Dropped.BAD, before)


def test_connection_gets_an_open_when_its_key_is_its_own(r2: Router) -> None:
    with insider(preshared(r2.home / 'psk'), R1, R2) as r1:
        key = r1.ask_for_key('ipv4 unicast', PORTS['ipv4 unicast'])
        heard = connect(R1, PORTS['ipv4 unicast'], key)
    assert heard.octets.startswith(MARKER)

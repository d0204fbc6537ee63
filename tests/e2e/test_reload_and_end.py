"""Reloads that keep what runs, and ends: a shutdown, and the death of the gatekeeper's thread."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from gatekeeper.reporting.events import EventName
from lab.demo.capture import Capture
from lab.impostors import Ending, Heard, inside, speak
from tcpao.verification.capture import read_packets
from tcpao.verification.known_keys import read_known_keys
from tcpao.verification.report import verify_capture
from tcpao.verification.segment import parse_ip
from tests.e2e.backends import under_both
from tests.e2e.configurations import FAMILIES, PREFIXES, ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.on_the_wire import so_far
from tests.e2e.pair import PORTS, R1, R2
from tests.e2e.router import PATIENCE, Router, within

pytestmark = under_both

MORTAL = (sys.executable, str(Path(__file__).with_name('mortal.py')))
NOTIFICATION, CEASE = 3, 6
SYN_SECONDS = 1.5
GATE_SECONDS = 5
LOADED = 'loaded new configuration successfully'


def text(router: Router, lifetime: int = 600, sessions_of: str = '') -> str:
    """r1 connects, r2 listens."""
    passive = router.name == 'r2'
    port = 'peer-port' if passive else 'source-port'
    peer, local, remote = ('r1', R2, R1) if passive else ('r2', R1, R2)
    sessions = {name: f'{port} {PORTS[name]}; {sessions_of}' for name in FAMILIES}
    return neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection=ikev2(
            router.name, peer, lifetime=lifetime, timeout=GATE_SECONDS, sessions=sessions
        ),
        passive=passive,
        routes=ROUTES[router.name],
    )


@pytest.fixture(scope='module')
def pair(routers: Routers, wire: Capture) -> Routers:
    """r1 and r2 with both sessions up; r2's gatekeeper can be killed."""
    r1, r2 = routers.r1, routers.r2
    (r2.home / 'die').unlink(missing_ok=True)
    r2.configure(text(r2))
    r2.start(listen=R2, program=MORTAL)
    r1.configure(text(r1))
    r1.start()
    # ExaBGP doesn't reload while it has routes to send.
    for router, peer in ((r1, r2), (r2, r1)):
        router.await_established(*FAMILIES)
        router.await_routes(*PREFIXES[peer.name])
    return routers


class Untouched:
    """The state that a reload must leave as it is."""

    def __init__(self, pair: Routers) -> None:
        self._pair = pair
        self._connections = sorted(pair.r2.connections())
        self._rows = [self._row(row) for row in pair.r1.show()]
        self._uptimes = pair.r1.established()

    @staticmethod
    def _row(row: dict[str, object]) -> tuple[object, ...]:
        since = pytest.approx(row['since'], abs=0.1)
        return row['session'], since, row['send_id'], row['recv_id'], row['rekeys']

    def check(self) -> None:
        assert sorted(self._pair.r2.connections()) == self._connections
        assert [self._row(row) for row in self._pair.r1.show()] == self._rows
        now = self._pair.r1.established()
        assert set(now) == set(self._uptimes)
        assert all(now[session] >= uptime for session, uptime in self._uptimes.items())


def reload(router: Router, content: str, says: str) -> None:
    """Reload, and wait until the log says so once more."""
    before = router.log.count(says)
    router.configure(content)
    router.signal(signal.SIGUSR1)
    within(
        PATIENCE, lambda: router.log.count(says) > before, lambda: router.told(f'{says!r} again')
    )


def test_reload_with_an_error_changes_nothing_and_names_line(pair: Routers) -> None:
    untouched = Untouched(pair)
    broken = text(pair.r1, sessions_of='algorithm rot13;')
    (line,) = (n for n, one in enumerate(broken.splitlines(), 1) if 'rot13' in one)
    reload(pair.r1, broken, 'rot13')
    pair.r1.await_log(f'/run/e2e/exabgp.conf line {line}: ')
    untouched.check()


def test_reload_changes_nothing_when_the_key_file_is_missing(pair: Routers) -> None:
    untouched = Untouched(pair)
    missing = text(pair.r1).replace('"psk"', '"no-such-psk"')
    reload(pair.r1, missing, 'no-such-psk')
    untouched.check()


def test_reload_changes_nothing_when_a_lifetime_is_too_short(pair: Routers) -> None:
    untouched = Untouched(pair)
    reload(pair.r1, text(pair.r1, lifetime=14), 'lifetime')
    untouched.check()


def test_good_reload_after_bad_ones_leaves_sessions_alone(pair: Routers) -> None:
    untouched = Untouched(pair)
    helper = pair.r1.cli_helper()
    reload(pair.r1, text(pair.r1, lifetime=900), LOADED)
    pair.r1.await_helper(helper)
    untouched.check()


def test_shutdown_tells_the_peer_by_a_signed_notification(pair: Routers, wire: Capture) -> None:
    pair.r1.kill(signal.SIGTERM)
    within(PATIENCE, lambda: not pair.r2.connections(), lambda: pair.r2.told('connections closed'))
    within(PATIENCE, lambda: not pair.r2.established(), lambda: pair.r2.told('sessions down'))
    assert {payload[18:20] for payload in last_words(wire)} == {bytes((NOTIFICATION, CEASE))}
    for session in FAMILIES:
        ended = pair.r2.await_event(EventName.END, session)
        assert 'notification received (6,2)' in str(ended.details['cause'])


def last_words(wire: Capture) -> list[bytes]:
    """Return the last octets from each of r1's ports, signed as all before."""
    said = dict.fromkeys(PORTS.values(), b'')
    for packet in read_packets(so_far(wire)):
        segment = parse_ip(packet.octets)
        if segment is not None and segment.source_port in said and segment.payload:
            assert segment.ao_option() is not None
            said[segment.source_port] = segment.payload
    return [*said.values()]


def test_every_segment_of_both_connections_was_signed(pair: Routers, wire: Capture) -> None:
    report = verify_capture(so_far(wire), read_known_keys(pair.r2.key_table))
    assert len(report.connections) == len(PORTS)
    assert report.passed(require_all=True), report.to_text()


def test_sessions_stay_down_when_the_gatekeeper_dies(pair: Routers) -> None:
    r1, r2 = pair.r1, pair.r2
    r1.configure(text(r1))
    r1.start()
    for router in (r1, r2):
        router.await_established(*FAMILIES)
    (r2.home / 'die').touch()
    # Any event does; this one comes at once.
    r2.ask('show ikev2')
    within(PATIENCE, lambda: not r2.connections(), lambda: r2.told('connections closed'))
    within(PATIENCE, lambda: not r1.connections(), lambda: r1.told('connections closed'))
    r2.await_log('the gatekeeper is dead')
    opened = len(r2.named(EventName.ESTABLISHED))
    failed = len(r1.named(EventName.REFUSED))
    with inside(r1.node.namespace):
        # The deny key doesn't die with the gatekeeper.
        assert speak(R1, (R2, 179), SYN_SECONDS) == Heard(Ending.NO_CONNECTION, b'')
    r1.await_event(EventName.REFUSED, count=failed + 1)
    assert not r2.connections()
    assert len(r2.named(EventName.ESTABLISHED)) == opened
    assert r2.is_running
    assert not r2.established()

"""Two routers with keychains in place of IKE: a rollover by lifetime, one by reload, the end of a
chain. r1 connects, r2 listens; both sessions, and every segment of them is verified on the wire."""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from pathlib import Path

import pytest

from gatekeeper.reporting.events import EventName
from gatekeeper.tools.cli import main
from lab.demo.capture import Capture
from lab.impostors import Ending, Heard, TcpKey, bgp_open, inside, speak
from tcpao.mkt import ALGORITHMS
from tcpao.verification.known_keys import read_known_keys
from tcpao.verification.report import verify_capture
from tests.e2e.backends import under_both
from tests.e2e.configurations import FAMILIES, PREFIXES, ROUTES, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.keychains import SECRETS, key, reload, utc, write_key
from tests.e2e.on_the_wire import so_far
from tests.e2e.pair import PORTS, R1, R2
from tests.e2e.router import Router, within

pytestmark = under_both

SYN_SECONDS = 1.5
# A connection that should end is given this long.
END_SECONDS = 60.0
GRACE = 10
UNTIL_CHANGE = 20
"""Seconds from the reload that announces the second key; both daemons have it by then."""
UNTIL_END = 20
"""Seconds from the reload that ends the chain."""


def text(router: Router, *keys: str) -> str:
    """r1 connects from its ports, r2 listens."""
    passive = router.name == 'r2'
    port = 'peer-port' if passive else 'source-port'
    peer, local, remote = ('r1', R2, R1) if passive else ('r2', R1, R2)
    sessions = ' '.join(f'session {family} {{ {port} {PORTS[family]}; }}' for family in FAMILIES)
    protection = f'    ikev2 {{ keychain core; grace {GRACE}; {sessions} }}\n'
    return f'keychain core {{\n{"".join(keys)}}}\n' + neighbor(
        router.name,
        peer,
        local=local,
        remote=remote,
        protection=protection,
        passive=passive,
        routes=ROUTES[router.name],
        hold_time=180,
    )


@pytest.fixture(scope='module')
def pair(routers: Routers, wire: Capture) -> Routers:
    """Both sessions up under key 1; the daemons have become `nobody`."""
    for router in (routers.r2, routers.r1):
        for number in SECRETS:
            write_key(router, number)
        router.configure(text(router, key(router, 1)))
        router.start(listen=R2 if router is routers.r2 else None, drop=True)
        if router is routers.r2:
            # ExaBGP listens before it has read its configuration; all that comes is to be signed.
            router.await_event(EventName.MKT_INSTALLED)
    # ExaBGP doesn't reload while it has routes to send.
    for router, peer in ((routers.r1, 'r2'), (routers.r2, 'r1')):
        router.await_established(*FAMILIES)
        router.await_routes(*PREFIXES[peer])
    return routers


def both(pair: Routers) -> tuple[Router, Router]:
    return pair.r1, pair.r2


class Untouched:
    """No session has come up anew, no route has gone."""

    def __init__(self, pair: Routers) -> None:
        self._pair = pair
        self._connections = sorted(pair.r2.connections())
        self._uptimes = {router.name: router.established() for router in both(pair)}

    def check(self) -> None:
        assert sorted(self._pair.r2.connections()) == self._connections
        for router in both(self._pair):
            now = router.established()
            assert set(now) == set(FAMILIES), router.told('sessions')
            assert all(now[name] >= then for name, then in self._uptimes[router.name].items())
            peer = 'r2' if router is self._pair.r1 else 'r1'
            assert router.routes() >= PREFIXES[peer]
            assert not router.named(EventName.END)


def in_use(router: Router) -> dict[str, tuple[int, int]]:
    """SendID and RecvID of each session."""
    return {row['session']: (row['send_id'], row['recv_id']) for row in router.show()}


def await_key(pair: Routers, number: int, seconds: float = 60.0) -> None:
    """Until every session runs under this key, at both ends."""
    for router in both(pair):
        ids = (number + 10, number + 20)
        wanted = dict.fromkeys(FAMILIES, ids if router.name == 'r1' else ids[::-1])
        within(
            seconds,
            lambda router=router, wanted=wanted: in_use(router) == wanted,  # type: ignore[misc]
            lambda router=router: router.told(f'key {number} in use: {in_use(router)}'),  # type: ignore[misc]
        )


def stranger(pair: Routers, known: TcpKey | None, port: int, seconds: float = SYN_SECONDS) -> Heard:
    """A process at r1's address sends an OPEN to r2."""
    with inside(pair.r1.node.namespace):
        return speak(
            R1,
            (R2, 179),
            seconds,
            source_port=port,
            key=known,
            hello=bgp_open(65001, '10.0.0.1'),
        )


# --- up -----------------------------------------------------------------------------------------


def test_sessions_come_up_under_the_first_key_without_ike(pair: Routers) -> None:
    assert in_use(pair.r1) == dict.fromkeys(FAMILIES, (11, 21))
    for router in both(pair):
        for row in router.show():
            assert row['keychain'] == 'core'
            assert row['algorithm'] == 'aes-128-cmac-96'
            assert row['peer_id'] is row['ike'] is row['last_error'] is None
        assert not router.named(EventName.IKE_INIT)
        assert (router.node.proc / 'net/udp').read_text().count(':01F4') == 0, 'UDP port 500'


def test_both_get_the_others_routes(pair: Routers) -> None:
    pair.r1.await_routes(*PREFIXES['r2'])
    pair.r2.await_routes(*PREFIXES['r1'])


def test_command_line_shows_the_keychain(pair: Routers) -> None:
    shown = pair.r1.node.run(['exabgp-gatekeeper', 'cli', 'show', 'ikev2']).stdout
    assert shown.count('keychain core') == len(FAMILIES)
    assert not any(secret.decode() in shown for secret in SECRETS.values())


def test_unknown_peers_are_denied_without_an_octet(pair: Routers) -> None:
    wrong = TcpKey(ALGORITHMS['aes-128-cmac-96'], 11, 21, b'a guess')
    unknown = TcpKey(ALGORITHMS['aes-128-cmac-96'], 1, 2, SECRETS[1])
    for number, known in enumerate((None, wrong, unknown)):
        assert stranger(pair, known, 42000 + number) == Heard(Ending.NO_CONNECTION, b'')


def test_peer_with_the_key_gets_no_octet_from_another_port(pair: Routers) -> None:
    """The sessions are told apart by the peer's ports."""
    known = TcpKey(ALGORITHMS['aes-128-cmac-96'], 11, 21, SECRETS[1])
    heard = stranger(pair, known, 42003, END_SECONDS)
    assert heard.octets == b''
    assert heard.ending is Ending.RESET


# --- rollover by lifetime -----------------------------------------------------------------------


def test_second_key_takes_over_without_a_flap(pair: Routers) -> None:
    """The third is there too and is not preferred: its lifetime began long before."""
    untouched = Untouched(pair)
    change = int(time.time()) + UNTIL_CHANGE

    def content(router: Router) -> str:
        first = key(router, 1, f'send-lifetime 2026-01-01T00:00:00Z {utc(change + 5)};')
        accepted = f'accept-lifetime {utc(change - 600)} infinite;'
        second = key(router, 2, f'send-lifetime {utc(change)} infinite;', accepted)
        return text(router, first, second, key(router, 3))

    helpers = {router.name: router.cli_helper() for router in both(pair)}
    reload(both(pair), content, asked=False)
    assert time.time() < change, 'the machine is too slow for UNTIL_CHANGE'
    for router in both(pair):
        router.await_helper(helpers[router.name])
    await_key(pair, 2)
    untouched.check()
    for router in both(pair):
        started = router.named(EventName.REKEY_STARTED)
        assert len(started) == len(FAMILIES)
        assert all(event.time >= change for event in started), 'not before its time'
        for row in router.show():
            assert (row['key'], row['algorithm']) == (2, 'hmac-sha-256-128')
            assert row['next_change'] is row['next_key'] is None
            assert row['rekeys'] == 1
            assert row['last_error'] is None
        for session in FAMILIES:
            third = 13 if router is pair.r1 else 23
            router.await_event(EventName.MKT_INSTALLED, session, send_id=third)


# --- rollover by reload -------------------------------------------------------------------------


def test_old_keys_are_removed_at_both_ends_without_a_flap(pair: Routers) -> None:
    untouched = Untouched(pair)
    reload(both(pair), lambda router: text(router, key(router, 3)))
    await_key(pair, 3)
    untouched.check()


def refused(router: Router, says: str, *keys: str) -> None:
    """A reload with these keys changes nothing, and the log says why."""
    reload([router], lambda router: text(router, *keys), says)


def test_reload_is_refused_when_old_ids_get_new_secrets(pair: Routers) -> None:
    untouched = Untouched(pair)
    pair.r1.write('k3', b'another secret\n', 0o600)
    refused(pair.r1, 'give a new key new ids', key(pair.r1, 3))
    write_key(pair.r1, 3)
    untouched.check()


def test_key_file_is_refused_when_others_may_read_it(pair: Routers) -> None:
    untouched = Untouched(pair)
    pair.r1.write('k4', SECRETS[4], 0o644)
    refused(pair.r1, 'chmod 0600', key(pair.r1, 3), key(pair.r1, 4))
    write_key(pair.r1, 4)
    untouched.check()


def test_key_file_is_refused_when_the_daemon_may_not_read_it(pair: Routers) -> None:
    """Root's own, while the daemon is `nobody` by now."""
    untouched = Untouched(pair)
    os.chown(pair.r1.home / 'k4', 0, -1)
    refused(pair.r1, 'give the file to that user', key(pair.r1, 3), key(pair.r1, 4))
    write_key(pair.r1, 4)
    untouched.check()


# --- what was on the wire -----------------------------------------------------------------------


def test_every_segment_verifies_under_the_keys_in_turn(pair: Routers, wire: Capture) -> None:
    keys = read_known_keys(pair.r1.key_table)
    report = verify_capture(so_far(wire), keys)
    ports = {connection.client[1]: connection for connection in report.connections}
    for port in PORTS.values():
        connection = ports[port]
        counts = connection.tally.counts(has_ao=connection.has_ao)
        assert {name: count for name, count in counts.items() if count} == {
            'good': counts.total()
        }, report.to_text()
        used = [use.send_id for use in connection.tally.uses]
        assert used == [11, 12, 13]
        changed = [(c.from_client, c.before, c.after) for c in connection.tally.changes]
        assert {c for c in changed if c[0]} == {(True, 11, 12), (True, 12, 13)}
        assert {c for c in changed if not c[0]} == {(False, 21, 22), (False, 22, 23)}


def test_gatekeeper_verify_agrees(
    pair: Routers, wire: Capture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'keys.json'
    path.touch(0o600)
    path.write_bytes(pair.r1.key_table.read_bytes())
    status = main(['verify', str(so_far(wire)), '--keys', str(path)])
    out = capsys.readouterr().out
    # The segments of unknown hosts are on this wire too, and are bad or can't be verified.
    assert status == 1
    for port in PORTS.values():
        (row,) = (line for line in out.splitlines() if f'{R1}:{port} ' in line)
        assert row.split()[4:7] == ['0', '0', '0']


# --- the end of the chain -----------------------------------------------------------------------


def test_end_of_the_chain_closes_the_sessions_and_admits_none(pair: Routers) -> None:
    r1, r2 = both(pair)
    end = int(time.time()) + UNTIL_END
    last = f'send-lifetime 2026-01-01T00:00:00Z {utc(end)};'
    helpers = {router.name: router.cli_helper() for router in (r1, r2)}
    reload(both(pair), lambda router: text(router, key(router, 3, last)), asked=False)
    for router in (r1, r2):
        for session in FAMILIES:
            ended = router.await_event(EventName.END, session)
            # BGP is told first; the socket waits for the peer's FIN, and is closed before this.
            closed = router.await_event(
                EventName.MKT_REMOVED, session, send_id=13 if router is r1 else 23
            )
            assert max(ended.time, closed.time) < end, 'before the key ends, not after'
    for router in (r1, r2):
        assert not router.connections()
    r1.await_event(EventName.REFUSED, step='before connect')
    r1.await_log('keychain core has expired')
    assert stranger(pair, None, 42010) == Heard(Ending.NO_CONNECTION, b'')
    for router in (r1, r2):
        router.await_helper(helpers[router.name])
        for row in router.show():
            assert row['state'] == 'down: the keychain denies'
            assert f'until {utc(end)}' in str(row['last_error'])


def test_sessions_come_back_when_there_is_a_new_key(pair: Routers) -> None:
    for router in (pair.r2, pair.r1):
        write_key(router, 4)
    reload((pair.r2, pair.r1), lambda router: text(router, key(router, 4)))
    for router in both(pair):
        router.await_established(*FAMILIES)
    await_key(pair, 4)


def test_log_and_events_hold_no_secret(pair: Routers) -> None:
    """Nor on the way to them."""
    for router in both(pair):
        said = [router.log, router.timeline.read_text(), json.dumps(router.show())]
        said += router.ask('show ikev2')
        said += [path.read_bytes().decode(errors='replace') for path in command_lines(router)]
        for secret in SECRETS.values():
            for form in (secret.decode(), secret.hex(), b64encode(secret).decode()):
                assert not any(form in text for text in said)


def command_lines(router: Router) -> list[Path]:
    """Command line and environment of the daemon and its helper."""
    assert router.process is not None
    pids = (router.process.pid, router.cli_helper())
    return [Path(f'/proc/{pid}') / name for pid in pids for name in ('cmdline', 'environ')]

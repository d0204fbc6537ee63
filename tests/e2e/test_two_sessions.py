"""Two routers with two sessions, as an operator would run them: r1 connects, r2 listens, both
have become `nobody`, raw keys, a lifetime of 15 s.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest

from gatekeeper.reporting.events import EventName, OperatorEvent
from lab.impostors import Ending, Heard, TcpKey, inside, speak
from tcpao.mkt import ALGORITHMS
from tests.e2e.backends import under_both
from tests.e2e.configurations import FAMILIES, PREFIXES, RAW_KEY, ROUTES, ikev2, neighbor
from tests.e2e.conftest import Routers
from tests.e2e.pair import PORTS, R1, R2
from tests.e2e.router import HOME, Dropped, Router, within

pytestmark = under_both

SUITES = {'ipv4 unicast': 'hmac-sha-1-96', 'ipv6 unicast': 'aes-128-cmac-96'}
NOBODY = '65534'
# A SYN is repeated after 1 s.
SYN_SECONDS = 1.5
LIFETIME = 15


@pytest.fixture(scope='module')
def pair(routers: Routers) -> Routers:
    """r1 and r2 with both sessions up."""
    for router, peer, local, remote, port in (
        (routers.r2, 'r1', R2, R1, 'peer-port'),
        (routers.r1, 'r2', R1, R2, 'source-port'),
    ):
        sessions = {name: f'{port} {PORTS[name]}; algorithm {SUITES[name]};' for name in FAMILIES}
        router.configure(
            neighbor(
                router.name,
                peer,
                local=local,
                remote=remote,
                protection=ikev2(
                    router.name, peer, credential=RAW_KEY, lifetime=LIFETIME, sessions=sessions
                ),
                passive=router is routers.r2,
                routes=ROUTES[router.name],
            )
        )
        router.start(listen=R2 if router is routers.r2 else None, drop=True)
    for router, peer in ((routers.r1, 'r2'), (routers.r2, 'r1')):
        router.await_established(*FAMILIES)
        router.await_routes(*PREFIXES[peer])
    return routers


@pytest.fixture
def in_r1(pair: Routers) -> Iterator[None]:
    """This thread in r1's network."""
    with inside(pair.r1.node.namespace):
        yield


def both(pair: Routers) -> tuple[Router, Router]:
    return pair.r1, pair.r2


def test_daemons_have_dropped_their_privileges(pair: Routers) -> None:
    for router in both(pair):
        assert router.process is not None
        status = Path(f'/proc/{router.process.pid}/status').read_text()
        (users,) = (line.split()[1:] for line in status.splitlines() if line.startswith('Uid:'))
        assert set(users) == {NOBODY}


def test_each_family_has_a_connection_from_its_pinned_port(pair: Routers) -> None:
    for router, local, remote in ((pair.r1, R1, R2), (pair.r2, R2, R1)):
        assert sorted(router.connections()) == [(local, remote, port) for port in PORTS.values()]


def test_each_family_has_a_key_under_its_own_algorithm(pair: Routers) -> None:
    for router in both(pair):
        keys = router.key_list()
        assert len({key['master_key'] for key in keys}) == len(keys)
        for key in keys:
            assert key['algorithm'] == SUITES[key['session']]
            assert key['local'] == f'{R1}:{PORTS[key["session"]]}'
            assert key['remote'] == f'{R2}:179'
        assert {key['session'] for key in keys} == set(FAMILIES)


def test_both_ends_have_the_same_keys(pair: Routers) -> None:
    # The opener's first ones: at the listener, one of an attempt that was given up may come first.
    for key in pair.r1.key_list()[: len(FAMILIES)]:
        assert key in pair.r2.key_list()


def test_every_connection_was_proven_before_its_open(pair: Routers) -> None:
    for router in both(pair):
        for session in FAMILIES:
            proven = router.await_event(EventName.ESTABLISHED, session)
            assert proven.time <= router.await_event(EventName.OPEN, session).time


def test_both_get_the_others_routes_of_both_families(pair: Routers) -> None:
    pair.r1.await_routes(*PREFIXES['r2'])
    pair.r2.await_routes(*PREFIXES['r1'])


def test_show_ikev2_tells_every_session(pair: Routers) -> None:
    for router in both(pair):
        asked = time.time()
        rows = {row['session']: row for row in router.show()}
        assert set(rows) == set(FAMILIES)
        for session, row in rows.items():
            assert row['state'] in ('in use', 'rekeying')
            assert row['backend'] == router.backend
            assert row['backend_why'] == 'it was asked for'
            assert row['algorithm'] == SUITES[session]
            assert row['last_error'] is None
            assert row['peer_id'] == f'fqdn {"r2" if router is pair.r1 else "r1"}.lab'
            assert asked < row['expires'] <= time.time() + LIFETIME
            assert {row['send_id'], row['recv_id']} & {0, None} == set()


def test_key_table_has_the_key_in_use_of_every_session(pair: Routers) -> None:
    for router in both(pair):
        rows = json.loads(''.join(router.ask('show ikev2 keytable json')))
        sent = [row for row in rows if row['Direction'] == 'both']
        assert len({row['ProtocolSpecificInfo']['connection'] for row in sent}) == len(FAMILIES)
        assert {row['Key'] for row in rows} == {None}


def test_show_ikev2_works_in_exabgps_own_command_line(pair: Routers) -> None:
    shown = pair.r2.node.run(['exabgp-gatekeeper', 'cli', 'show', 'ikev2']).stdout
    for session in FAMILIES:
        (line,) = (line for line in shown.splitlines() if session in line)
        assert SUITES[session] in line
        assert 'fqdn r1.lab' in line


@pytest.mark.usefixtures('in_r1')
def test_unsigned_syn_is_dropped_while_sessions_are_up(pair: Routers) -> None:
    before = pair.r2.dropped(Dropped.UNSIGNED)
    assert speak(R1, (R2, 179), SYN_SECONDS) == Heard(Ending.NO_CONNECTION, b'')
    pair.r2.await_dropped(Dropped.UNSIGNED, before)


@pytest.mark.usefixtures('in_r1')
def test_key_in_use_opens_no_other_connection(pair: Routers) -> None:
    newest = pair.r1.key_list()[-1]
    key = TcpKey(
        ALGORITHMS[newest['algorithm']],
        newest['send_id'],
        newest['recv_id'],
        bytes.fromhex(newest['master_key']),
    )
    before = pair.r2.dropped(Dropped.KEY_NOT_FOUND)
    assert speak(R1, (R2, 179), SYN_SECONDS, key=key) == Heard(Ending.NO_CONNECTION, b'')
    pair.r2.await_dropped(Dropped.KEY_NOT_FOUND, before)


def old_keys_removed(router: Router, session: str) -> list[OperatorEvent]:
    """Return the removals of keys that were in use. Of two successors that were asked for at once,
    one is removed too, and before."""
    began = router.named(EventName.REKEY_STARTED, session)
    in_use = {event.details['send_id'] for event in began}
    removals = router.named(EventName.MKT_REMOVED, session)
    return [event for event in removals if event.details['send_id'] in in_use]


def test_keys_are_replaced_and_removed_without_a_flap(pair: Routers) -> None:
    connections = sorted(pair.r2.connections())
    uptimes = pair.r2.established()
    removed = {(r, s): len(old_keys_removed(r, s)) for r in both(pair) for s in FAMILIES}

    def replaced() -> bool:
        assert pair.r2.routes() >= PREFIXES['r1']
        now = pair.r2.established()
        for session in FAMILIES:
            assert now[session] >= uptimes[session]
        uptimes.update(now)
        return all(len(old_keys_removed(r, s)) > n for (r, s), n in removed.items())

    within(4 * LIFETIME, replaced, lambda: pair.r1.told(pair.r2.told('keys replaced')))
    assert sorted(pair.r2.connections()) == connections
    for row in pair.r2.show():
        assert row['rekeys'] > 0
    for router in both(pair):
        for session in FAMILIES:
            started = router.named(EventName.REKEY_STARTED, session)[0]
            moved = router.named(EventName.RNEXT_MOVED, session)[0]
            old = old_keys_removed(router, session)[0]
            assert old.details['send_id'] == started.details['send_id']
            assert started.time <= moved.time <= old.time


def test_every_key_was_in_the_key_table_only(pair: Routers) -> None:
    for router in both(pair):
        told = router.ask('show neighbor configuration') + router.ask('show neighbor extensive')
        told += router.ask('show ikev2') + router.ask('show ikev2 json')
        haystack = {'shown': '\n'.join(told).encode(), 'log': router.log.encode()}
        haystack |= processes(router) | files(router)
        for name, content in haystack.items():
            for text in secret_texts(router):
                assert text not in content.lower(), f'{name} of {router.name} holds a secret'
            for key in router.key_list():
                octets = bytes.fromhex(key['master_key'])
                assert octets not in content, f'{name} of {router.name} holds a master key'


def secret_texts(router: Router) -> Iterator[bytes]:
    """Every secret of the router as it would look in a text, in small letters."""
    for key in router.key_list():
        yield key['master_key'].lower().encode()
    yield (router.home / 'psk').read_bytes().strip().lower()
    for line in (router.home / 'private.pem').read_bytes().splitlines():
        if not line.startswith(b'-'):
            yield line.lower()


def processes(router: Router) -> dict[str, bytes]:
    """Return what any user can see of the daemon's processes."""
    found = {}
    namespace = os.stat(router.node.namespace).st_ino
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            if os.stat(folder / 'ns/net').st_ino == namespace:
                for name in ('cmdline', 'environ'):
                    found[f'{folder}/{name}'] = (folder / name).read_bytes()
        except OSError:
            continue  # it has just ended
    assert found
    return found


def files(router: Router) -> dict[str, bytes]:
    """Every file that the daemon may have left: what has changed since it got its keys, in its own
    /run, and in /tmp unless it is ours.

    A checkout below /tmp is ours: its environment is hundreds of megabytes.
    """
    root = router.node.proc / 'root'
    checkout = Path(__file__).resolve().parents[2]
    ours = root / checkout.relative_to('/')
    private = {router.home / name for name in ('psk', 'private.pem')} | set(
        router.home.glob('keys.*')
    )
    since = (router.home / 'psk').stat().st_mtime
    found = {}
    for folder, _, names in chain.from_iterable(os.walk(root / top) for top in ('run', 'tmp')):
        for path in (Path(folder) / name for name in names):
            # Other programs' files come and go.
            with suppress(FileNotFoundError):
                if (
                    not path.is_relative_to(ours)
                    and path.is_file()
                    and path.stat().st_mtime >= since
                    and path not in private
                    and 'pytest-of-' not in str(path)
                ):
                    found[str(path)] = path.read_bytes()
    assert any(HOME in name for name in found)
    return found

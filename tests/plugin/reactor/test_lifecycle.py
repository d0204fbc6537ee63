"""When the gatekeeper starts, what it is told, and that a refused load changes nothing."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

import pytest
from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.reactor.loop import Reactor

from gatekeeper.reporting.ike_key_log import IkeKeyLog
from gatekeeper.reporting.keys_json import KeyTable
from gatekeeper.service.gatekeeper import Gatekeeper, GatekeeperError
from lab.impostors import bgp_open
from plugin import install, patching
from plugin.connections import runtime
from plugin.connections.runtime import Runtime
from plugin.reactor import lifecycle
from tcpao.backend import Preference
from tcpao.mkt import SocketPair
from tests.plugin.doubles import Daemon, a_policy, an_mkt
from tests.plugin.peers import (
    arrived,
    connected,
    free_port,
    free_ports,
    listener,
    ready,
    received,
)
from tests.plugin.texts import SECTION, neighbor

Start = Callable[..., Daemon]


def listening(port: int, **changes: Any) -> str:
    return neighbor(**{'more': f'    passive;\n    listen {port};\n', **changes})


def test_gatekeeper_does_not_start_without_a_gated_neighbor(daemon: Start) -> None:
    one = daemon(neighbor(section=''))
    assert one.begin()
    one.turn()
    assert one.gatekeeper.log == []
    assert runtime.of(one.reactor) is None


def test_gatekeeper_starts_and_guards_before_listen(daemon: Start) -> None:
    port = free_port()
    one = daemon(listening(port))
    assert one.begin()
    assert one.gatekeeper.log[:3] == ['start', 'configure', f'add_listener {port} bound']
    assert [policy.listen_port for policy in one.gatekeeper.policies] == [port]


def test_reload_brings_the_new_policies_and_listeners(daemon: Start) -> None:
    first, second = free_ports(2)
    one = daemon(listening(first))
    assert one.begin()
    del one.gatekeeper.log[:]
    more = f'    passive;\n    listen {second};\n'
    assert one.reload(listening(first) + neighbor(peer='127.0.0.3', more=more))
    assert one.gatekeeper.log == ['configure', f'add_listener {second} bound']
    assert len(one.gatekeeper.policies) == len(one.reactor._peers) == 2


def test_reload_can_bring_the_first_gated_neighbor(daemon: Start) -> None:
    one = daemon(neighbor(section=''))
    assert one.begin()
    assert one.reload(neighbor())
    assert one.gatekeeper.log == ['start', 'configure']


@pytest.mark.skipif(
    not hasattr(Reactor, '_listen_for_neighbors'),
    reason='before 5.0.14 ExaBGP closed no listening socket before its end',
)
def test_removed_neighbor_leaves_no_policy_and_no_listener(daemon: Start) -> None:
    port = free_port()
    one = daemon(listening(port))
    assert one.begin()
    assert one.reload(neighbor(section='', peer='127.0.0.3'))
    one.turn()
    assert one.gatekeeper.policies == []
    assert f'drop_listener {port}' in one.gatekeeper.log


def test_load_changes_nothing_when_the_gatekeeper_refuses(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    before = dict(one.configuration.neighbors), dict(one.reactor._peers), one.runtime.policies
    one.gatekeeper.refuse_policies = 'no room for another deny key'
    assert not one.reload(neighbor() + neighbor(peer='127.0.0.3'))
    assert 'no room for another deny key' in str(one.configuration.error)
    after = dict(one.configuration.neighbors), dict(one.reactor._peers), one.runtime.policies
    assert before == after
    one.gatekeeper.refuse_policies = None
    assert one.reload(neighbor() + neighbor(peer='127.0.0.3'))


def test_policies_are_restored_when_exabgp_refuses_the_load(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = daemon(neighbor())
    assert one.begin()
    monkeypatch.setattr(
        one.configuration, 'validate', lambda: one.configuration.error.set('no such process')
    )
    assert not one.reload(neighbor() + neighbor(peer='127.0.0.3'))
    assert [policy.neighbor for policy in one.gatekeeper.policies] == ['127.0.0.2']
    assert len(one.configuration.neighbors) == 1
    assert 'no such process' in str(one.configuration.error)


def test_daemon_does_not_start_when_the_gatekeeper_does_not(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = daemon(neighbor())

    def starter(reactor: Any, preference: Preference) -> Runtime:
        raise GatekeeperError('this kernel has no TCP-AO')

    monkeypatch.setattr(lifecycle, 'starter', starter)
    assert not one.begin()
    assert 'ikev2: this kernel has no TCP-AO' in str(one.configuration.error)
    assert not one.reactor._peers


def test_passive_neighbor_is_refused_when_no_address_listens(
    daemon: Start,
) -> None:
    one = daemon(neighbor(more='    passive;\n'))
    assert not one.begin()
    assert 'nothing listens for it' in str(one.configuration.error)
    assert one.gatekeeper.log == []


def test_listener_does_not_listen_when_it_cannot_be_guarded(daemon: Start) -> None:
    port = free_port()
    one = daemon(listening(port))
    one.gatekeeper.refuse_listeners = 'ENOMEM'
    one.begin()
    assert not one.reactor.listener._sockets


def test_changed_lifetime_restarts_no_session(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    assert one.reload(neighbor(section=SECTION.replace('psk-file', 'lifetime 99; psk-file')))
    assert one.gatekeeper.policies[0].lifetime == 99
    assert one.peer()._teardown is None
    assert one.peer().neighbor['ikev2'].pad.name == 'fqdn r1.lab - fqdn r2.lab'


def test_neighbor_restarts_when_it_becomes_gated(daemon: Start) -> None:
    one = daemon(neighbor(section=''))
    assert one.begin()
    assert one.reload(neighbor())
    assert one.peer().neighbor['ikev2'] is not None
    one.until(lambda: one.gatekeeper.requests)


def open_one(daemon: Start, remote: socket.socket, more: str = '') -> tuple[Daemon, str]:
    """A daemon with a neighbor that isn't gated, and the text that gates it."""
    more = f'    connect {remote.getsockname()[1]};\n{more}'
    one = daemon(neighbor(section='', more=more))
    assert one.begin()
    return one, neighbor(more=more)


def test_open_session_ends_silently_when_it_becomes_gated(
    daemon: Start,
) -> None:
    """Upstream would answer the OPEN with KEEPALIVE, and then say Cease."""
    with listener() as remote:
        one, gated = open_one(daemon, remote)
        one.until(lambda: one.peer().stats['send-open'])
        end = arrived(remote)
        assert received(ready(end))
        descriptor = one.peer().proto.fd()
        assert one.reload(gated)
        with suppress(ConnectionResetError):
            end.send(bgp_open(65002, '10.0.0.2'))
        one.until(lambda: one.gatekeeper.requests)
        assert received(ready(end)) is None
        with pytest.raises(KeyError):
            one.reactor._poller.unregister(descriptor)


def test_renamed_session_ends_silently_when_it_becomes_gated(
    daemon: Start,
) -> None:
    """With multi-session there is a peer for each family, and the old one is removed."""
    with listener() as remote:
        one, _ = open_one(daemon, remote)
        one.until(lambda: one.peer().stats['send-open'])
        end = arrived(remote)
        assert received(ready(end))
        more = f'    connect {remote.getsockname()[1]};\n'
        assert one.reload(neighbor(more=more, multi_session=True))
        # Nothing stays that TCP would still send: not even a FIN.
        with pytest.raises(ConnectionResetError):
            ready(end).recv(1)


def test_removed_passive_peer_is_gone_when_a_reload_ends(daemon: Start) -> None:
    """A later reload that brings its name back must not find it: it would serve no session."""
    port = free_port()
    one = daemon(listening(port, section=''))
    assert one.begin()
    (plain,) = one.reactor._peers
    assert one.reload(listening(port, multi_session=True))
    assert plain not in one.reactor._peers
    assert one.reload(listening(port, section=''))
    assert list(one.reactor._peers) == [plain]
    assert one.peer()._restart


def test_attempt_ends_silently_when_it_becomes_gated(daemon: Start) -> None:
    with listener() as remote:
        one, gated = open_one(daemon, remote)
        # Two turns until upstream has called connect(), which loopback grants at once.
        one.work()
        one.work()
        assert one.peer().proto is None
        end = arrived(remote)
        assert one.reload(gated)
        one.until(lambda: one.gatekeeper.requests)
        assert received(ready(end)) is None
        assert not one.peer().stats['send-open']


def test_restart_gives_peers_the_gatekeepers_configuration(daemon: Start) -> None:
    """Upstream's (SIGALRM) loads one, and its peers go on with what they had."""
    port = free_port()
    kept = listening(port, peer='127.0.0.3')
    one = daemon(listening(port, section='') + kept)
    assert one.begin()
    one.path.write_text(listening(port) + kept)
    one.reactor.restart()
    assert {policy.neighbor for policy in one.gatekeeper.policies} == {'127.0.0.2', '127.0.0.3'}
    assert all(peer.neighbor['ikev2'] for peer in one.reactor._peers.values())
    with connected(port) as end:
        one.until(lambda: one.gatekeeper.proofs)
        assert received(end) == b''


def test_restart_with_a_bad_configuration_keeps_the_policies(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    one.path.write_text(neighbor(section=SECTION.replace('psk-file', 'lifetime 2; psk-file')))
    one.reactor.restart()
    assert one.runtime.policies[one.peer().neighbor.name()].lifetime == 3600
    assert one.peer()._teardown is not None


@pytest.mark.parametrize('gated', [True, False])
def test_routes_of_a_refused_load_are_not_announced(gated: bool, daemon: Start) -> None:
    """Upstream has put them into the RIB that is in use."""
    section = SECTION if gated else ''
    first = '    static { route 10.1.0.0/24 next-hop 10.0.0.1; '
    one = daemon(neighbor(section=section, more=first + '}\n'))
    assert one.begin()
    rib = one.peer().neighbor.rib.outgoing
    before = [str(change) for change in rib.queued_changes()]
    second = first + 'route 10.2.0.0/24 next-hop 10.0.0.1; }\n'
    bad = neighbor(peer='127.0.0.3', section='    ikev2 { lifetime 2; }\n')
    assert not one.reload(neighbor(section=section, more=second) + bad)
    assert one.peer().neighbor.rib.outgoing is rib
    assert [str(change) for change in rib.queued_changes()] == before
    assert [str(change) for change in rib.cached_changes()] == before
    assert one.reload(neighbor(section=section, more=second))
    assert len(list(one.peer().neighbor.rib.outgoing.cached_changes())) == 2


def test_decoding_with_a_configuration_starts_no_gatekeeper(daemon: Start) -> None:
    """`exabgp decode -c` loads it with a reactor that never runs; its daemon may be running."""
    one = daemon(neighbor())
    one.reactor.processes = None
    assert one.reactor.reload()
    one.reactor.processes = one.processes
    assert one.gatekeeper.log == []


def test_reactor_never_sees_our_descriptor(daemon: Start) -> None:
    """The reactor looks descriptors up in a table of its own, and dies of a KeyError."""
    one = daemon(neighbor())
    assert one.begin()
    one.gatekeeper.wake()
    assert list(one.reactor._wait_for_io(10)) == []


def test_other_descriptors_still_wake_the_reactor(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    descriptor = os.eventfd(1)
    one.reactor._poller.register(descriptor, select.POLLIN)
    assert list(one.reactor._wait_for_io(10)) == [descriptor]
    os.close(descriptor)


def test_loop_may_still_turn_after_the_end(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    one.reactor.shutdown()
    assert list(one.reactor._wait_for_io(1)) == []


class Started(Gatekeeper):
    """Parts that were started, and how; nothing runs."""

    fault = ''
    named: ClassVar[list[dict[str, Any]]] = []
    log: ClassVar[list[str]] = []

    def __init__(self, **named: Any) -> None:
        self.named.append(named)
        super().__init__(**named)

    def start(self) -> None:
        if self.fault:
            raise GatekeeperError(self.fault)
        self.log.append('start')

    def stop(self, timeout: float = 2.0) -> None:
        self.log.append('stop')

    def fileno(self) -> int:
        return os.eventfd(0)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Started]:
    """`lifecycle.start` with this gatekeeper and an environment that asks for files."""
    monkeypatch.setattr(Started, 'named', [])
    monkeypatch.setattr(Started, 'log', [])
    monkeypatch.setattr(lifecycle, 'Gatekeeper', Started)
    environment = getenv()['ikev2']
    for name, value in (
        ('router', 'r1'),
        ('timeline', str(tmp_path / 'timeline.jsonl')),
        ('keytable', str(tmp_path / 'keys.json')),
        ('ikekeylog', str(tmp_path / 'ike-keys')),
        ('port', (1500, 14500)),
    ):
        monkeypatch.setitem(environment, name, value)
    return Started


def test_files_of_a_run_are_opened_at_the_start(started: type[Started], tmp_path: Path) -> None:
    running = lifecycle.start(object(), Preference.KERNEL)
    assert [type(file) for file in running.secret_files] == [KeyTable, IkeKeyLog]
    assert started.named[0]['router'] == 'r1'
    assert started.named[0]['ike_ports'] == (1500, 14500)
    pair = SocketPair(ip_address('10.0.0.1'), 40001, ip_address('10.0.0.2'), 179)
    started.named[0]['key_table'](a_policy(), True, an_mkt(pair))
    assert len(json.loads((tmp_path / 'keys.json').read_text())) == 1
    assert (tmp_path / 'keys.json').stat().st_mode & 0o777 == 0o600
    assert (tmp_path / 'timeline.jsonl').exists()
    started.named[0]['ike_key_log']('a line')
    assert (tmp_path / 'ike-keys').read_text().splitlines()[1:] == ['a line']
    assert (tmp_path / 'ike-keys').stat().st_mode & 0o777 == 0o600


def test_failed_start_leaves_the_keys_of_a_running_daemon(
    started: type[Started], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The UDP ports are taken, by it: its table must not be replaced."""
    (tmp_path / 'keys.json').write_text('[{"session": "kept"}]')
    monkeypatch.setattr(Started, 'fault', 'UDP port 500 is in use')
    with pytest.raises(GatekeeperError, match='UDP port 500'):
        lifecycle.start(object(), Preference.KERNEL)
    assert 'kept' in (tmp_path / 'keys.json').read_text()


def test_files_with_secrets_are_announced_at_the_highest_level(
    started: type[Started], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.setattr(log, 'critical', lambda message, source: said.append(message()))
    lifecycle.start(object(), Preference.KERNEL)
    assert any('EVERY MASTER KEY' in text and str(tmp_path / 'keys.json') in text for text in said)
    assert any('EVERY IKE SA' in text and str(tmp_path / 'ike-keys') in text for text in said)


def test_keys_are_not_logged_unless_the_environment_asks(
    started: type[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('keytable', 'ikekeylog'):
        monkeypatch.setitem(getenv()['ikev2'], name, '')
    assert not lifecycle.start(object(), Preference.KERNEL).secret_files
    assert started.named[0]['key_table'] is None
    assert started.named[0]['ike_key_log'] is None


@pytest.mark.parametrize('name', ['timeline', 'keytable', 'ikekeylog'])
@pytest.mark.parametrize(
    ('path', 'said'),
    [('keys.json', 'say an absolute path'), ('/no/such/folder/file', 'No such file or directory')],
)
def test_file_is_told_with_its_setting_when_it_cannot_be_made(
    name: str, path: str, said: str, started: type[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(getenv()['ikev2'], name, path)
    with pytest.raises(GatekeeperError) as caught:
        lifecycle.start(object(), Preference.KERNEL)
    assert str(caught.value).startswith(f'exabgp.ikev2.{name} is {path!r}')
    assert said in str(caught.value)
    assert started.log.count('start') == started.log.count('stop')


def test_every_patch_is_undone() -> None:
    """The patches can be taken out again: what other tests compare with is upstream."""
    patched = Reactor.reload
    patching.restore()
    try:
        assert Reactor.reload is not patched
    finally:
        install.install()
    assert patching.installed()

"""When the gatekeeper starts, what it is told, and that a refused load changes nothing."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Any

import pytest
from exabgp.bgp.fsm import FSM
from exabgp.environment import getenv
from exabgp.protocol.ip import IP
from exabgp.reactor.loop import Reactor

from gatekeeper.service import Gatekeeper, GatekeeperError
from plugin import lifecycle, patching, plugging, runtime
from plugin.keytable import KeyTable
from plugin.runtime import Runtime
from tcpao.backend import Preference
from tests.plugin.doubles import Daemon
from tests.plugin.peers import free_port
from tests.plugin.texts import SECTION, neighbor

Start = Callable[..., Daemon]


def listening(port: int, **changes: Any) -> str:
    return neighbor(**{'more': f'    passive;\n    listen {port};\n', **changes})


def test_without_a_gated_neighbor_there_is_no_gatekeeper(daemon: Start) -> None:
    one = daemon(neighbor(section=''))
    assert one.begin()
    one.turn()
    assert one.gatekeeper.log == []
    assert runtime.of(one.reactor) is None


def test_it_starts_with_the_first_gated_neighbor_and_guards_before_listen(daemon: Start) -> None:
    port = free_port()
    one = daemon(listening(port))
    assert one.begin()
    assert one.gatekeeper.log[:3] == ['start', 'configure', f'add_listener {port} bound']
    assert [policy.listen_port for policy in one.gatekeeper.policies] == [port]


def test_a_socket_that_listens_already_is_guarded_before_its_neighbors_are(
    daemon: Start,
) -> None:
    port = free_port()
    one = daemon(neighbor(more='    passive;\n'), tcp_bind=[IP.create('127.0.0.1')], tcp_port=port)
    assert one.begin()
    assert one.gatekeeper.log[:3] == ['start', f'add_listener {port} listening', 'configure']
    assert one.gatekeeper.policies[0].listen_port == port


def test_a_reload_brings_the_new_policies_and_listeners(daemon: Start) -> None:
    first, second = free_port(), free_port()
    one = daemon(listening(first))
    assert one.begin()
    del one.gatekeeper.log[:]
    more = f'    passive;\n    listen {second};\n'
    assert one.reload(listening(first) + neighbor(peer='127.0.0.3', more=more))
    assert one.gatekeeper.log == ['configure', f'add_listener {second} bound']
    assert len(one.gatekeeper.policies) == len(one.reactor._peers) == 2


def test_a_reload_can_bring_the_first_gated_neighbor(daemon: Start) -> None:
    one = daemon(neighbor(section=''))
    assert one.begin()
    assert one.reload(neighbor())
    assert one.gatekeeper.log == ['start', 'configure']


def test_a_removed_neighbor_is_no_policy_and_its_listener_is_given_back(daemon: Start) -> None:
    port = free_port()
    one = daemon(listening(port))
    assert one.begin()
    assert one.reload(neighbor(section='', peer='127.0.0.3'))
    one.turn()
    assert one.gatekeeper.policies == []
    assert f'drop_listener {port}' in one.gatekeeper.log


def test_a_load_that_the_gatekeeper_refuses_changes_nothing_and_says_so(daemon: Start) -> None:
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


def test_a_load_that_exabgp_refuses_afterwards_takes_the_policies_back(
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


def test_a_gatekeeper_that_does_not_start_keeps_the_daemon_from_starting(
    daemon: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = daemon(neighbor())

    def starter(reactor: Any, preference: Preference) -> Runtime:
        raise GatekeeperError('this kernel has no TCP-AO')

    monkeypatch.setattr(lifecycle, 'starter', starter)
    assert not one.begin()
    assert 'ikev2: this kernel has no TCP-AO' in str(one.configuration.error)
    assert not one.reactor._peers


def test_a_passive_neighbor_for_which_nothing_listens_is_refused_by_the_daemon(
    daemon: Start,
) -> None:
    one = daemon(neighbor(more='    passive;\n'))
    assert not one.begin()
    assert 'nothing listens for it' in str(one.configuration.error)
    assert one.gatekeeper.log == []


def test_a_listener_that_cannot_be_guarded_does_not_listen(daemon: Start) -> None:
    port = free_port()
    one = daemon(listening(port))
    one.gatekeeper.refuse_listeners = 'ENOMEM'
    one.begin()
    assert not one.reactor._listen_for_neighbors()
    assert not one.reactor.listener._sockets


def test_a_changed_lifetime_reaches_the_gatekeeper_and_no_session_restarts(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    assert one.reload(neighbor(section=SECTION.replace('psk-file', 'lifetime 99; psk-file')))
    assert one.gatekeeper.policies[0].lifetime == 99
    assert one.peer()._teardown is None
    assert one.peer().neighbor['ikev2'].pad.name == 'fqdn r1.lab - fqdn r2.lab'


def test_a_neighbor_that_becomes_gated_restarts(daemon: Start) -> None:
    one = daemon(neighbor(section=''))
    assert one.begin()
    assert one.reload(neighbor())
    assert one.peer()._teardown is not None


def test_a_gated_peer_with_pending_routes_does_not_swallow_a_reload(daemon: Start) -> None:
    """B-3: upstream loses SIGUSR1 while any peer that isn't up has routes to send."""
    one = daemon(neighbor(more='    static { route 10.1.0.0/24 next-hop self; }\n'))
    assert one.begin()
    one.turn()
    assert one.peer().neighbor.rib.outgoing.pending()
    assert not one.reactor._pending_adjribout()
    one.peer().fsm.change(FSM.ESTABLISHED)
    assert one.reactor._pending_adjribout()
    one.peer().fsm.change(FSM.IDLE)


def test_the_reactor_never_sees_our_descriptor(daemon: Start) -> None:
    """It looks descriptors up in a table of its own, and dies of a KeyError."""
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


def test_after_the_end_the_loop_may_still_turn(daemon: Start) -> None:
    one = daemon(neighbor())
    assert one.begin()
    one.reactor.shutdown()
    assert list(one.reactor._wait_for_io(1)) == []


def test_the_files_of_a_run_are_opened_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    started: list[dict[str, Any]] = []

    class Started(Gatekeeper):
        def __init__(self, **named: Any) -> None:
            started.append(named)
            super().__init__(**named)

        def start(self) -> None:
            pass

        def fileno(self) -> int:
            return os.eventfd(0)

    monkeypatch.setattr(lifecycle, 'Gatekeeper', Started)
    environment = getenv()['ikev2']
    for name, value in (
        ('router', 'r1'),
        ('timeline', str(tmp_path / 'timeline.jsonl')),
        ('keytable', str(tmp_path / 'keys.json')),
        ('port', (1500, 14500)),
    ):
        monkeypatch.setitem(environment, name, value)
    running = lifecycle.start(object(), Preference.KERNEL)
    assert isinstance(running.key_table, KeyTable)
    assert started[0]['router'] == 'r1'
    assert started[0]['ike_ports'] == (1500, 14500)
    assert (tmp_path / 'keys.json').read_text() == '[]\n'
    assert (tmp_path / 'keys.json').stat().st_mode & 0o777 == 0o600
    assert (tmp_path / 'timeline.jsonl').exists()


def test_everything_is_put_back() -> None:
    """The patches can be taken out again: what other tests compare with is upstream."""
    patched = Reactor.reload
    patching.restore()
    try:
        assert Reactor.reload is not patched
    finally:
        plugging.install()
    assert patching.installed()
